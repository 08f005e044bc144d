"""Numerics: maps computations with wrong results on this hardware to the setting that avoids each. Pure.

Two sources share a key. The kernel check compares kernels with float32 before anything is served. A canary that was
wrong at a start, and right after a change of a setting, stores that change as a remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pareta_agent.planning.plan import Plan

Op = Literal["attention", "linear"]
CPU: Final = "cpu"
FALLBACK_DTYPE: Final = "float32"
FALLBACK_ATTENTION: Final = "TRITON_ATTN"
FALLBACK_LINEAR: Final = "marlin"
_ATTENTION: Final = "--attention-backend"
_LINEAR: Final = "--linear-backend"
_WEIGHT_ONLY: Final = frozenset({"", "torch", "marlin", "machete", "humming"})


@dataclass(frozen=True, slots=True)
class WrongKernel:
    """A kernel that failed the check. `error` and `limit`: largest deviation over the largest reference value."""

    op: Op
    backend: str
    dtype: str
    case: str
    error: float
    limit: float

    def __str__(self) -> str:
        return f"{self.dtype} {self.op} ({self.backend})"


@dataclass(frozen=True, slots=True)
class Numerics:
    """`device` is this host's processor. `wrong` is the result of the kernel check. `remedies` maps the key of a
    computation with a wrong canary to the setting that corrected the canary.
    """

    device: str = CPU
    wrong: tuple[WrongKernel, ...] = ()
    remedies: Mapping[str, str] = field(default_factory=dict)

    def wrong_dtype(self, dtype: str) -> str | None:
        """The wrong computation against this dtype on the host's processor, such as `bfloat16 attention`, or None."""
        found = next((each for each in self.wrong if each.dtype == dtype and _plain(each)), None)
        if found is not None:
            return f"{dtype} {found.op}"
        known = f"{self.device}|{dtype}|"
        remedied = any(key.startswith(known) and knob == _dtype_knob() for key, knob in self.remedies.items())
        return dtype if remedied else None

    def wrong_format(self, name: str) -> str | None:
        """The reason against weights of this format on this host's GPUs, or None."""
        found = next((each for each in self.wrong if each.op == "linear" and each.backend == name), None)
        return (
            f"the engine's {name} kernel gave wrong results here (`pareta-agent engine check`)"
            if found
            else None
        )

    def corrected(self, plan: Plan, device: str, *, mla: bool = False) -> Plan:
        """The plan with the remedy for its computation on such a GPU.

        `mla`: the model has latent attention, with separate backends that the kernel check does not run.
        """
        if (knob := self.remedies.get(key_of(plan, device))) is not None:
            return turned(plan, knob) or plan
        failed = {each.backend for each in self.wrong if (each.op, each.dtype) == ("attention", plan.dtype)}
        if failed and not mla and FALLBACK_ATTENTION not in failed:
            return turned(plan, f"attention={FALLBACK_ATTENTION}") or plan
        return plan

    def remembering(self, failed: Plan, knob: str, device: str) -> Numerics:
        return replace(self, remedies={**self.remedies, key_of(failed, device): knob})


def gpu_key(name: str | None, capability: tuple[int, int] | None) -> str:
    return f"{name or 'GPU'}|{capability[0]}.{capability[1]}" if capability else name or "GPU"


def key_of(plan: Plan, device: str) -> str:
    """The key of a plan's computation: hardware, dtypes, kernels, and eager or compiled graphs."""
    attention, linear = _flag(plan, _ATTENTION) or "auto", _flag(plan, _LINEAR) or plan.kernel or "auto"
    graphs = "eager" if plan.enforce_eager else "compiled"
    return "|".join((device, plan.dtype, attention, linear, plan.kv_cache_dtype, graphs))


def knobs(plan: Plan, dtypes: frozenset[str] = frozenset()) -> Iterator[str]:
    """The changes to try after a wrong canary, one at a time, the cheapest first.

    - CPU: each other dtype in `dtypes`, which are the dtypes with a plan.
    - GPU: another attention backend, eager mode, weight-only instead of native kernels, a 16-bit KV cache for fp8.
    """
    if plan.platform == "cpu":
        yield from (f"dtype={dtype}" for dtype in sorted(dtypes - {plan.dtype}, reverse=True))
        return
    for knob in (f"attention={FALLBACK_ATTENTION}", "eager", f"linear={FALLBACK_LINEAR}", "kv=auto"):
        if turned(plan, knob) is not None:
            yield knob


def turned(plan: Plan, knob: str) -> Plan | None:
    """The plan with one change and the reason in `workaround`; None if the plan already has the change."""
    name, _, value = knob.partition("=")
    if name == "attention" and _flag(plan, _ATTENTION) is None:
        why = f"the default attention backend gives wrong text on this GPU: {value} is used"
        return replace(plan, flags=(*plan.flags, _ATTENTION, value), workaround=why)
    if name == "eager" and not plan.enforce_eager:
        why = "compiled graphs give wrong text on this GPU: eager mode is used"
        return replace(plan, enforce_eager=True, workaround=why)
    if name == "linear" and _flag(plan, _LINEAR) is None and plan.kernel not in _WEIGHT_ONLY:
        why = f"{plan.kernel} kernels give wrong text on this GPU: weight-only {value} kernels are used"
        return replace(plan, flags=(*plan.flags, _LINEAR, value), workaround=why)
    if name == "kv" and plan.kv_cache_dtype.startswith("fp8"):
        why = f"the {plan.kv_cache_dtype} KV cache gives wrong text on this GPU: 16 bits are used"
        tokens = plan.kv_tokens // 2
        length = min(plan.max_model_len, tokens)
        return replace(plan, kv_cache_dtype=value, kv_tokens=tokens, max_model_len=length, workaround=why)
    return None


def dtype_workaround(what: str, used: str) -> str:
    """The workaround of a CPU plan that avoids the preferred dtype."""
    return f"{what} gives wrong text on this processor: {used} is used"


def _dtype_knob() -> str:
    return f"dtype={FALLBACK_DTYPE}"


def _plain(kernel: WrongKernel) -> bool:
    return kernel.op == "attention" or kernel.backend == "none"


def _flag(plan: Plan, flag: str) -> str | None:
    words = iter(plan.flags)
    return next((next(words, None) for word in words if word == flag), None)
