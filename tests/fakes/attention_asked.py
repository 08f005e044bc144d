"""A program for the engine's interpreter: which attention backends vLLM's own rules allow, by compute capability.

Run as `python attention_asked.py FOLDER_OF_ENGINE_PROBE 7.5 9.0 …`; the last line is JSON, each capability asked in a
child of its own. A CPU build lacks the packages of the kernels: stand-ins that can be imported take their place, so
that what is asked are the rules alone.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

sys.path.insert(0, sys.argv[1])

import engine_probe

LACKING = ("flashinfer", "vllm.vllm_flash_attn", "vllm._flashmla", "vllm.third_party.flash")
ASKED = [(head, kv, sinks) for head in (64, 80, 128, 256) for kv in (None, "fp8") for sinks in (False, True)]


class StandIn(ModuleType):
    """Has whatever is imported from it: a class by a capital, else a function that says yes."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[:1].isupper() else lambda *_, **__: True


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name.startswith(LACKING) else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class Silent:
    """A model's configuration that says nothing of what is asked."""

    quantization_config = None

    def __getattr__(self, _name: str) -> None:
        return None


def backends(major: int, minor: int) -> list[list[str]]:
    """For each question, the backends that are allowed, the first choice first."""
    engine_probe.fake(major, minor)
    torch, config = import_module("torch"), import_module("vllm.config")
    selector = import_module("vllm.v1.attention.selector")
    platform = import_module("vllm.platforms").current_platform
    silent = config.VllmConfig()
    silent.model_config = Silent()
    answers = []
    with config.set_current_vllm_config(silent):
        for head, kv, sinks in ASKED:
            dtype = torch.bfloat16 if major >= 8 else torch.float16
            asked = selector.AttentionSelectorConfig(head, dtype, kv, None, has_sink=sinks)
            valid, _ = platform.get_valid_backends(platform.get_device_capability(), asked)
            answers.append([candidate.backend.name for candidate in valid])
    return answers


def main() -> None:
    sys.meta_path.insert(0, Finder())
    for name in engine_probe.ASKED:
        import_module(name)
    for name in [
        n for n in sys.modules if n.startswith(("vllm.v1.attention.backends", "vllm.vllm_flash_attn"))
    ]:
        del sys.modules[name]  # they found no CUDA when they were imported
    answers = {}
    for text in sys.argv[2:]:
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            os.dup2(2, 1)
            with os.fdopen(writer, "w") as out:
                json.dump(backends(*map(int, text.split("."))), out)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            answers[text] = json.load(told)
        os.waitpid(pid, 0)
    print(json.dumps({"asked": ASKED, "answers": answers}))


if __name__ == "__main__":
    main()
