"""Desired state: orgs, keys, endpoints, and the revisions by which nodes notice a change.

Every public function is one transaction or one read. Keys are stored as sha256 only.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update
from ulid import ULID

from pareta_agent.clock import Clock
from pareta_agent.control.wire import (
    Desired,
    DesiredEndpoint,
    KeyAnswer,
    KeyLimits,
    WirePrice,
)
from pareta_agent.errors import ConfigError
from pareta_agent.meter.record import PartialPolicy
from pareta_agent.plane.database import Database
from pareta_agent.plane.schema import (
    deployments,
    endpoints,
    keys,
    orgs,
    policies,
    rests,
    revisions,
    revocations,
)

KEY_PREFIX = "pareta_sk_"
_KEY_TTL_S = 60.0
_MOST_WITHDRAWN = 500


@dataclass(frozen=True, slots=True)
class MintedKey:
    """`secret` is returned once and never stored."""

    id: str
    org: str
    secret: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    id: str
    org: str
    prefix: str
    revoked: bool
    endpoints: tuple[str, ...] | None
    limits: KeyLimits
    created_s: int


class PlaneState:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    # orgs and keys

    def ensure_org(self, org: str, balance_micro_usd: int) -> bool:
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

    def org_rows(self) -> list[tuple[str, int]]:
        with self._database.read() as connection:
            return [
                (row.id, row.balance_micro_usd)
                for row in connection.execute(select(orgs).order_by(orgs.c.id))
            ]

    def mint_key(self, org: str, only: list[str] | None = None, limits: KeyLimits | None = None) -> MintedKey:
        """Returns a new key of 256 random bits; only the hash is stored. Raises ConfigError `org_unknown`."""
        minted = MintedKey(f"key_{str(ULID()).lower()}", org, KEY_PREFIX + secrets.token_urlsafe(32))
        with self._database.write() as connection:
            if not connection.execute(select(orgs.c.id).where(orgs.c.id == org)).first():
                raise ConfigError("org_unknown", f"there is no org {org}", "see `pareta-agent org ls`")
            connection.execute(
                keys.insert().values(
                    id=minted.id,
                    org=org,
                    sha256=sha256_hex(minted.secret),
                    prefix=minted.secret[: len(KEY_PREFIX) + 4],
                    revoked=False,
                    endpoints=only,
                    limits=(limits or KeyLimits()).model_dump(),
                    created_s=int(self._clock.wall_s()),
                )
            )
            bump(connection, "keys")
        return minted

    def revoke_key(self, key_id: str) -> None:
        """Revokes the key; raises ConfigError `key_unknown`."""
        with self._database.write() as connection:
            revoked = update(keys).where(keys.c.id == key_id).values(revoked=True).returning(keys.c.sha256)
            sha256 = connection.execute(revoked).scalar()
            if sha256 is None:
                raise ConfigError("key_unknown", f"there is no key {key_id}", "see `pareta-agent keys ls`")
            bump(connection, "keys")
            revision = revision_of(connection, "keys")
            connection.execute(revocations.insert().values(sha256=sha256, revision=revision))

    def key_rows(self, org: str | None = None) -> list[KeyRow]:
        query = select(keys).order_by(keys.c.created_s, keys.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query if org is None else query.where(keys.c.org == org)).all()
        return [
            KeyRow(
                row.id,
                row.org,
                row.prefix,
                row.revoked,
                None if row.endpoints is None else tuple(row.endpoints),
                KeyLimits(**row.limits),
                row.created_s,
            )
            for row in rows
        ]

    def introspect(self, sha256: str) -> KeyAnswer | None:
        """Returns the grant of the key with that hash; None for an unknown key."""
        query = (
            select(keys, orgs.c.balance_micro_usd)
            .join(orgs, orgs.c.id == keys.c.org)
            .where(keys.c.sha256 == sha256)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            partial = partial_policies(connection).get(row.org, "none")
        return KeyAnswer(
            server_time=self._clock.wall_s(),
            org=row.org,
            key_id=row.id,
            state="revoked" if row.revoked else "active" if row.balance_micro_usd > 0 else "no_credit",
            endpoints=row.endpoints,
            limits=KeyLimits(**row.limits),
            partial=partial,
            ttl_s=_KEY_TTL_S,
        )

    # endpoints

    def want(self, wanted: list[DesiredEndpoint]) -> None:
        """Replaces the endpoints of the settings: every other running endpoint is stopped. A repeat changes nothing.

        An endpoint that the owner deployed, started, stopped or deleted stays as the owner left the endpoint.
        """
        with self._database.write() as connection:
            before = _endpoint_rows(connection)
            owned = set(connection.execute(select(deployments.c.endpoint)).scalars())
            for each in (each for each in wanted if each.id not in owned):
                row = {
                    "org": each.org,
                    "task": each.task,
                    "alias": each.alias,
                    "state": each.state,
                    **each.price.model_dump(),
                }
                if each.id in before:
                    connection.execute(update(endpoints).where(endpoints.c.id == each.id).values(**row))
                else:
                    created = {"id": each.id, "created_s": int(self._clock.wall_s())}
                    connection.execute(endpoints.insert().values(**row, **created))
                rest(connection, each.id, each.idle_sleep_s)
            kept = [*owned, *(each.id for each in wanted)]
            connection.execute(update(endpoints).where(endpoints.c.id.not_in(kept)).values(state="stopped"))
            if _endpoint_rows(connection) != before:
                bump(connection, "desired")

    def desired(self) -> Desired:
        with self._database.read() as connection:
            revision = revision_of(connection, "desired")
            rows = _endpoint_rows(connection)
            made = {row.endpoint: row for row in connection.execute(select(deployments))}
        return Desired(
            server_time=self._clock.wall_s(),
            revision=revision,
            endpoints=[
                DesiredEndpoint(
                    **{name: row[name] for name in ("id", "org", "task", "alias", "state", "created_s")},
                    price=WirePrice(**{name: row[name] for name in WirePrice.model_fields}),
                    attempt=made[row["id"]].revision if row["id"] in made else 0,
                    idle_sleep_s=row["idle_sleep_s"],
                    listed=row["id"] not in made or made[row["id"]].purpose == "serve",
                )
                for row in rows.values()
                if row["state"] != "deleted"
            ],
        )

    def revision(self, name: str) -> int:
        with self._database.read() as connection:
            return revision_of(connection, name)


def sha256_hex(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def bump(connection: Connection, name: str) -> None:
    """Increments a revision; part of the caller's transaction."""
    if not connection.execute(
        update(revisions).where(revisions.c.name == name).values(value=revisions.c.value + 1)
    ).rowcount:
        connection.execute(revisions.insert().values(name=name, value=1))


