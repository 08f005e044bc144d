"""Links in checkpoints, artifacts and catalogs: followed within, accepted into a hub cache's blobs, else refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fakes.checkpoint import CONFIG, safetensors, write_checkpoint

from pareta_registry.errors import ArtifactError, CatalogError
from pareta_registry.importers.hf_checkpoint import import_checkpoint
from pareta_registry.load import load_catalog

WEIGHTS = safetensors({"a": ("BF16", (10_000,))})


def cached(root: Path) -> Path:
    """A snapshot as huggingface_hub keeps it: links into the repository's own blobs, one of them in a folder."""
    repo = root / "models--org--name"
    snapshot = repo / "snapshots" / ("a" * 40)
    for name, data in {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": WEIGHTS}.items():
        blob = repo / "blobs" / f"{len(data):064x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    (repo / "blobs" / "pooling").write_bytes(b"{}")
    (snapshot / "1_Pooling").mkdir()
    (snapshot / "1_Pooling" / "config.json").symlink_to("../../../blobs/pooling")
    return snapshot


def refused(source: Path, target: Path) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        import_checkpoint(str(source), target)
    assert not target.exists()
    return caught.value


@pytest.mark.parametrize("linked", [False, True])
def test_a_hub_cache_is_imported(tmp_path: Path, linked: bool) -> None:
    """Its files arrive as plain ones, also where the snapshot itself is named by a link."""
    source = cached(tmp_path)
    if linked:
        (tmp_path / "model").symlink_to(source)
        source = tmp_path / "model"
    import_checkpoint(str(source), tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()]
    assert {path.relative_to(tmp_path / "out").as_posix() for path in files} == {
        "config.json", "model.safetensors", "1_Pooling/config.json", "pareta-manifest.json",
    }  # fmt: skip
    assert not any(path.is_symlink() for path in files)


def test_a_link_within_the_checkpoint_is_followed(tmp_path: Path) -> None:
    """It means a file of the checkpoint."""
    source = write_checkpoint(tmp_path / "in", {"weights/w.safetensors": WEIGHTS})
    (source / "model.safetensors").symlink_to("weights/w.safetensors")
    import_checkpoint(str(source), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "through", ["absolute", "relative", "chain", "hub", "blobs-link", "blobs-below", "folder"]
)
def test_a_link_that_leaves_is_refused(tmp_path: Path, through: str) -> None:
    """By whatever way: nothing outside the checkpoint gets into an artifact, and the error names the link."""
    secret = tmp_path / "outside" / "secret.json"
    secret.parent.mkdir()
    secret.write_text("{}")
    source = cached(tmp_path)
    link = source / "generation_config.json"
    if through == "absolute":
        link.symlink_to(secret)
    elif through == "relative":
        link.symlink_to(os.path.relpath(secret, source))
    elif through == "chain":
        (source / "hop.txt").symlink_to(secret)
        link.symlink_to("hop.txt")
    elif through == "hub":
        (tmp_path / "models--org--name" / "blobs" / "hop").symlink_to(secret)
        link.symlink_to("../../blobs/hop")
    elif through == "blobs-link":
        source = write_checkpoint(tmp_path / "evil" / "snapshots" / "1", {"model.safetensors": WEIGHTS})
        (tmp_path / "evil" / "blobs").symlink_to(secret.parent)
        link = source / "generation_config.json"
        link.symlink_to("../../blobs/secret.json")
    elif through == "blobs-below":
        below = tmp_path / "models--org--name" / "blobs" / "below"
        below.mkdir()
        (below / "x").write_text("{}")
        link.symlink_to("../../blobs/below/x")
    else:
        link = source / "more"
        link.symlink_to(secret.parent)
    error = refused(source, tmp_path / "out")
    assert (error.code, link.name in error.message, error.remedy != "") == ("artifact_refused", True, True)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "model.safetensors.index.json", "notes.txt"]
)
def test_a_dangling_link_is_located(tmp_path: Path, name: str) -> None:
    """The error names the link and where it points."""
    source = write_checkpoint(tmp_path / "in", {"model.safetensors": WEIGHTS})
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to("../../blobs/gone")
    error = refused(source, tmp_path / "out")
    assert (error.code, name in error.message, "blobs/gone" in error.message) == (
        "artifact_refused",
        True,
        True,
    )


def test_what_is_not_copied_may_dangle(tmp_path: Path) -> None:
    """A file that no artifact holds is not looked at."""
    source = write_checkpoint(tmp_path / "in", {"model.safetensors": WEIGHTS})
    for name in ("picture.png", "consolidated.safetensors", ".hidden"):
        (source / name).symlink_to("gone")
    import_checkpoint(str(source), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*picture*"))


@pytest.mark.parametrize("kind", ["fifo", "loop", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A pipe would never end, and a loop has no bytes."""
    source = write_checkpoint(tmp_path / "in", {"model.safetensors": WEIGHTS})
    odd = source / "notes.txt"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "loop":
        odd.symlink_to("notes.txt")
    else:
        (source / "folder").mkdir()
        odd.symlink_to("folder")
    error = refused(source, tmp_path / "out")
    assert (error.code, "notes.txt" in error.message) == ("artifact_refused", True)


@pytest.mark.parametrize("what", ["source", "target", "file"])
def test_what_is_named_may_not_dangle(tmp_path: Path, what: str) -> None:
    """Source and target are told apart, and nothing is written through a link."""
    source = write_checkpoint(tmp_path / "in", {"model.safetensors": WEIGHTS})
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    if what == "file":
        (tmp_path / "gone").write_text("a file")
    with pytest.raises(ArtifactError) as caught:
        import_checkpoint(
            str(link if what == "source" else source), tmp_path / "out" if what == "source" else link
        )
    assert caught.value.code == ("source_missing" if what == "source" else "target_exists")
    assert (tmp_path / "gone").exists() == (what == "file")


def test_a_dangling_document_of_a_catalog_is_a_problem(tmp_path: Path) -> None:
    """It is not taken for a document that is not there."""
    (tmp_path / "x.yaml").symlink_to("gone.yaml")
    with pytest.raises(CatalogError, match=r"x\.yaml: links to gone\.yaml, which does not exist"):
        load_catalog(tmp_path)
