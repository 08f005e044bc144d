"""Credit lease: sets aside a part of an org's balance for one node.

A lease shrinks with the debits that the node reports, so balance minus leases is the amount left for new leases.
"""

from __future__ import annotations

from sqlalchemy import Connection, case, func, select, update

from pareta_agent.clock import Clock
from pareta_agent.contract.wire import CreditLease
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.schema import grants, leases, orgs

LEASE_TTL_S = 120.0


class Credit:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def lease(
        self, node: str, org: str, wanted_micro_usd: int, heard_micro_usd: int | None = None
    ) -> CreditLease:
        """Grants up to `wanted_micro_usd` of the balance that no lease holds; 0 when nothing is left.

        `heard_micro_usd` is the sum of earlier grants that the node received; None: all grants arrived.
        """
        now_s = self._clock.wall_s()
        with self._database.write() as connection:
            # The org's row stays locked until the commit, or two nodes could receive the same money. Next come the
            # leases of this org alone: debits take the locks in the same order.
            owner = select(orgs.c.balance_micro_usd).where(orgs.c.id == org).with_for_update()
            balance = connection.execute(owner).scalar() or 0
            connection.execute(leases.delete().where((leases.c.org == org) & (leases.c.expires_s < now_s)))
            if heard_micro_usd is not None:
                _correct(connection, node, org, heard_micro_usd)
            held = select(func.coalesce(func.sum(leases.c.remaining_micro_usd), 0)).where(leases.c.org == org)
            granted = max(0, min(wanted_micro_usd, balance - int(connection.execute(held).scalar_one())))
            if granted:
                _add(connection, node, org, granted, now_s + LEASE_TTL_S)
            if heard_micro_usd is not None:
                _record_grant(connection, node, org, heard_micro_usd + granted)
        return CreditLease(org=org, granted_micro_usd=granted, expires_s=LEASE_TTL_S if granted else 0.0)


def renew(connection: Connection, node: str, now_s: float) -> list[CreditLease]:
    """Extends the node's leases that have not expired; part of the caller's transaction."""
    live = (leases.c.node == node) & (leases.c.expires_s >= now_s)
    connection.execute(update(leases).where(live).values(expires_s=now_s + LEASE_TTL_S))
    held = connection.execute(select(leases.c.org).where(live)).scalars()
    return [CreditLease(org=org, granted_micro_usd=0, expires_s=LEASE_TTL_S) for org in held]


def drop(connection: Connection, node: str) -> None:
    """Removes the node's leases at the start of a new epoch; part of the caller's transaction."""
    connection.execute(leases.delete().where(leases.c.node == node))


def _correct(connection: Connection, node: str, org: str, heard_micro_usd: int) -> None:
    """Takes grants that the node never received out of the node's lease."""
    mine = (grants.c.node == node) & (grants.c.org == org)
    granted = connection.execute(select(grants.c.micro_usd).where(mine)).scalar()
    if granted not in (None, heard_micro_usd):
        left = leases.c.remaining_micro_usd + (heard_micro_usd - granted)
        lease = update(leases).where((leases.c.node == node) & (leases.c.org == org))
        connection.execute(lease.values(remaining_micro_usd=case((left > 0, left), else_=0)))


def _record_grant(connection: Connection, node: str, org: str, micro_usd: int) -> None:
    mine = (grants.c.node == node) & (grants.c.org == org)
    if not connection.execute(update(grants).where(mine).values(micro_usd=micro_usd)).rowcount:
        connection.execute(grants.insert().values(node=node, org=org, micro_usd=micro_usd))


def _add(connection: Connection, node: str, org: str, micro_usd: int, expires_s: float) -> None:
    mine = (leases.c.node == node) & (leases.c.org == org)
    more = {"remaining_micro_usd": leases.c.remaining_micro_usd + micro_usd, "expires_s": expires_s}
    if not connection.execute(update(leases).where(mine).values(**more)).rowcount:
        row = {"node": node, "org": org, "remaining_micro_usd": micro_usd, "expires_s": expires_s}
        connection.execute(leases.insert().values(**row))
