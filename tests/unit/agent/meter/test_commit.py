"""Spool commit: the contents of one transaction."""

from pareta_agent.contract.usage_record import Admission, Outcome, UsageRecord
from pareta_agent.meter.commit import Commit, Operation


def admitted(request_id, t_admit_wall_s):
    return Admission(request_id, "org", "key", "ep", "task", "alias", "/v1/x", False, t_admit_wall_s)


def test_a_young_admission_waits_for_its_own_record():
    """A young admission is postponed while records are written, since most requests end first."""
    batch = Commit(admissions=[admitted("old", 0.0), admitted("young", 9.0), admitted("ended", 9.0)])
    batch.records = [(UsageRecord(admitted("ended", 9.0), Outcome.COMPLETED, "none"), None)]
    assert [each.request_id for each in batch.postpone(10.0, 5.0)] == ["young"]
    assert [each.request_id for each in batch.admissions] == ["old", "ended"]


def test_no_admission_waits_where_all_is_to_be_written():
    """No admission waits for a flush, without records, or after the clock was set back."""
    young = admitted("young", 9.0)
    record = (UsageRecord(admitted("ended", 9.0), Outcome.COMPLETED, "none"), None)
    alone = Commit(admissions=[young])
    flushed = Commit(admissions=[young], records=[record], calls=[Operation(lambda: None, None)])
    early = Commit(admissions=[young], records=[record])
    assert (alone.postpone(10.0, 5.0), flushed.postpone(10.0, 5.0), early.postpone(8.0, 5.0)) == ([], [], [])
