"""An OpenAI-compatible endpoint, asked for one verdict at a time.

What it writes beside the schema is a missing verdict with its reason: a judge that rambles has said nothing,
neither yes nor no.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from eval.errors import JudgeRefusedError, JudgeUnavailableError
from eval.judging.judge import NO, SCHEMA, YES, Judge
from eval.judging.judgements import Item, Judgement

_BUSY = frozenset({408, 409, 429, 500, 502, 503, 504})
#: The endpoint is there, but this answer is too much for it each time.
_OF_THIS_ITEM = frozenset({408, 409, 500, 504})
_WRONG_ADDRESS = frozenset({401, 403, 404, 405})
_CONNECT_TIMEOUT_S = 10.0
_LONGEST_PAUSE_S = 30.0
_KEPT = 400


class JudgeEndpoint:
    """Asks one judge, and asks again while its endpoint is busy."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        judge: Judge,
        *,
        key: str = "",
        timeout_s: float = 120.0,
        attempts: int = 6,
        first_pause_s: float = 0.5,
    ) -> None:
        self._session = session
        self._judge = judge
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        self._attempts = attempts
        self._first_pause_s = first_pause_s

    async def ask(self, item: Item) -> Judgement:
        """One verdict, or why there is none. Only what ends all judging is an error."""
        reply = await self._reply(orjson.dumps(_body(self._judge, item)))
        said = _Said(missing=reply) if isinstance(reply, str) else _read(reply)
        return Judgement(
            id=item.id,
            digest=item.digest,
            version=self._judge.version,
            verdict=said.verdict,
            reason=said.reason[:_KEPT],
            missing=said.missing[:_KEPT],
            again=isinstance(reply, str),
            served=said.served,
        )

    async def _reply(self, body: bytes) -> bytes | str:
        """The body of a good reply, or why this one item got none."""
        url = f"{self._judge.url}/chat/completions"
        problem, of_this_item = "", False
        for attempt in range(1, self._attempts + 1):
            retry_after, of_this_item = None, False
            try:
                async with self._session.post(
                    url, data=body, headers=self._headers, timeout=self._timeout, allow_redirects=False
                ) as response:
                    content = await response.read()
            except aiohttp.ConnectionTimeoutError:
                problem = f"no connection in {_CONNECT_TIMEOUT_S:g} s"
            except TimeoutError:
                return f"no verdict in {self._timeout.total:g} s"
            except aiohttp.ClientError as exc:
                problem = str(exc)
            else:
                if response.status == 200:
                    return content
                problem = f"{response.status} {_detail(content)}"
                if response.status in _WRONG_ADDRESS:
                    raise JudgeRefusedError(
                        f"judge: {url}: {problem}; check EVAL_JUDGE_KEY, and url and model of the judge file"
                    )
                if response.status not in _BUSY:
                    return problem
                retry_after = response.headers.get("Retry-After")
                of_this_item = response.status in _OF_THIS_ITEM
            if attempt < self._attempts:
                await asyncio.sleep(self._pause_s(attempt, retry_after))
        if of_this_item:
            return problem
        raise JudgeUnavailableError(
            f"judge: {url}: {problem} (tried {self._attempts} times); run the same command to go on"
        )

    def _pause_s(self, attempt: int, retry_after: str | None) -> float:
        """What the endpoint asked for, else longer each time, with jitter."""
        if retry_after is not None and retry_after.strip().isdigit():
            return min(float(retry_after), _LONGEST_PAUSE_S)
        return min(self._first_pause_s * 2.0 ** (attempt - 1), _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    verdict: bool | None = None
    reason: str = ""
    missing: str = ""
    served: str = ""


def _body(judge: Judge, item: Item) -> dict[str, Any]:
    return {
        "model": judge.model,
        "messages": [
            {"role": "system", "content": judge.prompt},
            {"role": "user", "content": item.shown},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA},
        },
        **judge.decoding,
    }


def _read(content: bytes) -> _Said:
    """The verdict in a reply."""
    try:
        reply = orjson.loads(content)
        choice = reply["choices"][0]
        text = choice["message"]["content"]
        served = str(reply.get("model") or "")
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
        return _Said(missing=f"no chat completion: {_start(content)}")
    if choice.get("finish_reason") == "length":
        return _Said(missing="cut off at max_tokens", served=served)
    if not isinstance(text, str) or not text.strip():
        return _Said(missing="wrote nothing", served=served)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _Said(missing="nonsense: not JSON", reason=text, served=served)
    if not _keeps_schema(value):
        return _Said(missing="nonsense: not the wanted fields", reason=text, served=served)
    return _Said(verdict=value["verdict"] == YES, reason=value["reason"], served=served)


def _keeps_schema(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and value.keys() == SCHEMA["properties"].keys()
        and isinstance(value["reason"], str)
        and value["verdict"] in (YES, NO)
    )


def _detail(content: bytes) -> str:
    """The endpoint's own words."""
    try:
        error = orjson.loads(content)["error"]
        return str(error["message"] if isinstance(error, Mapping) else error)[:_KEPT]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _start(content)


def _start(content: bytes) -> str:
    return " ".join(content[:120].decode("utf-8", "replace").split())
