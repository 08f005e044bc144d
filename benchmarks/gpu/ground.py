"""What every step of the proof stands on: the engine, the small model, the device, and a fleet to start it with."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cold_start import PLAN as SMALL
from cold_start import Bench

from pareta_agent.hardware.inventory import Inventory
from pareta_agent.planning.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Ground:
    """`weights` is the small real model's directory, `root` a place for files of this step alone."""

    device: str
    python: Path
    version: str
    weights: Path
    root: Path
    inventory: Inventory

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def small(self) -> Plan:
        """The small model on one device, with room for other engines beside it."""
        if not self.cuda:
            return SMALL
        gpu = self.inventory.gpus[0].uuid
        return replace(
            SMALL,
            platform="cuda",
            gpus=((gpu,),),
            gpu_memory_utilization=0.5,
            kv_cache_bytes=None,
            enforce_eager=False,
        )

    def bench(self, standby: int = 0, wanted: Plan | None = None, weights: Path | None = None) -> Bench:
        """A fleet of one endpoint. Without `wanted` and `weights`: the small model, and it must pass its canary."""
        made = Bench(self.root, self.python, self.version, weights or self.weights, standby, untried=True)
        canaries = made.spec.canaries if weights is None else ()
        made.spec = replace(made.spec, plan=wanted or self.small, canaries=canaries)
        return made

    def shapes_folder(self, name: str, config: dict[str, Any]) -> Path:
        """A model directory without weights: this config and the small model's tokenizer."""
        folder = self.root / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        for file in TOKENIZER:
            shutil.copy(self.weights / file, folder / file)
        return folder

    def circumstances(self) -> dict[str, Any]:
        """Date, device, driver, CUDA, vLLM and commit: what makes a result worth keeping."""
        git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        try:
            commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
        except OSError:
            commit = ""
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "device": [gpu.name for gpu in self.inventory.gpus] if self.cuda else ["cpu"],
            "driver": self.inventory.driver,
            "cuda_driver": self.inventory.cuda_driver,
            "vllm": self.version,
            "commit": commit or packed_commit(),
        }


def packed_commit() -> str | None:
    """The commit that `pack.sh` wrote beside the sources, where there is no repository."""
    file = ROOT / "COMMIT"
    return file.read_text().strip() if file.exists() else None
