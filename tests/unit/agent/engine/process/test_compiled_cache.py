"""Where compiled caches are, and what becomes of one that is doubted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_room import settings

from pareta_agent.engine.process import compiled_cache


def test_builds_have_caches_of_their_own(tmp_path: Path) -> None:
    """Another version, interpreter or program is another build; the same one finds its cache again."""
    made = settings(tmp_path, command=None, python=Path("/a/python"))
    others = [replace(made, version="0.33.0"), replace(made, python=Path("/b/python")), settings(tmp_path)]
    assert compiled_cache.directory(made) == compiled_cache.directory(replace(made))
    assert len({compiled_cache.directory(each) for each in (made, *others)}) == 4


def test_a_doubted_cache_is_left_and_the_one_before_it_removed(tmp_path: Path) -> None:
    """An engine may still run with the one that is left, not with the one before."""
    made = settings(tmp_path)
    first = compiled_cache.ready(made, tmp_path / "spare")
    (first / "inductor" / "a.so").touch()
    assert compiled_cache.discard(made)
    second = compiled_cache.ready(made, tmp_path / "spare")
    assert (second != first, (first / "inductor" / "a.so").exists()) == (True, True)
    (second / "inductor" / "b.so").touch()
    assert compiled_cache.discard(made)
    assert (first.exists(), second.exists()) == (False, True)


def test_an_empty_cache_is_not_doubted(tmp_path: Path) -> None:
    made = settings(tmp_path)
    first = compiled_cache.ready(made, tmp_path / "spare")
    assert not compiled_cache.discard(made)
    assert compiled_cache.ready(made, tmp_path / "spare") == first


@pytest.mark.parametrize("damaged", ["", "1", "1/inductor"])
def test_what_is_no_directory_is_replaced(tmp_path: Path, damaged: str) -> None:
    """At each level."""
    made = settings(tmp_path)
    path = compiled_cache.directory(made).parent / damaged
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")
    found = compiled_cache.ready(made, tmp_path / "spare")
    assert (found / "inductor").is_dir()
    assert found == compiled_cache.directory(made)


def test_where_the_disk_has_no_place_a_start_uses_its_own(tmp_path: Path) -> None:
    """A cache saves time and nothing else."""
    made = replace(settings(tmp_path), cache_dir=Path("/proc/nowhere"))
    assert compiled_cache.ready(made, tmp_path / "spare") == tmp_path / "spare"
