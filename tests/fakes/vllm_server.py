"""A fake of vLLM's HTTP wire: programmable answers, delays and faults per model name.

The wire contract tests (`tests/contract`) run against this and against real vLLM, so it cannot drift. Start
it with `async with FakeVllm().serving() as url`, or as a process of its own:
`python -m tests.fakes.vllm_server --port 8000 --model m-fake`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiohttp import web

DEFAULT_ANSWER = (
    '{"answer":"A full refund is possible within 30 days of a yearly renewal.","citations":[1],'
    '"intent":"billing","escalate":false,"escalation_reason":"none","follow_up":""}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the fake does with a request for one model."""

    #: The text, or a function of the request body that gives it, now or later.
    answer: str | Callable[[Mapping[str, Any]], str | Awaitable[str]] = field(
        default=lambda body: _default_answer(body)
    )
    #: Characters per streamed chunk.
    chunk_chars: int = 4
    first_token_s: float = 0.0
    between_tokens_s: float = 0.0
    finish_reason: str = "stop"
    #: Answer with this status instead, with `retry_after` as a header.
    status: int = 200
    retry_after: str | None = None
    message: str = "programmed fault"
    #: After so many chunks, counted from 0: drop the connection, fall silent, send what is not JSON, send
    #: an error event.
    reset_after: int | None = None
    stall_after: int | None = None
    garbage_after: int | None = None
    error_after: int | None = None
    #: End without `[DONE]`.
    no_done: bool = False
    #: Send a comment before each chunk, as `--sse-keep-alive-interval` does.
    keep_alive: bool = False
    #: Write bytes one at a time.
    one_byte: bool = False
    #: Do not answer at all.
    hang: bool = False
    cached_tokens: int = 0
    #: Whose log-probabilities it gives: two names of the same weights give the same.
    weights: str = "base"

    @property
    def is_plain(self) -> bool:
        """Nothing happens between two chunks, so they may leave in one write: load tests measure us, not
        the fake."""
        faults = (self.reset_after, self.stall_after, self.garbage_after, self.error_after)
        return faults == (None,) * 4 and not (self.between_tokens_s or self.one_byte or self.keep_alive)


