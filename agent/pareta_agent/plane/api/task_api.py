"""Tasks API: lists tasks, compares the models of a task, and matches a task to a free text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from pareta_agent.plane.api.auth import ApiRefused, TheCaller, TheCatalog, refusals
from pareta_agent.plane.tasks.leaderboard import Leaderboard, leaderboard
from pareta_registry.catalog import Catalog, Example, Task

MOST_EXAMPLES = 50
router = APIRouter(prefix="/v1/tasks", tags=["tasks"])
_UNKNOWN = refusals("task_not_found")


class TaskRecord(BaseModel):
    """`recommended` is the alias that a deploy without an alias uses."""

    id: str
    title: str
    description: str
    default_scorer: str | None
    has_blob_input: bool
    recommended: str


class TaskList(BaseModel):
    tasks: list[TaskRecord]


class TaskDetail(TaskRecord):
    """`schema` is the shape of a row in an eval set for this task; `examples` are such rows."""

    models: list[str]
    item_schema: dict[str, Any] = Field(serialization_alias="schema")
    examples: list[Example]
    recommendedSystemPrompt: str | None
    promptScaffold: str | None


class MatchRequest(BaseModel):
    query: str = Field(min_length=1, max_length=2000, pattern=r"\S")
    top_k: int = Field(5, ge=1, le=50)


class MatchCandidate(BaseModel):
    task_id: str
    score: float
    confidence: Literal["high", "medium", "low"]


class TaskMatch(BaseModel):
    """`chosen` is null unless `type` is `task`. `none`: the words do not decide; `unsupported`: no task fits."""

    query: str
    type: Literal["task", "unsupported", "none"]
    matched: bool
    chosen: MatchCandidate | None
    candidates: list[MatchCandidate]
    ambiguous: bool
    confidence: Literal["high", "medium", "low"] | None
    matcher: Literal["keyword"] = "keyword"


def _matcher(request: Request, catalog: TheCatalog) -> Any:
    """Builds the matcher at the first query of a catalog: the imports take a third of a second."""
    from pareta_agent.plane.tasks.match import Matcher

    state = request.app.state
    if getattr(state, "matcher", (None,))[0] != catalog.digest:
        state.matcher = catalog.digest, Matcher(catalog.tasks)
    return state.matcher[1]


@router.get("", responses=refusals())
def every(_: TheCaller, catalog: TheCatalog) -> TaskList:
    return TaskList(tasks=[TaskRecord(**_record(task)) for task in catalog.tasks])


@router.post("/match", responses=refusals("invalid_json"))
def match(body: MatchRequest, _: TheCaller, matcher: Annotated[Any, Depends(_matcher)]) -> TaskMatch:
    """Returns the task of a free text: `chosen`, and the `top_k` best tasks."""
    from pareta_agent.plane.tasks.match import ambiguous, verdict

    ranked = matcher.ranked(body.query)
    candidates = [
        MatchCandidate(task_id=each.task, score=each.score, confidence=each.confidence)
        for each in ranked[: body.top_k]
    ]
    kind = verdict(ranked)
    chosen = candidates[0] if kind == "task" else None
    return TaskMatch(
        query=body.query,
        type=kind,
        matched=chosen is not None,
        chosen=chosen,
        candidates=candidates,
        ambiguous=ambiguous(ranked),
        confidence=chosen.confidence if chosen else None,
    )


@router.get("/{id}", responses=_UNKNOWN)
def one(
    id: str,  # noqa: A002
    _: TheCaller,
    catalog: TheCatalog,
    examples_n: Annotated[int, Query(ge=0, le=MOST_EXAMPLES)] = 3,
) -> TaskDetail:
    task = _find(catalog, id)
    return TaskDetail(
        **_record(task),
        models=[alias.id for alias in task.aliases],
        item_schema=Example.model_json_schema(),
        examples=list(task.examples[:examples_n]),
        recommendedSystemPrompt=task.system_prompt,
        promptScaffold=task.prompt_scaffold,
    )


@router.get("/{id}/leaderboard", responses=_UNKNOWN)
def board(id: str, _: TheCaller, catalog: TheCatalog) -> Leaderboard:  # noqa: A002
    return leaderboard(catalog, _find(catalog, id))


def _record(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "title": task.title,
        "description": task.description,
        "default_scorer": task.scorer,
        "has_blob_input": task.has_blob_input,
        "recommended": task.recommended,
    }


def _find(catalog: Catalog, task: str) -> Task:
    found = next((each for each in catalog.tasks if each.id == task), None)
    if found is None:
        raise ApiRefused("task_not_found", f"There is no task {task!r}.")
    return found
