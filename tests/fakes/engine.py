"""A program that a test can start in vLLM's place: same arguments, socket, routes, bytes and start-up log.

It misbehaves by flags (`--help` lists them), given on its command line or in FAKE_ENGINE_FLAGS. It holds no
model: it answers the canary question and otherwise says `word` as often as it was asked to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from engine_adapters import ROUTES, adapter_cards, change_adapters
from engine_answers import INFERENCE, Answer, Refused, answer_of, error_body, metrics_text
from engine_compiles import add_arguments as add_compile_arguments
from engine_compiles import compile_for
from engine_floods import add_arguments as add_flood_arguments
from engine_floods import begin as begin_flood
from engine_sleep import ROUTES as SLEEP_ROUTES
from engine_sleep import add_arguments, change, hold, is_open

VERSION = "0.32.0"
TOO_LONG = (
    "ValueError: To serve at least one request with the model's max seq len ({wanted}), (2.00 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (1.00 GiB). Based on the available memory, the estimated "
    "maximum model length is {fits}. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`."
)
NO_CACHE = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`."
PAST_POSITIONS = (
    "  Value error, User-specified max_model_len ({wanted}) is greater than the derived max_model_len "
    "(max_position_embeddings={takes} or model_max_length=None in model's config.json). To allow overriding this "
    "maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."
)
TRACE = '(EngineCore pid=7)   File "vllm/v1/engine/core.py", line 900, in run_engine_core'
BAD_CALL = (
    "1 validation error for AnthropicContentBlock\ninput\n  Input should be a valid dictionary [type=dict_type, "
    "input_value=[1], input_type=list]\n    For further information visit https://errors.pydantic.dev/2.13/v/dict_type"
)
STARTUP_LOG = (
    "INFO [api_server.py:1772] vLLM server version {version}",
    "INFO [core.py:112] Initializing a V1 LLM engine (v{version}) with config: model='{model}'",
    "INFO [gpu_model_runner.py:4321] Starting to load model {model}...",
    "INFO [default_loader.py:308] Loading weights took 0.41 seconds",
    "INFO [gpu_model_runner.py:4360] Model loading took 0.25 GiB memory and 0.52 seconds",
    "INFO [worker.py:388] Available KV cache memory: 1.00 GiB",
    "INFO [kv_cache_utils.py:1307] CPU KV cache size: 46,592 tokens",
    "INFO [core.py:255] init engine (profile, create kv cache, warmup model) took 0.73 seconds",
)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """vLLM's arguments that matter here and our own flags; whatever else is accepted and ignored."""
    p = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    p.add_argument("--model", default="/nowhere")
    p.add_argument("--served-model-name", nargs="+", default=None)
    p.add_argument("--uds", default=None)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=8000)
    p.add_argument("--max-model-len", type=int, default=2048)
    p.add_argument("--shutdown-timeout", type=float, default=0.0)
    p.add_argument("--override-generation-config", type=json.loads, default={})
    p.add_argument("--enable-lora", action="store_true")
    p.add_argument("--max-lora-rank", type=int, default=16)
    p.add_argument("--ready-after", type=float, default=0.0, help="seconds until the socket is bound")
    p.add_argument("--ready-when", type=Path, default=None, help="no socket before this file is there")
    p.add_argument("--die-after", type=float, default=None, help="crash (exit 0) seconds after ready")
    p.add_argument("--die-at-start", nargs="?", type=int, const=1, default=None, help="exit with this code")
    p.add_argument("--ignore-term", action="store_true", help="SIGTERM changes nothing")
    p.add_argument("--fork-child", action="store_true", help="leave a child in the process group")
    p.add_argument("--no-usage", action="store_true", help="never send usage")
    p.add_argument("--overstate", type=int, default=0, help="tokens that usage says beyond the counters")
    p.add_argument("--stall-mid-stream", action="store_true", help="half of the answer, then silence")
    p.add_argument("--error-then-done", action="store_true", help="half, an error event, [DONE]")
    p.add_argument("--abort-finish", action="store_true", help='finish_reason "abort" with usage')
    p.add_argument("--cut-mid-stream", action="store_true", help="half, then the connection closes")
    p.add_argument(
        "--kv-tokens", type=int, default=None, help="refuse to start with a longer --max-model-len"
    )
    p.add_argument("--positions", type=int, default=None, help="refuse a --max-model-len beyond the model's")
    p.add_argument("--traceback", type=int, default=0, help="lines between a refusal and the log's end")
    p.add_argument("--cut-after-head", action="store_true", help="the head of a stream, then nothing more")
    p.add_argument("--pipeline-parallel-size", type=int, default=1)
    p.add_argument("--least-stages", type=int, default=1, help="out of memory with fewer pipeline stages")
    p.add_argument("--freeze", action="store_true", help="take requests, answer health only")
    p.add_argument("--freeze-when", type=Path, default=None, help="the same while this file is there")
    p.add_argument("--health", type=int, default=200, help="status of /health")
    p.add_argument("--hang-up-next", action="store_true", help="close instead of the next answer")
    p.add_argument("--die-of", default=None, help="crash (exit 0) at a request that holds this word")
    p.add_argument("--wrong-text", action="store_true", help="fail the canary")
    p.add_argument("--dtype", default="auto")
    p.add_argument("--wrong-in", default=None, help="fail the canary where this is the --dtype")
    p.add_argument("--leak-canary", action="store_true", help="say --model in errors, headers and metrics")
    p.add_argument(
        "--refuse-late", action="store_true", help="400 to what was generated whole, as for a bad tool call"
    )
    p.add_argument("--http-error", type=int, default=None, help="status of every inference answer")
    p.add_argument("--slow-token", type=float, default=0.0, help="seconds between tokens")
    p.add_argument("--tokens", type=int, default=None, help="tokens of an answer (default: max_tokens or 16)")
    add_arguments(p)
    add_compile_arguments(p)
    add_flood_arguments(p)
    flags, _ignored = p.parse_known_args(shlex.split(os.environ.get("FAKE_ENGINE_FLAGS", "")) + arguments)
    flags.name = (flags.served_model_name or [flags.model])[0]
    flags.adapters, flags.asleep = {}, False
    return flags


