"""What must be true of the money, judged from outside: what clients saw against what the plane ledgered."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import func, select

from pareta_agent.contract.grant import TokenPrice
from pareta_agent.contract.price import cost_micro_usd
from pareta_agent.meter.chain_check import verify
from pareta_agent.meter.reader import SpoolReader
from pareta_agent.plane.seed import SeedEndpoint
from pareta_agent.plane.store.database import Database
from pareta_agent.plane.store.schema import gaps, ledger, orgs, rejections


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts; `sound` says whether the claim holds. `unseen` were debited though death cut the last byte off."""

    sent: int
    completions_seen: int
    rows: int
    lost: int
    double: int
    wrong_amount: int
    from_nowhere: int
    unseen: int
    never_durable: int
    crashed: int
    rejected: int
    gaps: int
    flaws: int
    left_open: int
    undelivered: int
    balance_off_micro_usd: int

    @property
    def sound(self) -> bool:
        wrong = (
            self.lost,
            self.double,
            self.wrong_amount,
            self.from_nowhere,
            self.rejected,
            self.gaps,
            self.flaws,
        )
        return not any((*wrong, self.left_open, self.undelivered, self.balance_off_micro_usd))

    def as_dict(self) -> dict[str, int | bool]:
        return {**asdict(self), "sound": self.sound}


def judge(seen: Path, spool: Path, database: Database, org: str, balance_micro_usd: int) -> Verdict:
    """`balance_micro_usd` is what the org began with."""
    lines = [line.split() for line in seen.read_text().splitlines()]
    sent = {line[1] for line in lines if line[0] == "sent"}
    done = {line[1]: int(line[2]) for line in lines if line[0] == "done"}
    with database.read() as connection:
        rows = connection.execute(select(ledger)).all()
        left = connection.execute(select(orgs.c.balance_micro_usd).where(orgs.c.id == org)).scalar_one()
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (rejections, gaps)
        ]
    reader = SpoolReader(spool)
    try:
        flaws = sum(1 for _ in verify(reader.every()))
        open_requests, undelivered = reader.open_requests(), reader.undelivered()
    finally:
        reader.close()
    completed = {row.request_id: row for row in rows if row.outcome == "completed"}
    price = TokenPrice(**SeedEndpoint(id="", task="", alias="").price.model_dump())
    wrong = [
        row
        for row in rows
        if row.debit_micro_usd
        != (
            cost_micro_usd(price, row.input_tokens, row.cached_tokens, row.output_tokens)
            if row.outcome == "completed"
            else 0
        )
        or done.get(row.request_id, row.output_tokens) != row.output_tokens
    ]
    return Verdict(
        sent=len(sent),
        completions_seen=len(done),
        rows=len(rows),
        lost=len(done.keys() - completed.keys()),
        double=len(rows) - len({row.request_id for row in rows}),
        wrong_amount=len(wrong),
        from_nowhere=len({row.request_id for row in rows} - sent),
        unseen=len(completed.keys() - done.keys()),
        never_durable=len(sent - {row.request_id for row in rows}),
        crashed=sum(row.outcome == "agent_crash" for row in rows),
        rejected=counts[0],
        gaps=counts[1],
        flaws=flaws,
        left_open=open_requests,
        undelivered=undelivered,
        balance_off_micro_usd=balance_micro_usd - sum(row.debit_micro_usd for row in rows) - left,
    )
