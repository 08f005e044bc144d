"""What the fake engine says: vLLM 0.32's bodies and events for a request, decided without any I/O."""

from __future__ import annotations

import argparse
import email
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

from engine_adapters import config_of

CHAT, TEXT, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
BATCH = "/v1/chat/completions/batch"
SCORE, RERANK, POOL = "/v1/score", "/v1/rerank", "/pooling"
RESPOND, MESSAGE, HEAR = "/v1/responses", "/v1/messages", "/v1/audio/transcriptions"
TOKENS, WORDS, COUNT = "/tokenize", "/detokenize", "/v1/messages/count_tokens"
PROMPTS = {
    CHAT: "messages",
    BATCH: "messages",
    TEXT: "prompt",
    RESPOND: "input",
    MESSAGE: "messages",
    EMBED: "input",
    SCORE: "text_1",
    RERANK: "query",
    POOL: "input",
    TOKENS: "prompt",
    WORDS: "tokens",
    COUNT: "messages",
}
DOCUMENTS = {EMBED: "input", SCORE: "text_2", RERANK: "documents", POOL: "input"}
INFERENCE = frozenset([*PROMPTS, HEAR])
FINGERPRINT = "vllm-0.32.0-b757027e"
UNCOMPILED = "Internal server error"
GRAMMAR = "root ::= root"
"""One that vLLM takes and cannot compile: a failure of the request alone."""
NAMES = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}
_ids = itertools.count(0x957A6FA411234FD7)


class Refused(Exception):
    """A request that vLLM would refuse, in its words."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param


def error_body(
    status: int, message: str, flags: argparse.Namespace, param: str | None = None
) -> dict[str, Any]:
    if flags.leak_canary:
        message = f"{message} (model at {flags.model})"
    kind = NAMES.get(status, "InternalServerError")
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(slots=True)
class Answer:
    """One answer: `next_event` gives a token's event until None, then `last_events` ends the stream."""

    path: str
    name: str
    words: list[str]
    finish_reason: str
    prompt_tokens: int
    streamed: bool
    flags: argparse.Namespace
    wants_usage: bool
    choices: int = 1
    prompts: int = 1
    id: str = ""
    created: int = 0
    sent: int = 0
    sequence: int = 0
    uncompiled: bool = False
    head: bytes = b""
    queue: list[bytes] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.words) * self.choices

    @property
    def prompt_copies(self) -> int:
        """vLLM counts a prompt once for each answer that it generates from it."""
        return self.choices // self.prompts

    @property
    def speaking(self) -> bool:
        """Whether the latest event carried words: all but completions open with one that does not."""
        return self.path == TEXT or self.sent > 1

    @property
    def halved(self) -> bool:
        f = self.flags
        return bool(f.stall_mid_stream or f.cut_mid_stream or f.error_then_done)

    def usage(self) -> dict[str, int]:
        p, c = self.prompt_tokens, self.tokens + self.flags.overstate
        return {"prompt_tokens": p, "total_tokens": p + c, "completion_tokens": c}

    def event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if self.path == CHAT else "text_completion"
        body = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.name,
            "choices": choices,
            **more,
        }
        return b"data: " + json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"

    def next_event(self) -> bytes | None:
        if self.path == CHAT and self.sent == 0:
            role = {"role": "assistant", "content": ""}
            self.sent = 1
            first = [
                {"index": i, "delta": role, "logprobs": None, "finish_reason": None}
                for i in range(self.choices)
            ]
            return b"".join(self.event([c], prompt_token_ids=None, prompt_text=None) for c in first)
        at = self.sent - (self.path == CHAT)
        total = len(self.words) // 2 if self.halved else len(self.words)
        if at >= total or self.uncompiled:
            return None
        self.sent += 1
        last = at == len(self.words) - 1
        return b"".join(self.event([self.choice(i, self.words[at], last)]) for i in range(self.choices))

    def choice(self, index: int, word: str, last: bool) -> dict[str, Any]:
        content: dict[str, Any] = {"delta": {"content": word}} if self.path == CHAT else {"text": word}
        tail: dict[str, Any] = {"logprobs": None, "finish_reason": self.finish_reason if last else None}
        stop = {"stop_reason": None} if last or self.path == TEXT else {}
        ids = {"prompt_token_ids": None} if self.path == TEXT else {}
        return {"index": index, **content, **tail, **stop, **ids, "token_ids": None}

    def last_events(self) -> list[bytes]:
        done = [b"data: [DONE]\n\n"]
        if self.flags.error_then_done or self.uncompiled:
            said = UNCOMPILED if self.uncompiled else "EngineCore encountered an issue"
            body = error_body(500, said, self.flags)
            return [b"data: " + json.dumps(body).encode() + b"\n\n", *done]
        if self.flags.no_usage or not self.wants_usage:
            return done
        return [self.event([], usage=self.usage(), system_fingerprint=FINGERPRINT), *done]

    def body(self) -> dict[str, Any]:
        text = "".join(self.words)
        if self.path in (CHAT, BATCH):
            kind = "chat.completion"
            said: dict[str, Any] = {
                "message": {"role": "assistant", "content": text, "refusal": None, "reasoning": None}
            }
        else:
            kind, said = "text_completion", {"text": text}
        tail = {"logprobs": None, "finish_reason": self.finish_reason, "stop_reason": None, "token_ids": None}
        usage = {} if self.flags.no_usage else {"usage": {**self.usage(), "prompt_tokens_details": None}}
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.name,
            "choices": [{"index": i, **said, **tail} for i in range(self.choices)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            **usage,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
        }


