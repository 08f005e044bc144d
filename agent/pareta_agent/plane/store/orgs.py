"""Orgs: balances, and the policy for partial answers. Every method is one transaction or one read."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from pareta_agent.contract.usage_record import PartialPolicy
from pareta_agent.errors import ConfigError
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.revisions import bump
from pareta_agent.plane.store.schema import orgs, policies


class Orgs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure(self, org: str, balance_micro_usd: int) -> bool:
        """Creates the org with that balance; False when the org exists."""
        with self._database.write() as connection:
            if connection.execute(select(orgs.c.id).where(orgs.c.id == org)).first():
                return False
            connection.execute(orgs.insert().values(id=org, balance_micro_usd=balance_micro_usd))
            return True

    def balance(self, org: str) -> int | None:
        with self._database.read() as connection:
            return connection.execute(select(orgs.c.balance_micro_usd).where(orgs.c.id == org)).scalar()

    def top_up(self, org: str, micro_usd: int) -> int:
        """Adds to the balance and returns the sum; raises ConfigError `org_unknown`."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(orgs)
                .where(orgs.c.id == org)
                .values(balance_micro_usd=orgs.c.balance_micro_usd + micro_usd)
                .returning(orgs.c.balance_micro_usd)
            ).scalar()
            if changed is None:
                raise ConfigError("org_unknown", f"there is no org {org}", "see `pareta-agent org ls`")
            bump(connection, "keys")
            return int(changed)

    def set_partial(self, org: str, partial: PartialPolicy) -> None:
        """Sets the org's policy for partial answers. Raises ConfigError `org_unknown`."""
        with self._database.write() as connection:
            if not connection.execute(select(orgs.c.id).where(orgs.c.id == org)).first():
                raise ConfigError("org_unknown", f"there is no org {org}", "see `pareta-agent org ls`")
            if not connection.execute(
                update(policies).where(policies.c.org == org).values(partial=partial)
            ).rowcount:
                connection.execute(policies.insert().values(org=org, partial=partial))
            bump(connection, "keys")

    def partial(self, org: str) -> PartialPolicy:
        with self._database.read() as connection:
            return partial_policies(connection).get(org, "none")

    def rows(self) -> list[tuple[str, int]]:
        with self._database.read() as connection:
            return [
                (row.id, row.balance_micro_usd)
                for row in connection.execute(select(orgs).order_by(orgs.c.id))
            ]


def partial_policies(connection: Connection) -> dict[str, PartialPolicy]:
    """Returns the policy for partial answers by org; an absent org pays nothing for partial answers."""
    return {row.org: row.partial for row in connection.execute(select(policies))}
