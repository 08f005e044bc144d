"""`pareta-registry`: stdout is data, refusals are exit codes, and weights ids need --private."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fakes.tiny_gguf import write_tiny_gguf

from pareta_registry.cli import main
from pareta_registry.schema import SCHEMA_NAME


def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *argv: str
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["pareta-registry", *argv])
    for name in ("stdout", "stderr"):  # which the program replaces
        monkeypatch.setattr(sys, name, getattr(sys, name))
    with pytest.raises(SystemExit) as caught:
        main.main()
    out, err = capfd.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.fixture
def registry(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    return lambda *argv: run(capfd, monkeypatch, *argv)


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


def test_a_catalog_from_init_to_a_signed_channel(registry, tmp_path: Path) -> None:
    """init, import, add, check, diff, promote, roll back, gc: every verb of a catalog's life, in one."""
    catalog, published, key = tmp_path / "catalog", tmp_path / "published", tmp_path / "key"
    assert registry("init", str(catalog))[0] == 0
    assert registry("keygen", str(key))[0] == 0
    assert key.stat().st_mode & 0o777 == 0o600
    first = json.loads(registry("promote", str(catalog), str(published), "--key", str(key), "--json")[1])
    assert (first["serial"], first["signatures"]) == (1, 1)

    before = tmp_path / "before"
    catalog.rename(before)
    registry("init", str(catalog))
    source = write_tiny_gguf(tmp_path / "t.gguf")
    registry("import", str(source), str(tmp_path / "tiny"))
    assert registry("add", str(tmp_path / "tiny"), str(catalog), "--id", "tiny", "--license", "MIT")[0] == 0
    assert registry("check", str(catalog))[0] == 0
    code, out, _ = registry("diff", str(before), str(catalog))
    assert (code, out) == (1, "+ model tiny\n")
    assert registry("diff", str(catalog), str(catalog))[:2] == (0, "")

    second = json.loads(registry("promote", str(catalog), str(published), "--json")[1])
    assert registry("sign", str(published), "--key", str(key))[0] == 0
    back = json.loads(registry("promote", first["catalog"], str(published), "--key", str(key), "--json")[1])
    assert (back["serial"], back["catalog"]) == (3, first["catalog"])
    assert json.loads(registry("gc", str(published), "--delete", "--json")[1]) == {
        "deleted": [second["catalog"]]
    }
    assert registry("promote", second["catalog"], str(published))[0] == 5


def test_refusals_exit_5(registry, tmp_path: Path) -> None:
    """A target in use, a missing artifact and a key that is none are refused, with what to do."""
    (tmp_path / "x").write_text("x")
    for argv in (
        ("init", str(tmp_path)),
        ("keygen", str(tmp_path / "x")),
        ("add", str(tmp_path), str(tmp_path), "--id", "a", "--license", "MIT"),
        ("publish", str(tmp_path), "not-a-reference"),
        ("promote", "sha256:" + "0" * 64, str(tmp_path), "--key", str(tmp_path / "x")),
        ("sign", str(tmp_path), "--key", str(tmp_path / "x")),
        ("import", str(tmp_path / "none"), str(tmp_path / "new")),
    ):
        code, out, err = registry(*argv)
        assert (code, out) == (5, ""), argv
        assert "try:" in err


@pytest.mark.parametrize("target", ["gone", "link"])
@pytest.mark.parametrize(
    "argv",
    [
        ("ls", "-c", "LINK"), ("check", "LINK"), ("init", "LINK"), ("import", "LINK", "NEW"),
        ("import", "CATALOG", "LINK"),
        ("add", "LINK", "CATALOG", "--id", "a", "--license", "MIT"), ("publish", "LINK", "oci://127.0.0.1:1/x:v1"),
        ("promote", "LINK", "NEW"), ("promote", "CATALOG", "LINK"), ("promote", "CATALOG", "NEW", "--key", "LINK"),
        ("sign", "LINK", "--key", "KEY"), ("diff", "CATALOG", "LINK"), ("keygen", "LINK"),
    ],
)  # fmt: skip
def test_a_link_to_nothing_is_an_error_that_names_it(
    registry, tmp_path: Path, argv: tuple[str, ...], target: str
) -> None:
    """Dangling or a loop, in whatever place of whatever verb: no traceback, and nothing is written through it."""
    link = tmp_path / "link"
    registry("init", str(tmp_path / "catalog"))
    registry("keygen", str(tmp_path / "key"))
    link.symlink_to(tmp_path / target)
    places = {"LINK": link, "CATALOG": tmp_path / "catalog", "KEY": tmp_path / "key", "NEW": tmp_path / "new"}
    code, out, err = registry(*(str(places.get(word, word)) for word in argv))
    assert (code, out, str(link) in err, "try:" in err) == (5, "", True, True)
    assert not (tmp_path / "gone").exists()


def test_the_schema_agrees_with_the_checker(registry) -> None:
    """The published JSON Schema is the one that the models make, with the allowlist of engine settings in it."""
    schema = json.loads(registry("schema")[1])
    engine = schema["$defs"]["Model"]["properties"]["engine"]
    assert engine["additionalProperties"] is False
    assert engine["properties"]["max_num_seqs"] == {"type": "integer", "minimum": 0}
    assert set(schema["$defs"]) >= {"Task", "Model", "Alias", "Variant", "Canary", "Architecture"}


def test_the_committed_schema_is_current(registry) -> None:
    """Stale? `pareta-registry schema > registry/catalog.schema.json`."""
    committed = Path(__file__).parents[4] / "registry" / SCHEMA_NAME
    assert committed.read_text() == registry("schema")[1]
