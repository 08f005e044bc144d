"""The plane's tables, in SQL that SQLite and PostgreSQL both speak."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

orgs = Table(
    "orgs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("balance_micro_usd", BigInteger, nullable=False),
)
# What an org wants of answers that a caller left midway; an org without a row pays nothing for them.
policies = Table(
    "policies",
    metadata,
    Column("org", String(64), primary_key=True),
    Column("partial", String(16), nullable=False),
)
keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("prefix", String(24), nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("endpoints", JSON, nullable=True),
    Column("limits", JSON, nullable=False),
    Column("created_s", BigInteger, nullable=False),
)
endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("task", String(128), nullable=False),
    Column("alias", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("input_micro_usd_per_mtok", BigInteger, nullable=False),
    Column("cached_input_micro_usd_per_mtok", BigInteger, nullable=False),
    Column("output_micro_usd_per_mtok", BigInteger, nullable=False),
    Column("created_s", BigInteger, nullable=False),
)
# What callers of the API said about an endpoint; from then on the settings no longer decide for it. A deleted one
# keeps its row under `endpoints`, for its price and its last usage records, and loses its name.
deployments = Table(
    "deployments",
    metadata,
    Column("endpoint", String(64), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("name", String(64), nullable=True),
    Column("purpose", String(16), nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("org", "name"),
)
# Which revision of the key set took a key away, for nodes that ask what has changed since theirs.
revocations = Table(
    "revocations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
)
# How long an endpoint idles before it may sleep, where its owner said so (0: never).
rests = Table(
    "rests",
    metadata,
    Column("endpoint", String(64), primary_key=True),
    Column("idle_sleep_s", Float, nullable=False),
)
revisions = Table(
    "revisions",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
nodes = Table(
    "nodes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("epoch", BigInteger, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("registered_s", Float, nullable=True),
    Column("heartbeat_s", Float, nullable=True),
    Column("report", JSON, nullable=False),
    Column("observed", JSON, nullable=False),
)
leases = Table(
    "leases",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("org", String(64), primary_key=True),
    Column("remaining_micro_usd", BigInteger, nullable=False),
    Column("expires_s", Float, nullable=False),
)
# What each node was granted of an org's credit in its epoch, for nodes that tell what they heard of it.
grants = Table(
    "grants",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("org", String(64), primary_key=True),
    Column("micro_usd", BigInteger, nullable=False),
)
chains = Table(
    "chains",
    metadata,
    Column("source", String(255), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("node", String(64), nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_hash", String(64), nullable=False),
)
ledger = Table(
    "ledger",
    metadata,
    Column("source", String(255), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("request_id", String(128), nullable=False, unique=True),
    Column("org", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("usage_source", String(16), nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("debit_micro_usd", BigInteger, nullable=False),
    Column("received_s", Float, nullable=False),
)
Index("ledger_received", ledger.c.received_s)
events = Table(
    "events",
    metadata,
    Column("source", String(255), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("type", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    Column("received_s", Float, nullable=False),
)
rejections = Table(
    "rejections",
    metadata,
    Column("source", String(255), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("event", JSON, nullable=False),
    Column("received_s", Float, nullable=False),
)
# How long each request took, beside its ledger row: what money needs is not mixed with what people look at.
timings = Table(
    "timings",
    metadata,
    Column("source", String(255), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("endpoint", String(64), nullable=False),
    Column("first_token_s", Float, nullable=True),
    Column("total_s", Float, nullable=False),
    Column("finished_s", Float, nullable=False),
)
Index("timings_endpoint", timings.c.endpoint, timings.c.finished_s)
standings = Table(
    "standings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("endpoint", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("since_s", Float, nullable=False),
)
Index("standings_endpoint", standings.c.endpoint, standings.c.since_s)
gaps = Table(
    "gaps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("node", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expected_seq", BigInteger, nullable=False),
    Column("reported_seq", BigInteger, nullable=False),
    Column("found_s", Float, nullable=False),
)
