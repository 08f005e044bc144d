"""A private catalog made as a publisher makes one: with `pareta-registry`, from a tiny checkpoint."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

import pareta_registry
from pareta_registry.catalog import Task
from pareta_registry.cli.main import app

TASKS = Path(__file__).parent / "data" / "catalog" / "tasks.yaml"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 2,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


def registry(*argv: str) -> str:
    """What `pareta-registry` prints, here and in a thread: a process of its own would cost a second each time."""
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(CliRunner().invoke, app, argv).result(60)
    assert done.exit_code == 0, (done.stderr, done.exception)
    return done.stdout


def checkpoint(directory: Path) -> Path:
    """A Hugging Face directory with every file that an import wants, a few kilobytes in all."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})
    )
    save_file({"model.embed_tokens.weight": np.zeros((256, 64), np.float16)}, directory / "model.safetensors")
    return directory


def catalog(root: Path, task: str = "secret-task", model: str = "tiny") -> Path:
    """A catalog of one task whose model's artifact lies under `root`."""
    artifact, documents = root / "artifact", root / "catalog"
    registry("import", str(checkpoint(root / "checkpoint")), str(artifact))
    registry("init", str(documents))
    for stale in documents.rglob("*.yaml"):
        stale.unlink()
    registry("add", str(artifact), str(documents), "--id", model, "--license", "Apache-2.0")
    (documents / "task.yaml").write_text(
        f"kind: task\nid: {task}\ntitle: A task\naliases:\n  - id: alias-1\n    model: {model}\nrecommended: alias-1\n"
    )
    return documents


def sixteen_tasks() -> list[Task]:
    """A catalog's worth of tasks, all on the demo's model."""
    return [Task.model_validate(document) for document in yaml.safe_load_all(TASKS.read_text())]


def sixteen(root: Path) -> Path:
    """A catalog directory of those tasks and the demo's model."""
    root.mkdir()
    demo = Path(pareta_registry.__file__).parent / "demo" / "models.yaml"
    for document in (TASKS, demo):
        (root / document.name).write_text(document.read_text())
    return root
