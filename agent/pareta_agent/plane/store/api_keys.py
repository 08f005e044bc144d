"""API keys: minted, revoked and introspected; stored as sha256 only. Every method is one transaction or one read."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, select, update
from ulid import ULID

from pareta_agent.clock import Clock
from pareta_agent.contract.wire import KeyAnswer, KeyLimits
from pareta_agent.errors import ConfigError
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.orgs import partial_policies
from pareta_agent.plane.store.revisions import bump, revision_of
from pareta_agent.plane.store.schema import keys, orgs, revocations

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


class Keys:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def mint(self, org: str, only: list[str] | None = None, limits: KeyLimits | None = None) -> MintedKey:
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

    def revoke(self, key_id: str) -> None:
        """Revokes the key; raises ConfigError `key_unknown`."""
        with self._database.write() as connection:
            revoked = update(keys).where(keys.c.id == key_id).values(revoked=True).returning(keys.c.sha256)
            sha256 = connection.execute(revoked).scalar()
            if sha256 is None:
                raise ConfigError("key_unknown", f"there is no key {key_id}", "see `pareta-agent keys ls`")
            bump(connection, "keys")
            revision = revision_of(connection, "keys")
            connection.execute(revocations.insert().values(sha256=sha256, revision=revision))

    def rows(self, org: str | None = None) -> list[KeyRow]:
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


def sha256_hex(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def withdrawn_since(connection: Connection, before: int, now: int) -> list[str] | None:
    """Returns hashes of keys revoked between two revisions; None for too many keys or an unknown `before`."""
    if not 0 < before <= now:
        return None
    query = select(revocations.c.sha256).where(revocations.c.revision > before).limit(_MOST_WITHDRAWN + 1)
    found = list(connection.execute(query).scalars())
    return found if len(found) <= _MOST_WITHDRAWN else None
