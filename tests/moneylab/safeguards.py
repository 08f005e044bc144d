"""The safeguards that the suite must miss: each a line of the package, what it becomes, and who must notice."""

from __future__ import annotations

from dataclasses import dataclass

DISK, WIRE = "tests/faults/test_money_disk.py", "tests/faults/test_money_wire.py"
KILLS, SPOOL = "tests/faults/test_money_kills.py", "tests/unit/agent/meter/test_spool.py"
LEDGER, ACCESS = "tests/unit/agent/plane/store/test_ledger.py", "tests/unit/agent/access"
PLANE, DATABASE = "tests/unit/agent/plane", "tests/unit/agent/plane/store/test_database.py"
FRONT = "tests/integration/test_front/test_completions.py"
HEART, SOCKETS = "tests/unit/agent/control/test_heartbeat.py", "tests/integration/test_wire.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """`without` says which safeguard is gone; `tests` are those that must notice."""

    without: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    slow: bool = False  # its tests need PostgreSQL


MUTANTS = (
    Mutant("syncing the spool", "meter/sqlite_store.py", "synchronous=FULL", "synchronous=OFF", (DISK,)),
    Mutant(
        "waiting for the commit",
        "meter/spool.py",
        "self._queue.put((record, future), urgent=True)",
        "self._queue.put((record, future), urgent=True), future.set_result(None)",
        (DISK, KILLS),
    ),
    Mutant(
        "the lock", "meter/spool_lock.py", "lock.try_acquire()", "lock.try_acquire(exclusive=False)", (SPOOL,)
    ),
    Mutant(
        "the spool's transaction",
        "meter/sqlite_store.py",
        '"BEGIN IMMEDIATE")\n        try:\n            yield\n            self._writer.execute("COMMIT")',
        '"SELECT 1")\n        try:\n            yield\n            self._writer.execute("SELECT 1")',
        (DISK, KILLS),
    ),
    Mutant(
        "noting open requests",
        "meter/chain.py",
        "self._store.add_admitted(opened)",
        "pass",
        (SPOOL,),
    ),
    Mutant(
        "closing what a crash left open once",
        "meter/chain.py",
        "            self._store.drop_admitted([admission.request_id for admission in left])",
        "            pass",
        (KILLS,),
    ),
    Mutant(
        "stopping for good after a failed sync",
        "meter/writer.py",
        "            self.error = error\n",
        "            pass\n",
        (DISK,),
    ),
    Mutant(
        "the ack's hash",
        "meter/chain.py",
        "self._store.hash_of(epoch, sequence) != digest",
        "False",
        (SPOOL, WIRE),
    ),
    Mutant("mending at open", "meter/chain.py", "self._mend(epoch, now_s)", "pass", (DISK,)),
    Mutant(
        "the new epoch",
        "meter/chain.py",
        "if epoch <= max(self.last, default=0):",
        "if False:",
        (SPOOL, HEART),
    ),
    Mutant(
        "the node's name in the spool",
        "meter/sqlite_store.py",
        'if meta["node"] != node:',
        "if False:",
        (DISK,),
    ),
    Mutant(
        "dedupe by identity",
        "plane/store/ledger.py",
        "if pair[0].sequence > last]",
        "]",
        (LEDGER, WIRE),
    ),
    Mutant(
        "dedupe by request",
        "plane/store/ledger_rows.py",
        "if usage.request_id in seen:",
        "if False:",
        (LEDGER,),
    ),
    Mutant("order", "plane/store/ledger.py", "if entry.sequence != reached + 1:", "if False:", (LEDGER,)),
    Mutant(
        "the chain's check",
        "plane/store/ledger.py",
        "not (entry.intact or _tombstone(event))",
        "False",
        (LEDGER,),
    ),
    Mutant(
        "the ledger's transaction",
        "plane/store/database.py",
        "with self.engine.begin() as connection:",
        'with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:',
        (LEDGER,),
    ),
    Mutant(
        "debiting completed calls only",
        "plane/store/ledger_rows.py",
        'costs = debited(usage.outcome, usage.usage_source, partial.get(usage.org, "none"))',
        "costs = True",
        (LEDGER,),
    ),
    Mutant(
        "fencing",
        "plane/store/nodes.py",
        "if row.epoch != beat.epoch:",
        "if False:",
        ("tests/unit/agent/plane",),
    ),
    Mutant(
        "holding what is leased",
        "plane/store/credit_store.py",
        "balance - int(",
        "balance - 0 * int(",
        (SOCKETS,),
    ),
    Mutant(
        "keeping what was used out of the lease",
        "access/credit.py",
        "account.lease.room_micro_usd -= used_micro_usd",
        "pass",
        (ACCESS,),
    ),
    Mutant(
        "rewinding", "control/uplink.py", "await self._spool.rewind(epoch, expected)", "expected", (WIRE,)
    ),
    Mutant(
        "rewinding at registration",
        "control/heartbeat.py",
        "                    await self._rewind(epoch, expected)",
        "                    pass",
        (WIRE,),
    ),
    Mutant(
        "syncing the ledger",
        "plane/store/database.py",
        '"synchronous=FULL"',
        '"synchronous=OFF"',
        (DATABASE,),
    ),
    Mutant("the ledger's lock", "plane/store/database.py", '"BEGIN IMMEDIATE"', '"BEGIN"', (DATABASE,)),
    Mutant(
        "locking a chain while it grows",
        "plane/store/ledger.py",
        "select(chains).where(mine).with_for_update()",
        "select(chains).where(mine)",
        (LEDGER,),
        slow=True,
    ),
    Mutant(
        "locking a balance while it is leased",
        "plane/store/credit_store.py",
        ".where(orgs.c.id == org).with_for_update()",
        ".where(orgs.c.id == org)",
        (LEDGER,),
        slow=True,
    ),
    Mutant(
        "locking a node while it registers",
        "plane/store/nodes.py",
        "select(nodes.c.epoch).where(nodes.c.id == request.node).with_for_update()",
        "select(nodes.c.epoch).where(nodes.c.id == request.node)",
        (PLANE,),
        slow=True,
    ),
    Mutant(
        "dedupe within a batch", "plane/store/ledger.py", 'seen.add(row["request_id"])', "pass", (LEDGER,)
    ),
    Mutant(
        "the ledger's own constraint",
        "plane/store/schema.py",
        'Column("request_id", String(128), nullable=False, unique=True)',
        'Column("request_id", String(128), nullable=False)',
        (LEDGER,),
    ),
    Mutant(
        "noting a gap once",
        "plane/store/nodes.py",
        "not connection.execute(select(gaps.c.id).where(known)).first()",
        "True",
        (PLANE,),
    ),
    Mutant(
        "an epoch's leases ending with it",
        "plane/store/nodes.py",
        "            credit_store.drop(connection, request.node)\n",
        "",
        (PLANE,),
    ),
    Mutant(
        "undoing the state of a write that failed",
        "meter/chain.py",
        "            self.head, self.last, self.acked, self.staged, self.quarantined = before\n",
        "",
        (DISK,),
    ),
    Mutant(
        "acks that only grow",
        "meter/chain.py",
        "if sequence > self.acked[epoch]:",
        "if True:",
        (SPOOL,),
    ),
    Mutant("the reader's lock", "meter/reader.py", "threading.Lock()", "threading.Semaphore(99)", (SPOOL,)),
    Mutant("settling a reservation once", "access/credit.py", "if reservation.open:", "if True:", (ACCESS,)),
    Mutant(
        "forgetting a withdrawn key",
        "access/keys.py",
        "if digest.hex() not in withdrawn and",
        "if",
        (ACCESS,),
    ),
    Mutant(
        "forgetting every key at a strange revision",
        "plane/store/api_keys.py",
        "if not 0 < before <= now:",
        "if False:",
        (PLANE,),
    ),
    Mutant("leaving a limit once", "access/limits.py", "if not permit.open:", "if False:", (ACCESS,)),
    Mutant(
        "the record before the last bytes",
        "gateway/downstream/exchange.py",
        "durable.add_done_callback(self._say_success)",
        "(saved := asyncio.get_running_loop().create_future()).set_result(None), self._say_success(saved)",
        (FRONT,),
    ),
    Mutant(
        "the lease's clock",
        "control/heartbeat.py",
        "renewed_boot_s=sent_boot_s,",
        "renewed_boot_s=self._clock.boot_s(),",
        (HEART,),
    ),
)