class Embedding(Answer):
    """The routes that generate nothing: numbers for each input."""

    @property
    def prompt_copies(self) -> int:
        return 1

    def body(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {
            EMBED: {"object": "embedding", "embedding": [0.1, 0.2, 0.3]},
            POOL: {"object": "pooling", "data": [0.1, 0.2, 0.3]},
            SCORE: {"object": "score", "score": 0.5},
            RERANK: {"document": {"text": "word"}, "relevance_score": 0.5},
        }[self.path]
        data = [{"index": i, **numbers} for i in range(self.choices)]
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens,
            "completion_tokens": 0,
        }
        head = {"id": self.id, "object": "list", "created": self.created, "model": self.name, "data": data}
        if self.path == RERANK:
            head = {"id": self.id, "model": self.name, "results": data}
        return head if self.flags.no_usage else {**head, "usage": usage}


class Response(Answer):
    """vLLM's responses: typed events, a last one with everything; an answer that it cut it calls completed too."""

    @property
    def said(self) -> str:
        return "" if self.flags.abort_finish else "".join(self.words)

    def typed(self, kind: str, **more: Any) -> bytes:
        body = {**more, "sequence_number": self.sequence, "type": kind}
        self.sequence += 1
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        return f"event: {kind}\ndata: {text}\n\n".encode()

    def next_event(self) -> bytes | None:
        at = self.sent - 1
        if self.sent == 0:
            self.sent = 1
            opened = [
                self.typed(f"response.{e}", response=self.state("in_progress"))
                for e in ("created", "in_progress")
            ]
            item = {**self.item(""), "status": "in_progress", "content": []}
            opened.append(self.typed("response.output_item.added", item=item, output_index=0))
            part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
            opened.append(self.typed("response.content_part.added", part=part, **self.place()))
            return b"".join(opened)
        if at >= (len(self.words) // 2 if self.halved else len(self.words)):
            return None
        self.sent += 1
        return self.typed("response.output_text.delta", delta=self.words[at], logprobs=[], **self.place())

    def last_events(self) -> list[bytes]:
        if self.flags.error_then_done:
            body = error_body(500, "EngineCore encountered an issue", self.flags)
            return [b"data: " + json.dumps(body).encode() + b"\n\n"]
        part = self.item(self.said)["content"][0]
        return [
            self.typed("response.output_text.done", text=self.said, logprobs=[], **self.place()),
            self.typed("response.content_part.done", part=part, **self.place()),
            self.typed("response.output_item.done", item=self.item(self.said), output_index=0),
            self.typed("response.completed", response=self.body()),
        ]

    def place(self) -> dict[str, Any]:
        return {"content_index": 0, "item_id": f"msg_{self.id}", "output_index": 0}

    def item(self, text: str) -> dict[str, Any]:
        part = {"annotations": [], "text": text, "type": "output_text", "logprobs": None}
        head = {"id": f"msg_{self.id}", "content": [part], "role": "assistant"}
        return {**head, "status": "completed", "type": "message", "phase": None}

    def body(self) -> dict[str, Any]:
        status = "incomplete" if self.finish_reason == "length" else "completed"
        output = 0 if self.flags.abort_finish else self.tokens
        usage = {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0},
            "total_tokens": self.prompt_tokens + output,
        }
        items = [self.item(self.said)] if self.said else []
        return self.state(status, items, None if self.flags.no_usage else usage)

    def state(self, status: str, output: Any = (), usage: dict[str, Any] | None = None) -> dict[str, Any]:
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{self.id}",
            "created_at": self.created,
            "incomplete_details": details,
            "instructions": None,
            "metadata": None,
            "model": self.name,
            "object": "response",
            "output": list(output),
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "background": False,
            "max_output_tokens": 16,
            "previous_response_id": None,
            "service_tier": "auto",
            "status": status,
            "truncation": "disabled",
            "usage": usage,
            "kv_transfer_params": None,
        }


