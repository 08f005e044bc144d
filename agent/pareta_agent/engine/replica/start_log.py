"""Start log: follows a start's log for phases, measures, and the last lines for an exit reason."""

from __future__ import annotations

from pareta_agent.engine.process.log_tail import LogTail
from pareta_agent.engine.replica.start_phases import PhaseClock
from pareta_agent.engine.vllm import log_lines


class StartLog:
    """`reported`: an earlier agent already reported the phases."""

    def __init__(self, tail: LogTail, phases: PhaseClock, *, reported: bool) -> None:
        self.measures = log_lines.StartMeasures()
        self._tail, self._phases, self._reported = tail, phases, reported

    def read(self) -> None:
        """Takes what is new; any line is a sign of life."""
        lines = self._tail.read()
        if not lines:
            return
        self._phases.touch()
        self.measures = log_lines.merge(self.measures, log_lines.measures_of(lines))
        for line in [] if self._reported else lines:
            if phase := log_lines.phase_of(line):
                self._phases.begin(phase)
            elif shards := log_lines.shards_of(line):
                self._phases.progress(*shards, "shards")

    def last_lines(self) -> list[str]:
        self._tail.read_to_end()
        return list(self._tail.last)
