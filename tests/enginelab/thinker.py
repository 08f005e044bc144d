"""The demo's model with the manners of Qwen3: it calls tools, and thinks before it speaks where a caller wants it to.

Its weights know nothing of that. Two tokens that it never met are named <think> and </think>; the template opens the
first one, and a budget of thoughts has the engine write the second. What it calls, a grammar says.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import yaml

from pareta_agent.weights.settings import WeightsSettings
from pareta_agent.weights.store import WeightsStore
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.load import builtin_catalog

TOKENS = {"<repo_name>": "<think>", "<reponame>": "</think>"}
OPENS = "{% if add_generation_prompt and enable_thinking %}{{ '<think>\nThe user asks' }}{% endif %}"
ENGINE = {
    "default_chat_template_kwargs": {"enable_thinking": False},
    "enable_auto_tool_choice": True,
    "reasoning_parser": "qwen3",
    "tool_call_parser": "hermes",
}


def catalog(root: Path) -> Path:
    """A catalog under `root` whose one task is the demo's, answered by this model."""
    model = builtin_catalog().models[0]
    cache = Path(os.environ.get("PARETA_CACHE", "~/.cache/pareta")).expanduser()
    store = WeightsStore(WeightsSettings(root / "weights", cache / "artifacts"))
    plain = asyncio.run(store.fetch(model.variants[0], lambda _: None))
    imported = import_checkpoint(str(_teach(plain, root / "checkpoint")), root / "artifact")
    written = [
        {"kind": document.kind} | document.model_dump(mode="json", exclude_defaults=True)
        for document in (*builtin_catalog().tasks, model)
    ]
    for alias in (alias for document in written[:-1] for alias in document["aliases"]):
        alias.pop("engine", None)  # the demo's own tool parser
    written[-1] |= {"variants": imported["variants"], "engine": {**model.engine, **ENGINE}}
    documents = root / "catalog"
    documents.mkdir()
    (documents / "all.yaml").write_text(yaml.safe_dump(written))
    return documents


def _teach(plain: Path, target: Path) -> Path:
    shutil.copytree(plain, target, copy_function=shutil.copyfile)
    (target / "pareta-manifest.json").unlink()
    tokenizer = json.loads((target / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        if token["content"] in TOKENS:
            token |= {"content": TOKENS[token["content"]], "special": False}
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {TOKENS.get(word, word): number for word, number in vocabulary.items()}
    (target / "tokenizer.json").write_text(json.dumps(tokenizer))
    template = target / "chat_template.jinja"
    template.write_text(template.read_text().rstrip("\n") + OPENS)
    return target
