"""Eval tables: the tables of evals, beside the plane's. Results of a run are not stored, but calculated from the
answers.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Table, Text

from pareta_agent.plane.store.schema import metadata

sets = Table(
    "eval_sets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("org", String(64), nullable=False, index=True),
    Column("task", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("scorer", String(64), nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("created_s", BigInteger, nullable=False),
)
rows = Table(
    "eval_rows",
    metadata,
    Column("set_id", String(64), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("body", JSON, nullable=False),
)
blobs = Table(
    "eval_blobs",
    metadata,
    Column("set_id", String(64), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("field", String(64), primary_key=True),
    Column("mime", String(128), nullable=False),
    Column("content", LargeBinary, nullable=False),
)
# A document that is uploaded by a URL of its own; `content` is set after the upload.
uploads = Table(
    "eval_uploads",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("set_id", String(64), nullable=False),
    Column("place", Integer, nullable=False),
    Column("field", String(64), nullable=False),
    Column("mime", String(128), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("content", LargeBinary, nullable=True),
)
runs = Table(
    "eval_runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("org", String(64), nullable=False, index=True),
    Column("set_id", String(64), nullable=False),
    Column("task", String(128), nullable=False),
    Column("status", String(16), nullable=False),
    Column("error", Text, nullable=True),
    Column("created_s", Float, nullable=False),
    Column("ended_s", Float, nullable=True),
)
# `endpoint` serves an open model, `ours` if the run deployed the endpoint; `key_id` is the run's own key there.
candidates = Table(
    "eval_candidates",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("model", String(128), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("done", Boolean, nullable=False),
    Column("error", Text, nullable=True),
    Column("endpoint", String(64), nullable=True),
    Column("ours", Boolean, nullable=False),
    Column("key_id", String(64), nullable=True),
)
# One row for each answered row. The cost is in the ledger, under the request id.
answers = Table(
    "eval_answers",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("candidate", Integer, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("score", Float, nullable=True),
    Column("error", Text, nullable=True),
    Column("latency_s", Float, nullable=False),
    Column("request_id", String(128), nullable=False),
)
