"""A catalog loads whole, or every problem is told with its file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pareta_registry.errors import CatalogError
from pareta_registry.load import builtin_catalog, load_catalog

TASK = """\
kind: task
id: summarise
title: Summaries
aliases:
  - id: sum-1
    model: small
recommended: sum-1
"""
MODEL = """\
kind: model
id: small
license: MIT
context: 4096
architecture: {architecture: LlamaForCausalLM, params_b: 0.1, layers: 2, heads: 4, kv_heads: 2, head_dim: 16,
  hidden: 64, intermediate: 96, vocab: 100, max_position_embeddings: 4096}
variants:
  - name: bf16
    quant: none
    artifact: sha256:0000000000000000000000000000000000000000000000000000000000000000
    source: file:///models/small
    weights_bytes: 1000
engine:
  max_num_seqs: 8
"""


ZEROS = "0" * 64
FILE = f"{{path: a.json, sha256: '{ZEROS}', size_bytes: 1}}"
ADAPTER_BODY = f"{{name: a, artifact: 'sha256:{ZEROS}', source: file:///a, rank: 8, weights_bytes: 9}}"
ADAPTER = f"adapters:\n  - {ADAPTER_BODY}\n"
BASELINE = "{id: sum-1, vendor: v}"


def write(root: Path, task: str = TASK, model: str = MODEL) -> Path:
    (root / "task.yaml").write_text(task)
    (root / "model.yaml").write_text(model)
    return root


def problems(root: Path, task: str = TASK, model: str = MODEL) -> list[tuple[str, int, str]]:
    with pytest.raises(CatalogError) as caught:
        load_catalog(write(root, task, model))
    assert all(problem.message for problem in caught.value.problems)
    return [(problem.file, problem.line, problem.key) for problem in caught.value.problems]


def test_the_demo_catalog_is_valid() -> None:
    """What ships with the package loads, with two tasks on one model."""
    catalog = builtin_catalog()
    assert [task.id for task in catalog.tasks] == ["clause-summary", "contract-key-fields"]
    assert len(catalog.models) == 1


def test_documents_become_a_catalog(tmp_path: Path) -> None:
    """Documents from several files are one catalog."""
    catalog = load_catalog(write(tmp_path))
    assert (
        tuple(task.id for task in catalog.tasks),
        tuple(model.id for model in catalog.models),
    ) == (("summarise",), ("small",))


def test_digest_is_of_the_meaning(tmp_path: Path) -> None:
    """File names, order, comments and spelled-out defaults do not change the version; a value does."""
    first = load_catalog(write(tmp_path)).digest
    (tmp_path / "task.yaml").unlink()
    (tmp_path / "model.yaml").write_text("# one file\n" + MODEL + "trust_remote_code: false\n---\n" + TASK)
    assert first == load_catalog(tmp_path).digest
    (tmp_path / "model.yaml").write_text(MODEL.replace("8", "9") + "---\n" + TASK)
    assert first != load_catalog(tmp_path).digest


def test_json_is_read_too(tmp_path: Path) -> None:
    """A JSON list of documents is the same catalog as the YAML."""
    import json

    import yaml

    first = load_catalog(write(tmp_path)).digest
    both = [yaml.safe_load(TASK), yaml.safe_load(MODEL)]
    (tmp_path / "all.json").write_text(json.dumps(both, indent=1))
    assert first == load_catalog(tmp_path / "all.json").digest


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("model: small", "model: smal", ("task.yaml", 6, "aliases[0].model")),
        ("recommended: sum-1", "recommended: sum-2", ("task.yaml", 7, "recommended")),
        ("title: Summaries\n", "", ("task.yaml", 1, "title")),
        ("title: Summaries", "titel: Summaries\ntitle: x", ("task.yaml", 3, "titel")),
        ("title: Summaries", "title: Summaries\ntitle: again", ("task.yaml", 4, "title")),
        ("kind: task", "kind: job", ("task.yaml", 1, "kind")),
        ("id: summarise", "id: Summarise It", ("task.yaml", 2, "id")),
        (
            "    model: small",
            "    model: small\n    max_model_len: 9999",
            ("task.yaml", 7, "aliases[0].max_model_len"),
        ),
        (
            "    model: small",
            "    model: small\n    engine: {port: 1}",
            ("task.yaml", 7, "aliases[0].engine.port"),
        ),
        ("title: Summaries", "title: &x Summaries\ndescription: *x", ("task.yaml", 4, "description")),
        ("title: Summaries", "title: !!python/name:os.system x", ("task.yaml", 3, "title")),
        ("title: Summaries", 'title: "open', ("task.yaml", 8, "")),
        ("title: Summaries", "title: x\nprompt_scaffold: no place", ("task.yaml", 4, "prompt_scaffold")),
        ("id: sum-1", "id: recommended", ("task.yaml", 5, "aliases[0].id")),
        ("model: small", "model: small\n  - id: sum-1\n    model: small", ("task.yaml", 7, "aliases[1].id")),
        ("model: small", "model: small\n    adapter: b", ("task.yaml", 7, "aliases[0].adapter")),
        ("title: Summaries", f"title: x\nfrontier: [{BASELINE}]", ("task.yaml", 4, "frontier[0].id")),
        ("title: Summaries", "title: x\nexamples:\n  - input: ''", ("task.yaml", 5, "examples[0].input")),
    ],
)
def test_a_wrong_task_is_located(tmp_path: Path, old: str, new: str, expected: tuple[str, int, str]) -> None:
    """Each mistake is found at the line and key to mend."""
    assert expected in problems(tmp_path, task=TASK.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_num_seqs: 8", "max_num_seqs: many", ("model.yaml", 14, "engine.max_num_seqs")),
        ("max_num_seqs: 8", "chat_template: /etc/passwd", ("model.yaml", 14, "engine.chat_template")),
        ("max_num_seqs: 8", "tool_call_parser: ../x.py", ("model.yaml", 14, "engine.tool_call_parser")),
        ("kv_heads: 2", "kv_heads: 3", ("model.yaml", 5, "architecture.kv_heads")),
        ("weights_bytes: 1000", "weights_bytes: 0", ("model.yaml", 12, "variants[0].weights_bytes")),
        ("params_b: 0.1", "params_b: .inf", ("model.yaml", 5, "architecture.params_b")),
        ("artifact: sha256:00", "artifact: sha256:zz", ("model.yaml", 10, "variants[0].artifact")),
        ("engine:", f"{ADAPTER}  - {ADAPTER_BODY}\nengine:", ("model.yaml", 15, "adapters[1].name")),
        (
            "engine:",
            f"{ADAPTER}engine:".replace("rank: 8", "rank: 0"),
            ("model.yaml", 14, "adapters[0].rank"),
        ),
        (
            "engine:",
            f"{ADAPTER}engine:".replace("rank: 8", f"rank: 8, files: [{FILE}]"),
            ("model.yaml", 14, "adapters[0].artifact"),
        ),
        (
            "    quant: none",
            f"    quant: none\n    files: [{FILE}]",
            ("model.yaml", 11, "variants[0].artifact"),
        ),
        (
            "    quant: none",
            f"    quant: none\n    files: [{FILE}, {FILE}]",
            ("model.yaml", 10, "variants[0].files"),
        ),
        (
            "    quant: none",
            "    quant: none\n    files: [{path: ../x}]",
            ("model.yaml", 10, "variants[0].files[0].path"),
        ),
    ],
)
def test_a_wrong_model_is_located(tmp_path: Path, old: str, new: str, expected: tuple[str, int, str]) -> None:
    """Engine settings outside the allowlist, impossible facts and malformed digests are each located."""
    assert expected in problems(tmp_path, model=MODEL.replace(old, new))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """One run shows every mistake of every file."""
    found = problems(tmp_path, TASK.replace("title:", "titel:"), MODEL.replace("license: MIT\n", ""))
    assert {("task.yaml", 3, "titel"), ("task.yaml", 1, "title"), ("model.yaml", 1, "license")} <= set(found)


def test_duplicate_ids_name_both_places(tmp_path: Path) -> None:
    """Two documents of one id point at each other."""
    (tmp_path / "zz.yaml").write_text(TASK)
    with pytest.raises(CatalogError, match=r"zz\.yaml:2: id: task 'summarise' is also in task\.yaml:2"):
        load_catalog(write(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"- 1", b"[" * 2000, b"a: 1\n" * 900_000, b"\x00"])
def test_files_that_are_no_documents_are_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, binary, deep and huge files end in a located problem, never in a traceback."""
    (tmp_path / "odd.yaml").write_bytes(content)
    if not content:
        assert load_catalog(tmp_path).tasks == ()
        return
    with pytest.raises(CatalogError, match=r"odd\.yaml"):
        load_catalog(tmp_path)


def test_a_missing_directory_is_a_problem(tmp_path: Path) -> None:
    """A path that does not exist, or holds nothing, says so."""
    with pytest.raises(CatalogError, match="does not exist"):
        load_catalog(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match="no documents"):
        load_catalog(tmp_path)


def test_an_escaped_character_is_one_and_half_of_one_is_none(tmp_path: Path) -> None:
    """As JSON writes what lies beyond its first plane: a pair of escapes."""
    title = next(line for line in TASK.splitlines() if line.startswith("title:"))
    paired = TASK.replace(title, 'title: "\\ud83d\\ude00"')
    assert load_catalog(write(tmp_path, paired)).tasks[0].title == "\U0001f600"
    half = TASK.replace(title, 'title: "\\ud83d"')
    assert "title" in [key for _, _, key in problems(tmp_path, half)]