class Engine:
    """What all connections share: the flags, the counters, and whether a stop was asked for."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.running = 0
        self.heard: deque[str] = deque(maxlen=100)
        self.aborted = 0
        self.finished = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.stopping = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.holds = False
        self.held: list[Callable[[], None]] = []

    def hold(self) -> None:
        """What is asked from now on is taken, and answered once `let_go` is called."""
        self.holds = True

    def let_go(self) -> None:
        self.holds, held, self.held = False, self.held, []
        for answer in held:
            answer()

    def begun(self) -> None:
        self.running += 1
        self.idle.clear()

    def ended(self, aborted: bool = False) -> None:
        self.running -= 1
        self.aborted += aborted
        self.finished += not aborted
        if not self.running:
            self.idle.set()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: keep-alive, one request at a time, chunked streams."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.flags = engine.flags
        self.buffer = b""
        self.answer: Answer | None = None
        self.timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self.busy = False
        self.writable = True
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        if self.busy:
            self.busy = False
            self.engine.ended(aborted=True)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self.answer and self.timer is None:
            self.step()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy:
            self.next_request()

    def next_request(self) -> None:
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        method, path, _ = line.split(" ", 2)
        path, _, query = path.partition("?")
        self.respond(method, path, query, rest[:length])
        if headers.get("connection") == "close" and not self.busy:
            self.transport.close()

    def respond(self, method: str, path: str, query: str, body: bytes) -> None:
        flags = self.flags
        self.engine.heard.append(f"{method} {path}")
        if path == "/health":
            self.send(flags.health, b"")
        elif path == "/version":
            self.send_json(200, {"version": VERSION})
        elif path == "/metrics":
            self.send(200, metrics_text(self.engine), "text/plain; version=1.0.0; charset=utf-8")
        elif path == "/v1/models":
            card = {"id": flags.name, "object": "model", "root": flags.model, "parent": None}
            self.send_json(200, {"object": "list", "data": [card, *adapter_cards(flags)]})
        elif method == "POST" and path in ROUTES and flags.enable_lora and allows_lora():
            status, said = change_adapters(path, json.loads(body), flags)
            self.send_json(status, error_body(status, said, flags)) if status != 200 else self.send(
                200, said.encode(), "text/plain"
            )
        elif path in SLEEP_ROUTES and is_open():
            if (said := change(path, query, flags)) is not None:
                self.send_json(*said)
        elif method != "POST" or path not in INFERENCE:
            self.send_json(404, {"detail": "Not Found"})
        elif self.engine.stopping.is_set():
            self.send_json(500, error_body(500, "Engine is shutting down", flags))
        elif not (flags.freeze or (flags.freeze_when and flags.freeze_when.exists())):
            self.infer(path, body)

    def infer(self, path: str, body: bytes) -> None:
        flags = self.flags
        if flags.asleep or (flags.die_of and flags.die_of.encode() in body):
            log("ERROR EngineCore died unexpectedly")
            os._exit(0)
        compile_for(body, flags)
        if flags.hang_up_next:
            flags.hang_up_next = False
            self.transport.close()
            return
        if flags.http_error:
            self.send_json(flags.http_error, error_body(flags.http_error, "asked to fail", flags))
            return
        try:
            answer = answer_of(path, body, flags)
        except Refused as refusal:
            self.send_json(refusal.status, error_body(refusal.status, refusal.message, flags, refusal.param))
            return
        self.busy = True
        self.engine.begun()
        self.engine.prompt_tokens += answer.prompt_tokens * answer.prompt_copies
        self.answer = answer
        if self.engine.holds:
            self.engine.held.append(self.speak)
        else:
            self.speak()

    def speak(self) -> None:
        answer, flags = self.answer, self.flags
        if answer is None or not self.busy:  # its caller has left
            return
        if answer.streamed:
            self.head(200, "text/event-stream; charset=utf-8", "transfer-encoding: chunked")
            if flags.cut_after_head:
                self.transport.close()
                return
            self.step()
        else:
            self.timer = self.loop.call_later(flags.slow_token * answer.tokens, self.whole)

    def whole(self) -> None:
        answer, self.timer = self.answer, None
        assert answer is not None
        if self.flags.cut_mid_stream:
            body = json.dumps(answer.body()).encode()
            self.head(200, "application/json", f"content-length: {len(body)}")
            self.transport.write(body[: len(body) // 2])
            self.transport.close()
            return
        self.engine.generation_tokens += answer.tokens
        self.finish()
        late = error_body(400, BAD_CALL, self.flags)
        self.send_json(*((400, late) if self.flags.refuse_late else (200, answer.body())))
        self.next_request()

    def step(self) -> None:
        """Write one token's event, then wait for the next turn; a full pipe waits for resume_writing."""
        answer, self.timer = self.answer, None
        if answer is None or not self.writable:
            return
        event = answer.next_event()
        if event is None:
            self.misbehave_or_end(answer)
            return
        self.engine.generation_tokens += answer.speaking * answer.choices
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        delay = self.flags.slow_token
        self.timer = self.loop.call_later(delay, self.step) if delay else self.loop.call_soon(self.step)

    def misbehave_or_end(self, answer: Answer) -> None:
        if self.flags.stall_mid_stream:
            return
        if self.flags.cut_mid_stream:
            self.transport.close()
            return
        self.finish()
        last = b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in answer.last_events())
        self.transport.write(last + b"0\r\n\r\n")
        self.next_request()

    def finish(self) -> None:
        self.busy, self.answer = False, None
        self.engine.ended()

    def send_json(self, status: int, body: dict[str, Any]) -> None:
        self.send(status, json.dumps(body, separators=(",", ":")).encode())

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.head(status, kind, f"content-length: {len(body)}")
        self.transport.write(body)

    def head(self, status: int, kind: str, framing: str) -> None:
        leak = f"x-model: {self.flags.model}\r\n" if self.flags.leak_canary else ""
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        self.transport.write(
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\ndate: {date}\r\nserver: uvicorn\r\n"
            f"content-type: {kind}\r\nvary: Origin\r\n{leak}{framing}\r\n\r\n".encode()
        )


