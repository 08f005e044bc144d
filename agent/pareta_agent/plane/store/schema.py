"""Plane schema: the tables, in SQL for both SQLite and PostgreSQL."""

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
# The org's policy for partial answers; an org without a row pays nothing for partial answers.
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
# Endpoints under an owner's command, out of reach of the settings. A deleted endpoint keeps the row in `endpoints`
# (price and last usage records need the row) and loses the name.
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
# The key-set revision that revoked each key, so that a node receives only the changes since its own revision.
revocations = Table(
    "revocations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
)
# The owner's idle timeout of an endpoint in seconds (0: never).
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
# Credit granted to each node in the present epoch, for nodes that report the grants received.
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
# Times of each request, beside the ledger row: metrics stay apart from money.
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
