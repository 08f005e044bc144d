"""`pareta-registry`: stdout is data, refusals are exit codes, and weights ids need --private."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.tiny_gguf import write_tiny_gguf

from pareta_registry import cli


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *argv: str
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["pareta-registry", *argv])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.fixture
def registry(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    return lambda *argv: run(capsys, monkeypatch, *argv)


def test_resolve_hides_weights_ids(registry) -> None:
    """Without --private neither model, digest nor source appears; with it they do."""
    code, out, _ = registry("resolve", "contract-key-fields", "--json")
    assert (code, json.loads(out)["alias"]) == (0, "contract-kie-1")
    assert not any(word in out.lower() for word in ("smollm", "sha256", "pypi"))
    assert "smollm" in registry("resolve", "contract-key-fields", "--private")[1]
    assert "smollm" not in registry("ls")[1] + registry("ls", "--json")[1]


def test_an_unknown_name_exits_3(registry) -> None:
    """The refusal is on stderr and names what exists."""
    code, out, err = registry("resolve", "contract-key-feilds")
    assert (code, out) == (3, "")
    assert "did you mean 'contract-key-fields'?" in err


def test_check_reports_problems(registry, tmp_path: Path) -> None:
    """A broken catalog exits 5, readable or as JSON."""
    (tmp_path / "x.yaml").write_text("kind: task\nid: X\n")
    code, _, err = registry("check", str(tmp_path))
    assert code == 5
    assert "x.yaml:2: id:" in err
    code, out, _ = registry("check", str(tmp_path), "--json")
    assert (code, json.loads(out)["ok"], json.loads(out)["problems"][-1]["line"]) == (5, False, 2)


def test_import_prints_a_model_document(registry, tmp_path: Path) -> None:
    """What import prints can be put into a catalog and checked."""
    source = write_tiny_gguf(tmp_path / "t.gguf")
    code, out, _ = registry("import", str(source), str(tmp_path / "tiny"))
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "tiny.yaml").write_text(out)
    assert code == 0
    assert registry("check", str(tmp_path / "catalog"))[0] == 0
