"""Disk budget: measures the spool's own limit, the disk's free space, and a reserve for running requests."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ALARM_RATIO = 0.80
_FULL_RATIO = 0.95
_MEASURE_EVERY_S = 1.0
_REGAIN_AFTER_S = 10.0


class DiskBudget:
    """The writer thread measures; any thread reads."""

    def __init__(self, spool: Path, max_bytes: int, reserve_bytes: int, disk_reserve_bytes: int) -> None:
        self._directory = spool.parent
        self._reserve = spool.with_suffix(".reserve")
        self._reserve_bytes, self._regain_s = reserve_bytes, 0.0
        self._max_bytes, self._disk_reserve_bytes = max_bytes, disk_reserve_bytes
        self._measured_s = float("-inf")
        self._disk_full = False
        self._reserve_spent = not _allocate(self._reserve, reserve_bytes)
        self.used_bytes = 0

    @property
    def used_ratio(self) -> float:
        return self.used_bytes / self._max_bytes

    @property
    def tight(self) -> bool:
        """Past the alarm mark: delivered records may be trimmed early."""
        return self.used_ratio >= ALARM_RATIO or self._disk_full

    @property
    def full(self) -> bool:
        """No new admissions; running requests may still finish."""
        return self.used_ratio >= _FULL_RATIO or self._disk_full or self._reserve_spent

    def due(self, now_s: float) -> bool:
        return now_s - self._measured_s >= _MEASURE_EVERY_S

    def measure(self, used_bytes: int, now_s: float) -> None:
        disk = os.statvfs(self._directory)
        self.used_bytes, self._measured_s = used_bytes, now_s
        self._disk_full = disk.f_bavail * disk.f_frsize < self._disk_reserve_bytes
        if self._reserve_spent:
            self._regain(now_s)

    def give_up_reserve(self) -> None:
        """Frees the preallocated bytes, so that running requests can be recorded; admission stays closed."""
        self._reserve_spent = True
        self._regain_s = self._measured_s + _REGAIN_AFTER_S
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def _regain(self, now_s: float) -> None:
        """Allocates the reserve again once the disk has space, after a delay: running requests come first."""
        if now_s >= self._regain_s and not self._disk_full:
            self._reserve_spent = not _allocate(self._reserve, self._reserve_bytes)
            self._regain_s = now_s + _REGAIN_AFTER_S


def _allocate(path: Path, size_bytes: int) -> bool:
    """Returns True when the file now holds `size_bytes` of real blocks."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
    return True
