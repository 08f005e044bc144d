"""Early signals: records SIGINT and SIGTERM while modules are imported; the event loop obeys the record once it runs.

Python's own SIGINT handler raises KeyboardInterrupt wherever the interpreter is. Inside a weakref callback, such as
those of the import locks, that exception is printed and forgotten, and the program starts as if nobody had interrupted
it. This module therefore stands first, and imports only what the interpreter has imported before any program runs.
"""

import _signal  # type: ignore[import-not-found]  # built in: `signal` would import others
import os
import sys

_NUMBERS = (_signal.SIGINT, _signal.SIGTERM)
_caught: list[int] = []


def hold_for_server() -> None:
    """Records from here on if the command line starts a server; every other command keeps Python's handlers."""
    if "serve" in sys.argv[1:3]:
        hold()


def hold() -> None:
    """Records the first signal; the second one ends the process at once, for nothing was started yet."""
    for number in _NUMBERS:
        _signal.signal(number, _record)


def take() -> bool:
    """Whether a signal was recorded; the record is empty afterwards. Called once the loop has handlers of its own."""
    caught = bool(_caught)
    _caught.clear()
    return caught


def _record(number: int, _frame: object) -> None:
    if _caught:
        os._exit(128 + number)
    _caught.append(number)
