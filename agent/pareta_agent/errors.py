"""What the agent says when it cannot go on: one small tree, each leaf with a stable code and an exit code.

    AgentError
    ├── ConfigError      the operator's input is wrong            exit 2
    ├── NothingFits      no plan on this hardware                 exit 3
    ├── HostError        port, disk, interpreter, permissions     exit 4
    ├── RegistryError    catalog or artifact is wrong or missing  exit 5
    ├── EngineError      the engine did not come up or died       exit 6
    └── PlaneError       the control plane refused or is away     exit 7

An expected "no" inside a decision is a value (`Rejection`), never one of these.
"""

from __future__ import annotations

from typing import ClassVar


class AgentError(Exception):
    """An error a person reads: what happened, and what to do about it.

    `code` is stable and greppable, `remedy` is one imperative sentence or empty.
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
        """The class that ends a command with this code; AgentError itself for an unknown one."""
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