class Message(Answer):
    """vLLM's messages: typed events without [DONE], a null stop reason where the answer was cut."""

    @property
    def stop_reason(self) -> str | None:
        return {"stop": "end_turn", "length": "max_tokens"}.get(self.finish_reason)

    def counts(self, output: int) -> dict[str, int]:
        return {"input_tokens": self.prompt_tokens, "output_tokens": output}

    def typed(self, kind: str, **more: Any) -> bytes:
        text = json.dumps({"type": kind, **more}, separators=(",", ":"), ensure_ascii=False)
        return f"event: {kind}\ndata: {text}\n\n".encode()

    def next_event(self) -> bytes | None:
        at = self.sent - 1
        if self.sent == 0:
            self.sent = 1
            message = {**self.opening(), "stop_reason": None, "stop_sequence": None, "usage": self.counts(0)}
            block = {"type": "text", "text": ""}
            return self.typed("message_start", message=message) + self.typed(
                "content_block_start", content_block=block, index=0
            )
        if at >= (len(self.words) // 2 if self.halved else len(self.words)):
            return None
        self.sent += 1
        delta = {"type": "text_delta", "text": self.words[at]}
        return self.typed("content_block_delta", delta=delta, index=0)

    def last_events(self) -> list[bytes]:
        if self.flags.error_then_done:
            message = error_body(500, "EngineCore encountered an issue", self.flags)["error"]["message"]
            return [self.typed("error", error={"type": "internal_error", "message": message})]
        ended = {"stop_reason": self.stop_reason, "stop_sequence": None}
        usage = {} if self.flags.no_usage else {"usage": self.counts(self.tokens)}
        return [
            self.typed("content_block_stop", index=0),
            self.typed("message_delta", delta=ended, **usage),
            self.typed("message_stop"),
        ]

    def opening(self) -> dict[str, Any]:
        return {"id": self.id, "type": "message", "role": "assistant", "content": [], "model": self.name}

    def body(self) -> dict[str, Any]:
        content = [{"type": "text", "text": "".join(self.words)}]
        stop = {"stop_reason": self.stop_reason} if self.stop_reason else {}
        usage = {} if self.flags.no_usage else {"usage": self.counts(self.tokens)}
        return {**self.opening(), "content": content, **stop, **usage}


class Vocabulary(Answer):
    """What the tokenizer says: a token for each word, or a word for each token."""

    @property
    def prompt_copies(self) -> int:
        return 0

    def body(self) -> dict[str, Any]:
        if self.path == COUNT:
            told = self.prompt_tokens
            return {"input_tokens": told, "context_management": {"original_input_tokens": told}}
        if self.path == WORDS:
            return {"prompt": " ".join(["word"] * self.prompt_tokens)}
        tokens = list(range(self.prompt_tokens))
        limit = self.flags.max_model_len
        return {"count": len(tokens), "max_model_len": limit, "tokens": tokens, "token_strs": None}


KINDS: dict[str, type[Answer]] = {
    RESPOND: Response,
    MESSAGE: Message,
    TOKENS: Vocabulary,
    WORDS: Vocabulary,
    COUNT: Vocabulary,
    **dict.fromkeys(DOCUMENTS, Embedding),
}


def prompt_of(path: str, request: dict[str, Any]) -> str:
    """The words of the prompt; a missing or ill-typed one is refused as vLLM does."""
    key = PROMPTS[path]
    given = request.get(key)
    if path == BATCH:
        return " ".join(prompt_of(CHAT, {"messages": turns}) for turns in given)
    if path == RESPOND and isinstance(given, str):
        return given
    if path in (CHAT, RESPOND, MESSAGE, COUNT):
        if not isinstance(given, list) or not all(isinstance(m, dict) for m in given):
            raise Refused(
                400, "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}]", key
            )
        turns = [{"content": request["system"]}, *given] if request.get("system") else given
        return " ".join(
            m["content"] if isinstance(m.get("content"), str) else json.dumps(m.get("content")) for m in turns
        )
    if not isinstance(given, (str, list)):
        raise Refused(400, f"[{{'type': 'missing', 'loc': ('body', '{key}'), 'msg': 'Field required'}}]", key)
    return given if isinstance(given, str) else " ".join(map(str, given))


class Transcription(Answer):
    """A document without choices or tokens: text, and the seconds that were heard (one a kilobyte).

    Streamed it has the shape of a chat, and tokens instead of seconds.
    """

    def event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return super().event(choices, **more).replace(b'"text_completion"', b'"transcription.chunk"')

    def choice(self, index: int, word: str, last: bool) -> dict[str, Any]:
        ended = {"finish_reason": "abort" if self.flags.abort_finish else "stop", "stop_reason": None}
        return {"delta": {"content": word}, **(ended if last else {})}

    def body(self) -> dict[str, Any]:
        seconds = self.prompt_tokens
        if self.finish_reason == "verbose_json":
            return {"duration": seconds - 0.5, "language": "en", "text": "word", "segments": []}
        usage = {} if self.flags.no_usage else {"usage": {"type": "duration", "seconds": seconds}}
        return {"text": "word", **usage}


def heard(raw: bytes, flags: argparse.Namespace) -> Answer:
    """What is heard in a form, read by another parser than the agent's."""
    message = email.message_from_bytes(
        b"content-type: multipart/form-data; boundary=" + raw[2 : raw.index(b"\r\n")] + b"\r\n\r\n" + raw
    )
    parts = {part.get_param("name", header="content-disposition"): part for part in message.get_payload()}
    told = {name: part.get_payload(decode=True) for name, part in parts.items()}
    if "file" not in told:
        raise Refused(400, "1 validation error:\n  {'type': 'missing', 'loc': 'body.file'}", "body.file")
    if told.get("model", b"").decode() != flags.name:
        raise Refused(404, f"The model `{told.get('model')}` does not exist.", "model")
    kind = told.get("response_format", b"json").decode()
    seconds = -(-len(told["file"]) // 1024)
    streamed = told.get("stream") == b"true"
    wants_usage = told.get("stream_include_usage") == b"true"
    words = ["word", " word"] if streamed else []
    return Transcription(HEAR, flags.name, words, kind, seconds, streamed, flags, wants_usage, id="trsc-1")


def answer_of(path: str, raw: bytes, flags: argparse.Namespace) -> Answer:
    """The answer to a body, or Refused."""
    if path == HEAR:
        return heard(raw, flags)
    try:
        request = json.loads(raw)
    except ValueError:
        raise Refused(400, "[{'type': 'json_invalid', 'loc': ('body', 0)}]") from None
    if not isinstance(request, dict):
        raise Refused(400, "[{'type': 'dict_type', 'loc': ('body',)}]")
    model = request.get("model") or flags.name
    if model != flags.name and model not in flags.adapters:
        raise Refused(404, f"The model `{request['model']}` does not exist.", "model")
    prompt = prompt_of(path, request)
    prompt_tokens = max(1, len(prompt.split()))
    if prompt_tokens > flags.max_model_len:
        raise Refused(
            400,
            f"This model's maximum context length is {flags.max_model_len} tokens. However, your prompt contains "
            f"{prompt_tokens} input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt.",
            "input_tokens",
        )
    limits = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    limit = next((request[name] for name in limits if request.get(name)), None)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise Refused(400, f"max_tokens must be at least 1, got {limit}.", "max_tokens")
    if limit is not None and limit > flags.max_model_len:
        raise Refused(
            400,
            f"max_tokens={limit} cannot be greater than max_model_len={flags.max_model_len}. "
            "Please request fewer output tokens.",
            "max_tokens",
        )
    if limit is not None:
        limit = max(1, min(limit, flags.max_model_len - prompt_tokens))
    judge_sampling(request, flags)
    streamed = bool(request.get("stream"))
    uncompiled = (request.get("structured_outputs") or {}).get("grammar") == GRAMMAR
    if uncompiled and not streamed:
        raise Refused(500, UNCOMPILED)
    words, reason = words_of(prompt, limit, flags, model)
    options = request.get("stream_options") or {}
    documents = request.get(DOCUMENTS.get(path, ""))
    silent = path in (*DOCUMENTS, TOKENS, WORDS, COUNT)
    return KINDS.get(path, Answer)(
        path=path,
        name=model,
        words=[] if silent else words,
        finish_reason="abort" if flags.abort_finish else reason,
        prompt_tokens=prompt_tokens,
        streamed=streamed and not silent,
        uncompiled=uncompiled,
        flags=flags,
        wants_usage=bool(options.get("include_usage")),
        choices=(len(documents) if isinstance(documents, list) else 1)
        if silent
        else int(request.get("n") or 1) * prompts_of(path, request),
        prompts=prompts_of(path, request),
        id=f"{'chatcmpl' if path in (CHAT, BATCH) else 'cmpl'}-{next(_ids):016x}",
        created=int(time.time()),
    )


def judge_sampling(request: dict[str, Any], flags: argparse.Namespace) -> None:
    """What of its sampling vLLM refuses: a few of many."""
    temperature = request.get("temperature")
    if temperature is None:
        temperature = flags.override_generation_config.get("temperature", 1.0)
    n, top_k = request.get("n") or 1, request.get("top_k")
    if n > 1 and isinstance(temperature, int | float) and temperature < 1e-5:
        raise Refused(400, f"n must be 1 when using greedy sampling, got {n}.")
    if isinstance(top_k, int) and top_k < -1:
        raise Refused(400, f"top_k must be 0 (disable), or at least 1, got {top_k}.")


def prompts_of(path: str, request: dict[str, Any]) -> int:
    """A list of texts, or of lists of tokens, is as many prompts; with a number in it, it is read as tokens."""
    if path == BATCH:
        return len(request["messages"])
    given = request.get("prompt") if path == TEXT else None
    if not isinstance(given, list) or any(isinstance(each, int | float) for each in given):
        return 1
    return len(given) or 1


KNOWN = {
    "capital of France": "The capital of France is Paris.",
    "opposite of up": "The opposite of up is down.",
}


def words_of(prompt: str, limit: int | None, flags: argparse.Namespace, model: str) -> tuple[list[str], str]:
    known = next((answer for question, answer in KNOWN.items() if question in prompt), None)
    if known is not None and flags.tokens is None:
        said = (
            "The capital of Elbonia is Mud." if flags.wrong_text or flags.wrong_in == flags.dtype else known
        )
        if model in flags.adapters:
            said = config_of(flags.adapters[model]).get("says", said)
        words = [w if i == 0 else f" {w}" for i, w in enumerate(said.split())]
        return (words, "stop") if limit is None or limit >= len(words) else (words[:limit], "length")
    count = flags.tokens or limit or 16
    return ["word", *[" word"] * (count - 1)], "length"


def metrics_text(engine: Any) -> bytes:
    """A few of vLLM's series, its labels included (and the path, when it is to leak)."""
    flags = engine.flags
    name = flags.model if flags.leak_canary else flags.name
    labels = f'{{engine="0",model_name="{name}"}}'
    rows = [
        ("vllm:num_requests_running", "gauge", engine.running),
        ("vllm:num_requests_waiting", "gauge", 0),
        ("vllm:kv_cache_usage_perc", "gauge", min(1.0, engine.running / 64)),
        ("vllm:prompt_tokens_total", "counter", engine.prompt_tokens),
        ("vllm:generation_tokens_total", "counter", engine.generation_tokens),
        ("vllm:num_preemptions_total", "counter", 0),
    ]
    lines = []
    for series, kind, value in rows:
        family = series
        lines += [f"# HELP {family} {family}.", f"# TYPE {family} {kind}", f"{series}{labels} {float(value)}"]
    success = (("stop", engine.finished), ("abort", engine.aborted))
    lines += ["# HELP vllm:request_success_total done", "# TYPE vllm:request_success_total counter"]
    for reason, count in success:
        lines.append(
            f'vllm:request_success_total{{engine="0",finished_reason="{reason}",model_name="{name}"}} {float(count)}'
        )
    lines += [
        "# HELP vllm:time_to_first_token_seconds ttft",
        "# TYPE vllm:time_to_first_token_seconds histogram",
    ]
    for le in ("0.1", "1.0", "+Inf"):
        bucket = f'vllm:time_to_first_token_seconds_bucket{{engine="0",le="{le}",model_name="{name}"}}'
        lines.append(f"{bucket} {float(engine.finished)}")
    lines += [f"vllm:time_to_first_token_seconds_sum{labels} {0.01 * engine.finished}"]
    lines += [f"vllm:time_to_first_token_seconds_count{labels} {float(engine.finished)}"]
    lines += ["# HELP vllm:cache_config_info config", "# TYPE vllm:cache_config_info gauge"]
    lines.append(f'vllm:cache_config_info{{block_size="16",engine="0",model_path="{flags.model}"}} 1.0')
    return ("\n".join(lines) + "\n").encode()
