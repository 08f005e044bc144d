"""Errors of the agent: one tree, in which each leaf has an exit code and each error a stable code.

    AgentError
    ├── ConfigError      a setting or an argument is wrong        exit 2
    ├── NothingFits      no plan fits this hardware               exit 3
    ├── HostError        port, disk, interpreter, permissions     exit 4
    ├── RegistryError    catalog or artifact is wrong or missing  exit 5
    ├── EngineError      an engine did not start, or ended        exit 6
    └── PlaneError       the plane refused or is unreachable      exit 7

An expected "no" inside a decision is a value (`Rejection`), never an exception.
"""

from __future__ import annotations

from typing import ClassVar


class AgentError(Exception):
    """An error for an operator: `message` is the event with its values, `remedy` an imperative sentence or empty.

    `code` is stable.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    @staticmethod
    def of_exit(exit_code: int) -> type[AgentError]:
        """The class that ends a command with this exit code; AgentError for an unknown exit code."""
        return next((c for c in AgentError.__subclasses__() if c.exit_code == exit_code), AgentError)

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" + (f"\n  try: {self.remedy}" if self.remedy else "")


class ConfigError(AgentError):
    exit_code = 2


class NothingFits(AgentError):
    exit_code = 3


class HostError(AgentError):
    exit_code = 4


class RegistryError(AgentError):
    exit_code = 5


class EngineError(AgentError):
    exit_code = 6
    retryable = True


class PlaneError(AgentError):
    exit_code = 7
    retryable = True