@dataclass(slots=True)
class FakeVllm:
    """State of one fake engine; `app()` is its wire."""

    models: dict[str, Behaviour] = field(default_factory=lambda: {"m-fake": Behaviour()})
    #: Adapter name -> path, as loaded over the wire.
    adapters: dict[str, str] = field(default_factory=dict)
    #: Bodies and headers of chat requests, in order.
    requests: list[Mapping[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    running: int = 0
    aborted: int = 0
    #: Tokens (here: words) that a prompt may have.
    max_model_len: int = 2048
    #: Turn the recording off for load tests.
    record: bool = True
    listed: int = 0
    #: Paths of adapters that exist; None accepts any.
    adapter_paths: frozenset[str] | None = None
    #: Paths of adapters that cannot be read.
    broken_paths: frozenset[str] = frozenset()
    #: What the adapter of a path writes; one that is not named says its name.
    written: dict[str, Behaviour] = field(default_factory=dict)
    #: Faults: names that it accepts and answers as the base, or with the adapter of another path, or that it
    #: lists and fails.
    ignored: set[str] = field(default_factory=set)
    confused: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    #: How far two readings of the same prompt differ, in nats.
    noise: float = 0.0
    #: Its process began then; `restart` makes it another one.
    started: float = 1_700_000_000.0
    build: str = "0.0.fake"
    #: Requests that ask for log-probabilities, which are not among `requests`.
    probes: int = 0
    loads_adapters: bool = True
    _served: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    _busy: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    def program(self, model: str, **changes: Any) -> None:
        """Change what a model does, adding the model if it is new."""
        self.models[model] = replace(self.models.get(model, Behaviour()), **changes)

    def restart(self) -> None:
        """Another process: what was loaded at run time is gone."""
        self.adapters.clear()
        self.started += 1

    def app(self) -> web.Application:
        """The wire."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        if self.loads_adapters:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        return app

    @asynccontextmanager
    async def serving(self, *, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback; gives the base URL."""
        # The handler is cancelled when its client leaves, as vLLM aborts.
        runner = web.AppRunner(self.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def busy(self) -> None:
        """Wait until a request runs."""
        await self._busy.wait()

    async def idle(self) -> None:
        """Wait until no request runs."""
        await self._idle.wait()

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _request: web.Request) -> web.Response:
        self.listed += 1
        base = next(iter(self.models), None)
        names = [(name, name, None) for name in self.models]
        names += [(name, path, base) for name, path in self.adapters.items()]
        return web.json_response(
            {
                "object": "list",
                "data": [
                    {
                        "id": name,
                        "object": "model",
                        "created": 0,
                        "owned_by": "vllm",
                        "root": root,
                        "parent": parent,
                    }
                    for name, root, parent in names
                ],
            }
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except json.JSONDecodeError:
            return _error(400, "Bad Request", "body is not JSON")
        if body.get("logprobs"):
            self.probes += 1
        elif self.record:
            self.requests.append(body)
            self.headers.append(dict(request.headers))
        name = body.get("model") or next(iter(self.models), "")
        behaviour = self.models.get(name)
        if behaviour is None and name in self.adapters:
            behaviour = self._adapted(name)
        if behaviour is None:
            return _error(404, "NotFoundError", f"The model `{name}` does not exist.", param="model")
        if not isinstance(body.get("messages"), list):
            return _error(400, "Bad Request", "body.messages: Input should be a valid list")
        if sum(len(str(message["content"]).split()) for message in body["messages"]) > self.max_model_len:
            message = f"This model's maximum context length is {self.max_model_len} tokens."
            return _error(400, "BadRequestError", message, param="input_tokens")
        if problem := _schema_problem(body):
            return _error(400, "BadRequestError", f"Failed to transform json schema: {problem}")
        if behaviour.status != 200:
            headers = {"retry-after": behaviour.retry_after} if behaviour.retry_after else {}
            return _error(behaviour.status, "ProgrammedError", behaviour.message, headers=headers)
        self.running += 1
        self._idle.clear()
        self._busy.set()
        try:
            if behaviour.hang:
                await asyncio.Event().wait()
            self._served += 1
            return await self._generate(request, body, name, behaviour)
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted += 1
            raise
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()
                self._busy.clear()

    async def _generate(
        self, request: web.Request, body: Mapping[str, Any], name: str, behaviour: Behaviour
    ) -> web.StreamResponse:
        answer = behaviour.answer if isinstance(behaviour.answer, str) else behaviour.answer(body)
        text = answer if isinstance(answer, str) else await answer
        chunks = _cut(text, behaviour.chunk_chars)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or len(chunks)
        finish = behaviour.finish_reason if len(chunks) <= limit else "length"
        chunks = chunks[:limit]
        usage = {
            "prompt_tokens": sum(
                len(str(message.get("content", "")).split()) for message in body["messages"]
            ),
            "completion_tokens": len(chunks),
        }
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        details = {"prompt_tokens_details": {"cached_tokens": behaviour.cached_tokens}}
        head = {"id": f"chatcmpl-{self._served:016x}", "created": 0, "model": name}
        await _pause(behaviour.first_token_s)
        if not body.get("stream"):
            await _pause(behaviour.between_tokens_s * len(chunks))
            message = {"role": "assistant", "content": "".join(chunks), "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            whole = {**head, "object": "chat.completion", "choices": [choice], "usage": {**usage, **details}}
            if body.get("logprobs"):
                content = likeliest(body, behaviour.weights, self.noise)
                choice["logprobs"] = {"content": content}
            return web.json_response(whole)

        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        writer = _Writer(response, one_byte=behaviour.one_byte, at_once=behaviour.is_plain)
        head["object"] = "chat.completion.chunk"
        await writer.event(_choice(head, {"role": "assistant", "content": ""}, None))
        for n, chunk in enumerate(chunks):
            if n == behaviour.reset_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            if n == behaviour.stall_after:
                await asyncio.Event().wait()
            if n == behaviour.garbage_after:
                await writer.data(b'{"id": broken')
            if n == behaviour.error_after:
                problem = {
                    "message": behaviour.message,
                    "type": "InternalServerError",
                    "param": None,
                    "code": 500,
                }
                await writer.event({"error": problem})
                return response
            if behaviour.keep_alive:
                await writer.raw(b": keep-alive\n\n")
            if n:
                await _pause(behaviour.between_tokens_s)
            await writer.event(_choice(head, {"content": chunk}, finish if n == len(chunks) - 1 else None))
        if (body.get("stream_options") or {}).get("include_usage"):
            await writer.event({**head, "choices": [], "usage": {**usage, **details}})
        if not behaviour.no_done:
            await writer.data(b"[DONE]")
        await writer.flush()
        return response

    def _adapted(self, name: str) -> Behaviour:
        """What an adapter makes of the base, unless a fault is programmed."""
        if name in self.failing:
            return Behaviour(status=500)
        if name in self.ignored:
            return next(iter(self.models.values()), Behaviour())
        path = self.confused.get(name, self.adapters[name])
        plain = Behaviour(answer=f"Written by {name}, and so not what its base writes.")
        return replace(self.written.get(path, plain), weights=path)

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            return _error(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.models:
            return _error(
                400, "InvalidUserInput", f"The adapter '{name}' conflicts with a served base model."
            )
        if name in self.adapters:
            return _error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        if self.adapter_paths is not None and path not in self.adapter_paths:
            return _error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
        if path in self.broken_paths:
            return _error(500, "InternalServerError", "Call to add_lora method failed: incomplete metadata")
        self.adapters[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json()).get("lora_name")
        if name not in self.adapters:
            return _error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _metrics(self, _request: web.Request) -> web.Response:
        base = next(iter(self.models), "")
        line = f'vllm:num_requests_running{{engine="0",model_name="{base}"}} {float(self.running)}'
        born = f"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {self.started!r}\n"
        return web.Response(text=f"{born}# TYPE vllm:num_requests_running gauge\n{line}\n")

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": self.build})


class _Writer:
    """Writes server-sent events: each by itself, byte by byte, or all of them at once."""

    def __init__(self, response: web.StreamResponse, *, one_byte: bool, at_once: bool) -> None:
        self._response = response
        self._one_byte = one_byte
        self._held: list[bytes] | None = [] if at_once else None

    async def event(self, value: Mapping[str, Any]) -> None:
        await self.data(orjson.dumps(value))

    async def data(self, data: bytes) -> None:
        await self.raw(b"data: " + data + b"\n\n")

    async def raw(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
            return
        for piece in (data[n : n + 1] for n in range(len(data))) if self._one_byte else (data,):
            await self._response.write(piece)
            if self._one_byte:
                await asyncio.sleep(0)

    async def flush(self) -> None:
        if self._held:
            await self._response.write(b"".join(self._held))


def _choice(head: Mapping[str, Any], delta: Mapping[str, str], finish: str | None) -> dict[str, Any]:
    return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}


def _cut(text: str, size: int) -> Sequence[str]:
    return [text[n : n + size] for n in range(0, len(text), size)] or [""]


def _default_answer(body: Mapping[str, Any]) -> str:
    """The default answer where the schema is that of support answers, else the least that another schema
    accepts."""
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if not schema or set(schema.get("properties", {})) <= set(json.loads(DEFAULT_ANSWER)):
        return DEFAULT_ANSWER
    return json.dumps(_least(schema), separators=(",", ":"))


def _least(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _least(one) for name, one in schema.get("properties", {}).items()}
    empty: dict[str, Any] = {"array": [], "string": "", "boolean": False, "null": None}
    return empty.get(schema.get("type", "null"), schema.get("minimum", 0))


def likeliest(body: Mapping[str, Any], weights: str, noise: float) -> list[dict[str, Any]]:
    """Four tokens with the likeliest in their places; the numbers follow from the weights and the prompt."""
    prompt = " ".join(str(message["content"]) for message in body["messages"])
    rows = []
    for n in range(4):
        top = [
            {
                "token": f"t{rank}",
                "logprob": -3 * random.Random(f"{weights} {prompt} {n} {rank}").random()
                + noise * (random.random() - 0.5),
            }
            for rank in range(int(body.get("top_logprobs") or 0))
        ]
        rows.append({"token": "t0", "logprob": -0.1, "top_logprobs": top})
    return rows


def _schema_problem(body: Mapping[str, Any]) -> str | None:
    """What a grammar compiler would say of the schema; only what the contract tests send."""
    response_format = body.get("response_format") or {}
    schema = (response_format.get("json_schema") or {}).get("schema")
    known = {"object", "array", "string", "number", "integer", "boolean", "null"}
    if isinstance(schema, dict) and isinstance(schema.get("type"), str) and schema["type"] not in known:
        return f'Unsupported type "{schema["type"]}"'
    return None


async def _pause(seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)


def _error(
    status: int,
    kind: str,
    message: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    return web.json_response(body, status=status, headers=headers)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted: the upstream of load tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", action="append", default=None, help="name to serve; may be repeated")
    parser.add_argument("--first-token-s", type=float, default=0.0)
    parser.add_argument("--between-tokens-s", type=float, default=0.0)
    parser.add_argument("--chunk-chars", type=int, default=4)
    args = parser.parse_args(argv)
    behaviour = Behaviour(
        first_token_s=args.first_token_s, between_tokens_s=args.between_tokens_s, chunk_chars=args.chunk_chars
    )
    fake = FakeVllm(models=dict.fromkeys(args.model or ["m-fake"], behaviour), record=False)
    web.run_app(
        fake.app(),
        host="127.0.0.1",
        port=args.port,
        access_log=None,
        handler_cancellation=True,
        print=lambda *_: None,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
