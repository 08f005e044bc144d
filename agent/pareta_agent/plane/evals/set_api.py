"""Eval sets API: uploads rows, and the documents of rows. Keys and orgs isolate all routes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from pareta_agent.plane.api.auth import ApiCaller, ApiRefused, Origin, TheCaller, TheCatalog, refusals
from pareta_agent.plane.evals import rows
from pareta_agent.plane.evals.scorers import DEFAULT, SCORERS
from pareta_agent.plane.evals.sets import DocumentPosition, EvalSet, Sets
from pareta_agent.plane.store.api_keys import sha256_hex

MOST_BLOB_BYTES: Final = 32 * 2**20
router = APIRouter(tags=["eval sets"])
_UNKNOWN = refusals("eval_set_not_found")
_FieldName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def _sets(request: Request) -> Sets:
    sets: Sets = request.app.state.eval_sets
    return sets


TheSets = Annotated[Sets, Depends(_sets)]


class SetRecord(BaseModel):
    """`scoring_strategy` is the task's scorer."""

    id: str
    task_id: str
    name: str
    item_count: int
    scoring_strategy: str
    created_s: int


class OneSet(BaseModel):
    eval_set: SetRecord


class SetList(BaseModel):
    eval_sets: list[SetRecord]


class Attached(BaseModel):
    idx: int
    field_name: str
    mime: str


class UploadRequest(BaseModel):
    idx: int = Field(ge=0)
    field_name: _FieldName
    mime: str = Field(max_length=128)
    file_size: int = Field(ge=1, le=MOST_BLOB_BYTES)


class UploadAddress(BaseModel):
    """Send the document by PUT to `upload_url`, once, within `expires_in_s`."""

    upload_url: str
    storage_uri: str
    expires_in_s: int


class UploadComplete(BaseModel):
    idx: int = Field(ge=0)
    field_name: _FieldName
    storage_uri: str = Field(max_length=256)
    mime: str = Field(max_length=128)


@router.post("/v1/eval-sets", status_code=201, responses=refusals("task_not_found", "eval_rows_invalid"))
async def create(
    caller: TheCaller,
    catalog: TheCatalog,
    sets: TheSets,
    items: Annotated[UploadFile, File(description="JSON Lines: objects with `input` and `expected`.")],
    task_id: Annotated[str, Form(max_length=128)],
    name: Annotated[str, Form(max_length=128)] = "",
) -> OneSet:
    task = next((task for task in catalog.tasks if task.id == task_id), None)
    if task is None:
        raise ApiRefused("task_not_found", f"There is no task {task_id!r}.")
    found = await run_in_threadpool(rows.read, await items.read())
    if isinstance(found, rows.BadRows):
        raise ApiRefused("eval_rows_invalid", f"Line {found.line}: {found.reason}.")
    scorer = task.scorer if task.scorer in SCORERS else DEFAULT
    made = await run_in_threadpool(
        sets.create, caller.org, task.id, name or f"{task.title}: {len(found)} rows", scorer, found
    )
    return OneSet(eval_set=_record(made))


@router.get("/v1/eval-sets", responses=refusals())
def every(caller: TheCaller, sets: TheSets) -> SetList:
    return SetList(eval_sets=[_record(each) for each in sets.of(caller.org)])


@router.get("/v1/eval-sets/{id}", responses=_UNKNOWN)
def one(id: str, caller: TheCaller, sets: TheSets) -> OneSet:  # noqa: A002
    return OneSet(eval_set=_record(find(sets, caller, id)))


@router.delete("/v1/eval-sets/{id}", status_code=204, responses=_UNKNOWN)
def delete(id: str, caller: TheCaller, sets: TheSets) -> None:  # noqa: A002
    if not sets.delete(caller.org, id):
        raise ApiRefused("eval_set_not_found")


@router.post("/v1/eval-sets/{id}/attach-blob", responses=refusals("eval_set_not_found", "blob_refused"))
async def attach(
    id: str,  # noqa: A002
    caller: TheCaller,
    sets: TheSets,
    file: UploadFile,
    idx: Annotated[int, Form(ge=0)],
    field_name: Annotated[_FieldName, Form()],
    mime: Annotated[str, Form(max_length=128)],
) -> Attached:
    place = await run_in_threadpool(_place, sets, caller, id, idx, field_name, mime)
    await run_in_threadpool(sets.attach, place, await file.read())
    return _attached(place)


@router.post(
    "/v1/eval-sets/{id}/blob-upload-url",
    responses=refusals("invalid_json", "eval_set_not_found", "blob_refused"),
)
def promise(
    id: str,  # noqa: A002
    body: UploadRequest,
    caller: TheCaller,
    sets: TheSets,
    origin: Origin,
    request: Request,
) -> UploadAddress:
    place = _place(sets, caller, id, body.idx, body.field_name, body.mime)
    token = sets.promise(place, body.file_size)
    return UploadAddress(
        upload_url=f"{origin or str(request.base_url).rstrip('/')}/v1/eval-blobs/{token}",
        storage_uri=f"upload:{sha256_hex(token)}",
        expires_in_s=900,
    )


@router.put("/v1/eval-blobs/{token}", status_code=201, responses=refusals("upload_unknown", "body_too_large"))
async def upload(token: str, request: Request, sets: TheSets) -> None:
    """Takes the document. The secret in the URL is the only credential, and valid once."""
    wanted = await run_in_threadpool(sets.promised_bytes, token)
    if wanted is None:
        raise ApiRefused("upload_unknown")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > wanted:
            raise ApiRefused("body_too_large", f"{wanted} bytes were announced.")
    if not await run_in_threadpool(sets.keep_upload, token, bytes(content)):
        raise ApiRefused("upload_unknown")


@router.post(
    "/v1/eval-sets/{id}/blob-upload-complete",
    responses=refusals("invalid_json", "eval_set_not_found", "blob_refused", "upload_unknown"),
)
def complete(id: str, body: UploadComplete, caller: TheCaller, sets: TheSets) -> Attached:  # noqa: A002
    place = _place(sets, caller, id, body.idx, body.field_name, body.mime)
    if not sets.complete(place, body.storage_uri.removeprefix("upload:")):
        raise ApiRefused("upload_unknown")
    return _attached(place)


def find(sets: Sets, caller: ApiCaller, set_id: str) -> EvalSet:
    """Returns the caller's set; another org's set is refused as not found."""
    found = sets.find(caller.org, set_id)
    if found is None:
        raise ApiRefused("eval_set_not_found")
    return found


def _place(sets: Sets, caller: ApiCaller, set_id: str, idx: int, field: str, mime: str) -> DocumentPosition:
    found = find(sets, caller, set_id)
    if idx >= found.row_count:
        raise ApiRefused("blob_refused", f"The set has {found.row_count} rows; there is no row {idx}.")
    if not rows.readable(mime):
        raise ApiRefused("blob_refused", f"No model reads {mime}: send images, text or JSON.")
    return DocumentPosition(set_id, idx, field, mime)


def _attached(place: DocumentPosition) -> Attached:
    return Attached(idx=place.row, field_name=place.field, mime=place.mime)


def _record(found: EvalSet) -> SetRecord:
    facts = asdict(found)
    return SetRecord(
        task_id=facts["task"],
        item_count=facts["row_count"],
        scoring_strategy=facts["scorer"],
        **{name: facts[name] for name in ("id", "name", "created_s")},
    )
