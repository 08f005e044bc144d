"""A failed import leaves its target as it was, whatever ended it; so does a refused `add`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from fakes.checkpoint import safetensors, write_checkpoint

from pareta_registry.cli import template
from pareta_registry.cli.publish import add
from pareta_registry.errors import ArtifactError, CatalogError, RegistryFailure
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.importers.staging import staged

WEIGHTS = {"model.safetensors": safetensors({"a": ("BF16", (10_000,))})}


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("bad", ["config.json", "model.safetensors", "empty"])
def test_a_failed_import_leaves_the_target_as_it_was(tmp_path: Path, there: bool, bad: str) -> None:
    """New or empty before, new or empty after, and nothing beside it."""
    source = write_checkpoint(tmp_path / "in", WEIGHTS | ({} if bad == "empty" else {bad: b"broken"}))
    if bad == "empty":
        (source / "model.safetensors").unlink()
    target = tmp_path / "deep" / "out"
    if there:
        target.mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(ArtifactError):
        import_checkpoint(str(source), target)
    assert tree(tmp_path) == before
    (source / "model.safetensors").write_bytes(WEIGHTS["model.safetensors"])
    write_checkpoint(source, WEIGHTS)
    import_checkpoint(str(source), target)
    assert sorted(path.name for path in target.iterdir()) == [
        "config.json", "model.safetensors", "pareta-manifest.json",
    ]  # fmt: skip


def test_the_target_has_the_usual_permissions(tmp_path: Path) -> None:
    """A static server of another user may read what is published."""
    before = os.umask(0o022)
    try:
        with staged(tmp_path / "out") as work:
            (work / "x").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_a_target_that_cannot_be_replaced_says_so(tmp_path: Path) -> None:
    """Somebody put a file there meanwhile."""
    staging = staged(tmp_path / "out")
    staging.__enter__()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs").touch()
    with pytest.raises(ArtifactError, match="cannot be replaced") as caught:
        staging.__exit__(None, None, None)
    assert caught.value.code == "target_exists"
    assert tree(tmp_path) == {"out": None, "out/theirs": b""}


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    template.write(tmp_path / "catalog")
    import_checkpoint(str(write_checkpoint(tmp_path / "in", WEIGHTS)), tmp_path / "artifact")
    return tmp_path / "catalog"


@pytest.mark.parametrize(
    "wrong", ["slug", "duplicate", "climbs", "source", "others", "dangling", "missing", "file"]
)
def test_a_refused_add_leaves_nothing(catalog: Path, tmp_path: Path, wrong: str) -> None:
    """The catalog is checked with the new document before that is written."""
    model, license_, into = "tiny", "MIT", catalog
    if wrong == "slug":
        model = "Not A Slug"
    elif wrong == "duplicate":
        known = next(yaml.safe_load_all((catalog / "models.yaml").read_text()))
        model = (known[0] if isinstance(known, list) else known)["id"]
    elif wrong == "climbs":
        model = "../tiny"
    elif wrong == "source":
        manifest = tmp_path / "artifact" / "pareta-manifest.json"
        manifest.write_bytes(manifest.read_bytes() + b"damage")
    elif wrong == "others":
        (catalog / "broken.yaml").write_text("kind: nothing\n")
    elif wrong == "dangling":
        (catalog / "tiny.yaml").symlink_to(tmp_path / "gone.yaml")
    elif wrong == "missing":
        into = tmp_path / "no-catalog"
    else:
        into = catalog / "models.yaml"
    before = tree(tmp_path)
    with pytest.raises((RegistryFailure, OSError)):
        add(tmp_path / "artifact", into, model, license_)
    assert tree(tmp_path) == before


def test_a_refused_adapter_leaves_the_document(catalog: Path, tmp_path: Path) -> None:
    """Byte for byte, with nothing beside it."""
    from pareta_registry.importers.peft import add_adapter

    add(tmp_path / "artifact", catalog, "tiny", "MIT")
    before = tree(catalog)
    entry = {"name": "Not A Slug", "artifact": "sha256:" + "0" * 64, "source": "file:///x", "rank": 8}
    with pytest.raises(CatalogError):
        add_adapter(catalog, "tiny", entry | {"weights_bytes": 1})
    assert tree(catalog) == before


def test_an_adapter_goes_into_the_file_that_a_link_names(catalog: Path, tmp_path: Path) -> None:
    """A catalog may link to its documents; the link and the file's mode stay."""
    from pareta_registry.importers.peft import add_adapter

    add(tmp_path / "artifact", catalog, "tiny", "MIT")
    real = tmp_path / "kept.yaml"
    (catalog / "tiny.yaml").rename(real)
    real.chmod(0o640)
    (catalog / "tiny.yaml").symlink_to(real)
    entry = {
        "name": "legal",
        "artifact": "sha256:" + "0" * 64,
        "source": "file:///x",
        "rank": 8,
        "weights_bytes": 1,
    }
    add_adapter(catalog, "tiny", entry)
    assert (catalog / "tiny.yaml").is_symlink()
    assert ("legal" in real.read_text(), real.stat().st_mode & 0o777) == (True, 0o640)