def revision_of(connection: Connection, name: str) -> int:
    return connection.execute(select(revisions.c.value).where(revisions.c.name == name)).scalar() or 0


def withdrawn_since(connection: Connection, before: int, now: int) -> list[str] | None:
    """Returns hashes of keys revoked between two revisions; None for too many keys or an unknown `before`."""
    if not 0 < before <= now:
        return None
    query = select(revocations.c.sha256).where(revocations.c.revision > before).limit(_MOST_WITHDRAWN + 1)
    found = list(connection.execute(query).scalars())
    return found if len(found) <= _MOST_WITHDRAWN else None


def partial_policies(connection: Connection) -> dict[str, PartialPolicy]:
    """Returns the policy for partial answers by org; an absent org pays nothing for partial answers."""
    return {row.org: row.partial for row in connection.execute(select(policies))}


def rest(connection: Connection, endpoint: str, idle_sleep_s: float | None) -> None:
    """Sets the endpoint's idle timeout; None removes the timeout."""
    connection.execute(delete(rests).where(rests.c.endpoint == endpoint))
    if idle_sleep_s is not None:
        connection.execute(rests.insert().values(endpoint=endpoint, idle_sleep_s=idle_sleep_s))


def _endpoint_rows(connection: Connection) -> dict[str, dict[str, Any]]:
    query = select(endpoints, rests.c.idle_sleep_s).outerjoin(rests, rests.c.endpoint == endpoints.c.id)
    return {row.id: dict(row._mapping) for row in connection.execute(query.order_by(endpoints.c.id))}
