"""Eval runs API: creates and shows eval runs, and lists the vendors' models."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from pareta_agent.plane.api.auth import ApiRefused, TheCaller, TheCatalog, refusals
from pareta_agent.plane.api.node_api import ThePlane
from pareta_agent.plane.evals.results import Result, estimate_micro_usd, result
from pareta_agent.plane.evals.runner import Runner, max_answer_tokens
from pareta_agent.plane.evals.runs import EvalRun, Kind, Runs, Status
from pareta_agent.plane.evals.set_api import TheSets, find
from pareta_agent.plane.evals.sets import EvalSet, Sets
from pareta_agent.plane.evals.vendors import Vendors
from pareta_agent.plane.seed import price_of
from pareta_registry.catalog import Task

MOST_CANDIDATES = 16
router = APIRouter(tags=["eval runs"])


class Evals(BaseModel):
    """The routes' state beside the sets."""

    model_config = {"arbitrary_types_allowed": True}
    runs: Runs
    runner: Runner
    vendors: Vendors


def _evals(request: Request) -> Evals:
    evals: Evals = request.app.state.evals
    return evals


TheEvals = Annotated[Evals, Depends(_evals)]


class RunRequest(BaseModel):
    eval_set_id: str = Field(max_length=64)
    candidate_model_ids: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        min_length=1, max_length=MOST_CANDIDATES
    )


class RunStarted(BaseModel):
    run_id: str
    status: Status


class RunRecord(BaseModel):
    id: str
    eval_set_id: str
    status: Status
    candidate_model_ids: list[str]
    total_cost_micro_usd: int
    error_detail: str | None
    rows_done: int
    rows_total: int


class OneRun(BaseModel):
    """`results` grow during the run; final once `status` is completed or failed."""

    run: RunRecord
    results: list[Result]


class FrontierModel(BaseModel):
    """`benchmarked`: the model is on the task's leaderboard; false without a task."""

    id: str
    vendor: str
    vision: bool
    benchmarked: bool


class FrontierList(BaseModel):
    frontier_models: list[FrontierModel]


@router.post(
    "/v1/eval-runs",
    status_code=202,
    responses=refusals(
        "invalid_json", "insufficient_credit", "endpoint_forbidden", "eval_set_not_found", "task_not_found"
    ),
)
def create(
    body: RunRequest, caller: TheCaller, plane: ThePlane, catalog: TheCatalog, sets: TheSets, evals: TheEvals
) -> RunStarted:
    """Queues the run at once; refused when the balance does not cover the estimated cost."""
    if caller.only is not None:
        raise ApiRefused("endpoint_forbidden", "This key reaches only the endpoints of its own list.")
    if not caller.credit:
        raise ApiRefused("insufficient_credit")
    found = find(sets, caller, body.eval_set_id)
    task = next((task for task in catalog.tasks if task.id == found.task), None)
    if task is None:
        raise ApiRefused("task_not_found", f"The task {found.task!r} is no longer offered.")
    models = list(
        dict.fromkeys(task.recommended if m == "recommended" else m for m in body.candidate_model_ids)
    )
    candidates = [(model, _kind(task, evals.vendors, model)) for model in models]
    needed = _estimate(task, evals.vendors, sets, found, models)
    if (plane.orgs.balance(caller.org) or 0) < needed:
        raise ApiRefused(
            "insufficient_credit", f"The run may cost {needed / 1e6:.2f} USD, more than the balance."
        )
    run = evals.runs.create(found, candidates)
    evals.runner.wake()
    return RunStarted(run_id=run.id, status=run.status)


@router.get("/v1/eval-runs/{id}", responses=refusals("eval_run_not_found"))
def one(id: str, caller: TheCaller, sets: TheSets, evals: TheEvals) -> OneRun:  # noqa: A002
    run = evals.runs.find(caller.org, id)
    if run is None:
        raise ApiRefused("eval_run_not_found")
    return _run(run, sets, evals.runs)


@router.get("/v1/eval/frontier-models", responses=refusals("task_not_found"))
def frontier(_: TheCaller, catalog: TheCatalog, evals: TheEvals, task: str | None = None) -> FrontierList:
    """Lists the vendors' models for which this plane has keys; with a document task only models that read images."""
    chosen = next((each for each in catalog.tasks if each.id == task), None)
    if task is not None and chosen is None:
        raise ApiRefused("task_not_found", f"There is no task {task!r}.")
    known = {each.id for each in chosen.frontier} if chosen else set()
    return FrontierList(
        frontier_models=[
            FrontierModel(id=each.id, vendor=each.vendor, vision=each.vision, benchmarked=each.id in known)
            for each in evals.vendors.models
            if each.vision or not (chosen and chosen.has_blob_input)
        ]
    )


def _kind(task: Task, vendors: Vendors, model: str) -> Kind:
    if any(alias.id == model for alias in task.aliases):
        return "open"
    if vendors.find(model) is None:
        raise ApiRefused(
            "task_not_found", f"The task {task.id!r} has no model {model!r}, and no vendor has that model."
        )
    return "frontier"


def _estimate(task: Task, vendors: Vendors, sets: Sets, found: EvalSet, models: list[str]) -> int:
    around = len(task.system_prompt or "") + len(task.prompt_scaffold or "")
    prompts = sum(len(orjson.dumps(row["input"])) + around for row in sets.rows(found.id))
    usual = task.typical_tokens.output if task.typical_tokens else max_answer_tokens(task)
    prices = {alias.id: price_of(alias) for alias in task.aliases}
    total = 0
    for model in models:
        vendor = vendors.find(model)
        price = prices.get(model) or (vendor.price if vendor else None)
        if price is not None:
            total += estimate_micro_usd(price, found.row_count, prompts, usual)
    return total


def _run(run: EvalRun, sets: Sets, runs: Runs) -> OneRun:
    candidates = runs.candidates(run.id)
    answers = [runs.answers(run.id, each.place) for each in candidates]
    found = sets.find(run.org, run.set_id)
    rows = found.row_count if found else max(map(len, answers), default=0)
    results = [result(each, given) for each, given in zip(candidates, answers, strict=True)]
    return OneRun(
        run=RunRecord(
            id=run.id,
            eval_set_id=run.set_id,
            status=run.status,
            candidate_model_ids=[each.model for each in candidates],
            total_cost_micro_usd=sum(each.total_cost_micro_usd for each in results),
            error_detail=run.error or next((each.error for each in candidates if each.error), None),
            rows_done=sum(map(len, answers)),
            rows_total=rows * len(candidates),
        ),
        results=results,
    )
