"""Leases on an org's balance: what a node may spend before the plane has seen the usage.

A lease shrinks with the debits that its node reports, so balance minus leases is what nobody may spend yet.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from pareta_agent.clock import Clock
from pareta_agent.control.wire import CreditLease
from pareta_agent.plane.schema import Database, leases, orgs

LEASE_TTL_S = 120.0


class Credit:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def lease(self, node: str, org: str, wanted_micro_usd: int) -> CreditLease:
        """Sets aside up to what is wanted of what no lease holds yet; 0 when nothing is left."""
        now_s = self._clock.wall_s()
        with self._database.write() as connection:
            connection.execute(leases.delete().where(leases.c.expires_s < now_s))
            # The row stays locked until the commit, or two nodes could be granted the same money.
            owner = select(orgs.c.balance_micro_usd).where(orgs.c.id == org).with_for_update()
            balance = connection.execute(owner).scalar() or 0
            held = select(func.coalesce(func.sum(leases.c.remaining_micro_usd), 0)).where(leases.c.org == org)
            granted = max(0, min(wanted_micro_usd, balance - int(connection.execute(held).scalar_one())))
            if granted:
                _add(connection, node, org, granted, now_s + LEASE_TTL_S)
        return CreditLease(org=org, granted_micro_usd=granted, expires_s=LEASE_TTL_S if granted else 0.0)


def renew(connection: Connection, node: str, now_s: float) -> list[CreditLease]:
    """Extends what the node holds and has not let expire; part of the caller's transaction."""
    live = (leases.c.node == node) & (leases.c.expires_s >= now_s)
    connection.execute(update(leases).where(live).values(expires_s=now_s + LEASE_TTL_S))
    held = connection.execute(select(leases.c.org).where(live)).scalars()
    return [CreditLease(org=org, granted_micro_usd=0, expires_s=LEASE_TTL_S) for org in held]


def drop(connection: Connection, node: str) -> None:
    """A new epoch starts without leases; part of the caller's transaction."""
    connection.execute(leases.delete().where(leases.c.node == node))


def _add(connection: Connection, node: str, org: str, micro_usd: int, expires_s: float) -> None:
    mine = (leases.c.node == node) & (leases.c.org == org)
    more = {"remaining_micro_usd": leases.c.remaining_micro_usd + micro_usd, "expires_s": expires_s}
    if not connection.execute(update(leases).where(mine).values(**more)).rowcount:
        row = {"node": node, "org": org, "remaining_micro_usd": micro_usd, "expires_s": expires_s}
        connection.execute(leases.insert().values(**row))
