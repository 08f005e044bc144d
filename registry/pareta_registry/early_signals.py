"""Early signals: records SIGINT and SIGTERM during imports; the event loop obeys the record once it runs.

Python's own SIGINT handler raises KeyboardInterrupt anywhere. Inside a weakref callback, such as those of the import
locks, the exception is printed and dropped, and the program starts as if not interrupted. This module is therefore
imported first, and imports only modules that the interpreter has imported before any program runs.
"""

import _signal  # type: ignore[import-not-found]  # built in: `signal` would import others
import os
import sys

_NUMBERS = (_signal.SIGINT, _signal.SIGTERM)
_caught: list[int] = []


def hold_for_server() -> None:
    """Records signals from here on if the command line starts a server; every other command keeps Python's handlers."""
    if "serve" in sys.argv[1:3]:
        hold()


def hold() -> None:
    """Records the first signal; the second ends the process at once, because nothing was started yet."""
    for number in _NUMBERS:
        _signal.signal(number, _record)


def take() -> bool:
    """True if a signal was recorded; clears the record. Called once the loop has handlers of its own."""
    caught = bool(_caught)
    _caught.clear()
    return caught


def _record(number: int, _frame: object) -> None:
    if _caught:
        os._exit(128 + number)
    _caught.append(number)