def allows_lora() -> bool:
    return os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1"


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def refuse(words: str, flags: argparse.Namespace) -> None:
    """End the start with these words, above a traceback of `--traceback` lines, as vLLM does."""
    for line in ("ERROR [core.py:900] EngineCore failed to start.", words, *[TRACE] * flags.traceback):
        log(line)
    os._exit(1)


def start_up(flags: argparse.Namespace) -> None:
    """Print vLLM's lines over `--ready-after` seconds; SIGTERM is swallowed meanwhile, as vLLM does."""
    signal.signal(signal.SIGTERM, lambda *_: log("INFO [launcher.py:90] signal while starting"))
    if flags.fork_child and os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(3600)
    hold(flags)
    while flags.ready_when and not flags.ready_when.exists():
        time.sleep(0.02)
    for i, line in enumerate(STARTUP_LOG):
        log(line.format(version=VERSION, model=flags.model))
        time.sleep(flags.ready_after / len(STARTUP_LOG))
        if flags.positions is not None and flags.max_model_len > flags.positions:
            refuse(PAST_POSITIONS.format(wanted=flags.max_model_len, takes=flags.positions), flags)
        if flags.kv_tokens is not None and flags.max_model_len > flags.kv_tokens and i == 5:
            refuse(TOO_LONG.format(wanted=flags.max_model_len, fits=flags.kv_tokens), flags)
        if flags.pipeline_parallel_size < flags.least_stages and i == 4:
            refuse(NO_CACHE, flags)
        if flags.die_at_start is not None and i == 2:
            log("ERROR [core.py:900] EngineCore failed to start.")
            log(f"OSError: unable to load weights from {flags.model}")
            os._exit(flags.die_at_start)


async def serve(flags: argparse.Namespace) -> None:
    loop, engine = asyncio.get_running_loop(), Engine(flags)
    if flags.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, engine.stopping.set)
    loop.add_signal_handler(signal.SIGINT, engine.stopping.set)
    if flags.uds:
        server = await loop.create_unix_server(lambda: Connection(engine), flags.uds, backlog=4096)
    else:
        server = await loop.create_server(lambda: Connection(engine), flags.host, flags.port, backlog=4096)
    log("INFO:     Application startup complete.")
    begin_flood(flags)
    if flags.die_after is not None:
        loop.call_later(flags.die_after, lambda: (log("ERROR EngineCore died unexpectedly"), os._exit(0)))
    await engine.stopping.wait()
    if flags.shutdown_timeout and not engine.idle.is_set():
        await asyncio.wait([loop.create_task(engine.idle.wait())], timeout=flags.shutdown_timeout)
    server.close()


def main() -> None:
    flags = parse_arguments(sys.argv[1:])
    start_up(flags)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(flags))
    else:
        uvloop.run(serve(flags))
    os._exit(0)


if __name__ == "__main__":
    main()
