"""A task and an alias give one model with its settings, or a helpful no."""

from __future__ import annotations

from pathlib import Path

import pytest

from pareta_registry.catalog import Adapter, Alias, Catalog, Task
from pareta_registry.load import builtin_catalog, catalog_of
from pareta_registry.resolve import Resolution, Unresolved, engine_inputs, resolve


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    demo = builtin_catalog()
    model = demo.models[0].model_copy(update={"engine": {"max_num_seqs": 8, "seed": 1}})
    aliases = (
        Alias(id="fast-1", model=model.id, engine={"max_num_seqs": 32}, max_model_len=2048),
        Alias(id="best-1", model=model.id),
    )
    return catalog_of([model, Task(id="read", title="Read", aliases=aliases, recommended="best-1")])


@pytest.mark.parametrize("alias", [None, "recommended", "best-1"])
def test_no_alias_means_the_recommended_one(catalog: Catalog, alias: str | None) -> None:
    """None, "recommended" and its name are the same choice."""
    answer = resolve(catalog, "read", alias)
    assert isinstance(answer, Resolution)
    assert (answer.alias.id, answer.max_model_len) == ("best-1", 8192)


def test_the_alias_overrides_the_model(catalog: Catalog) -> None:
    """Engine settings merge with the alias on top, and its context cap holds."""
    answer = resolve(catalog, "read", "fast-1")
    assert isinstance(answer, Resolution)
    assert (answer.engine, answer.max_model_len) == ({"max_num_seqs": 32, "seed": 1}, 2048)


def test_an_unknown_task_names_the_close_ones(catalog: Catalog) -> None:
    """A misspelt task is a value that says what exists."""
    answer = resolve(catalog, "raed")
    assert isinstance(answer, Unresolved)
    assert answer.message == "there is no task 'raed'; did you mean 'read'? (tasks: read)"


def test_an_unknown_alias_names_those_of_the_task(catalog: Catalog) -> None:
    """A misspelt alias lists the task's aliases in rank order."""
    answer = resolve(catalog, "read", "fats-1")
    assert isinstance(answer, Unresolved)
    assert (answer.available, answer.close[0]) == (("fast-1", "best-1", "recommended"), "fast-1")


def test_no_message_names_a_model(catalog: Catalog, tmp_path: Path) -> None:
    """A refusal that reaches callers holds tasks and aliases only."""
    for answer in (resolve(catalog, "x"), resolve(catalog, "read", "x")):
        assert isinstance(answer, Unresolved)
        assert "smollm" not in answer.message


def with_adapters(catalog: Catalog, *adapters: Adapter) -> Catalog:
    """The same model, and an alias of the first adapter beside its own."""
    model = catalog.models[0].model_copy(update={"adapters": adapters})
    aliases = (
        Alias(id="base-1", model=model.id),
        Alias(id="legal-1", model=model.id, adapter=adapters[0].name),
    )
    return catalog_of([model, Task(id="read", title="Read", aliases=aliases, recommended="base-1")])


def test_an_adapter_more_leaves_what_runs_alone(catalog: Catalog) -> None:
    """Other bytes of its own, or a larger rank to make room for, do not."""
    legal = Adapter(name="legal", artifact=f"sha256:{'0' * 64}", source="file:///a", rank=8, weights_bytes=1)
    other, moved = legal.model_copy(update={"name": "b"}), legal.model_copy(update={"source": "file:///b"})
    large, trained = (
        other.model_copy(update={"rank": 64}),
        legal.model_copy(update={"artifact": f"sha256:{'1' * 64}"}),
    )

    def of(alias: str, *adapters: Adapter) -> tuple[object, ...]:
        return engine_inputs(resolve(with_adapters(catalog, *adapters), "read", alias))

    for alias in ("base-1", "legal-1"):
        assert of(alias, legal) == of(alias, moved, other)
        assert of(alias, legal) != of(alias, legal, large)
    assert of("legal-1", legal) != of("legal-1", trained)
    assert of("base-1", legal) == of("base-1", trained)
