"""The gateway's HTTP API as evaluation uses it; bodies of questions and answers are made in `turn_wire`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from eval.arms import GOLD_CONTEXT, KNOWLEDGE_WORDS, POINTER_WORDS, Arm
from eval.cases import Case, GivenPassage
from eval.documents import DocumentHistory, PastVersion, snapshot_of
from eval.errors import AnswerFailedError, GatewayRefusedError, GatewayUnavailableError
from eval.observations import Observation, Ranking
from eval.turn_wire import history_body, pin_body, read_evidence, read_observation, with_documents

_BUSY = frozenset({429, 502, 503, 504})
#: The gateway is there, but this question takes too long each time.
_TOO_SLOW = 504
_CONNECT_TIMEOUT_S = 10.0
_LONGEST_PAUSE_S = 30.0
#: Most turns that one request lists.
_TURNS_A_PAGE = 200
#: Most documents that one request lists.
_DOCUMENTS_A_PAGE = 1_000


class GatewayClient:
    """Asks questions of a running gateway, and asks again while it is busy or restarting.

    The session carries no key: each request takes the key of whoever asks, customer or staff.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        keys: Mapping[str, str],
        timeout_s: float = 120.0,
        attempts: int = 6,
        first_pause_s: float = 0.5,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._keys = keys
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        self._attempts = attempts
        self._first_pause_s = first_pause_s
        self._documents: dict[str, DocumentHistory] = {}

    @property
    def askers(self) -> frozenset[str]:
        """Whose questions can be asked: those with a key."""
        return frozenset(self._keys)

    async def pointers(self) -> dict[str, dict[str, str | None]]:
        """What each rail's pointer names; knowledge with the snapshot that is live now."""
        body = await self._call("GET", "/v1/rails", asker="customer")
        rails: dict[str, dict[str, str | None]] = {}
        for view in body["rails"]:
            stamp = f"@{view['snapshot']}" if view.get("snapshot") is not None else ""
            rails[view["rail"]] = {
                word: f"{view[word]}{stamp}" if view.get(word) else None
                for word in dict.fromkeys((*POINTER_WORDS, *KNOWLEDGE_WORDS))
            }
        return rails

    async def versions(self, rail: str) -> list[dict[str, Any]]:
        """The versions of a rail as the gateway lists them: `id`, `name`, `state` and `details`."""
        body = await self._call("GET", f"/v1/rails/{quote(rail, safe='')}/versions", asker="customer")
        return list(body["versions"])

    async def answer(self, case: Case, arm: Arm) -> Observation:
        """Ask one question in one arm and read back its turn. An error on it is an observation too."""
        try:
            given = await self._gold(case, arm)
            question: dict[str, Any] = {"question": case.text, "pin": pin_body(arm, given, case=case)}
            if history := history_body(case):
                question["history"] = history
            started = time.monotonic()
            body = await self._call("POST", "/v1/answers", asker=case.asker, body=question)
            wall_ms = (time.monotonic() - started) * 1000
            turn = await self._call("GET", f"/v1/turns/{body['id']}", asker=case.asker, may_lag=True)
            seen = read_observation(body, turn, case=case, arm=arm, wall_ms=wall_ms)
            return with_documents(seen, given) if given else seen
        except AnswerFailedError as exc:
            return Observation(case_id=case.id, arm=arm.name, error=str(exc))

    async def document(self, document_id: str) -> DocumentHistory:
        """All that a document ever said, read once; without versions where no key can read it."""
        if document_id not in self._documents:
            rows = {}
            for asker in sorted(self._keys):
                path = f"/v1/documents/{quote(document_id)}?history=true"
                try:
                    rows[asker] = await self._call("GET", path, asker=asker, may_miss=True)
                except _NotThereError:
                    continue
            row = next(iter(rows.values()), {"id": document_id, "head": 0, "versions": []})
            self._documents[document_id] = DocumentHistory.from_json({**row, "readers": sorted(rows)})
        return self._documents[document_id]

    async def document_ids(self) -> list[str]:
        """The live documents that any of the keys may read."""
        ids: dict[str, None] = {}
        for asker in sorted(self._keys):
            after = ""
            while True:
                path = f"/v1/documents?limit={_DOCUMENTS_A_PAGE}&after={quote(after, safe='')}"
                page = (await self._call("GET", path, asker=asker))["documents"]
                ids.update((row["id"], None) for row in page)
                if len(page) < _DOCUMENTS_A_PAGE:
                    break
                after = page[-1]["id"]
        return sorted(ids)

    async def _gold(self, case: Case, arm: Arm) -> tuple[tuple[str, PastVersion], ...]:
        """What comes with the question. In an arm with gold documents these as its snapshot holds them, else
        as they were last: how a model uses the right text can be asked also of a text that is gone."""
        if case.passages is not None and arm.pin.context is None:
            return tuple(_given(case.passages))
        if arm.pin.context != GOLD_CONTEXT:
            return ()
        snapshot = snapshot_of(arm.pin.knowledge or "")
        found = []
        for document_id in case.gold:
            history = await self.document(document_id)
            if not history.versions:
                raise AnswerFailedError(f"{document_id}: no such document; correct gold of {case.id}")
            shown = history.at(history.head if snapshot is None else snapshot)
            found.append((document_id, shown or history.versions[-1]))
        return tuple(found)

    async def search(
        self, case: Case, knowledge: str, *, depth: int, filters: Mapping[str, Any] | None = None
    ) -> Ranking:
        """What a knowledge version finds for a question, as the same person would find it."""
        body: dict[str, Any] = {"question": case.text, "k": depth, "version": knowledge}
        if history := history_body(case):
            body["history"] = history
        if filters:
            body["filters"] = filters
        started = time.monotonic()
        try:
            found = await self._call("POST", "/v1/search", asker=case.asker, body=body)
        except AnswerFailedError as exc:
            return Ranking(case_id=case.id, knowledge=knowledge, error=str(exc))
        return Ranking(
            case_id=case.id,
            knowledge=knowledge,
            hits=read_evidence(found["hits"]),
            confidence=found.get("confidence"),
            abstain_below=found.get("abstain_below"),
            degraded=tuple(found.get("degraded") or ()),
            timings_ms=found.get("timings_ms") or {},
            wall_ms=(time.monotonic() - started) * 1000,
        )

    async def recorded(self, limit: int, *, asker: str) -> AsyncIterator[Recorded]:
        """The latest turns that the asker's key may see, newest first, at most `limit`: each with its whole
        question. Pinned ones are left out: they were asked by an evaluation."""
        left, before = limit, ""
        while left:
            page = await self._call("GET", f"/v1/turns?limit={_TURNS_A_PAGE}{before}", asker=asker)
            for row in page["turns"]:
                if row["pinned"] or left == 0:
                    continue
                left -= 1
                turn = await self._call("GET", f"/v1/turns/{row['id']}", asker=asker, may_lag=True)
                used = turn.get("used") or {}
                hits = used.get("hits") or ()
                yield Recorded(
                    id=str(turn["id"]),
                    conversation_id=turn["conversation_id"],
                    question=turn["question"],
                    filters=used.get("filters") or {},
                    asked_at=turn.get("created_at") or "",
                    answer=(turn.get("answer") or {}).get("answer") or "",
                    documents=tuple(dict.fromkeys(hit["document_id"] for hit in hits)),
                )
            if len(page["turns"]) < _TURNS_A_PAGE:
                return
            before = f"&before={page['turns'][-1]['id']}"

    async def get(self, path: str, *, asker: str) -> dict[str, Any]:
        """What the gateway shows under a path of its API."""
        return await self._call("GET", path, asker=asker)

    async def put_labels(
        self, turn_id: str, label: Mapping[str, Any], *, asker: str = "customer"
    ) -> dict[str, Any]:
        """Say why a turn failed, or that it passed (`label` null); as it is stored.

        `label` is the body of the call: label, sub, rule, contributing, checks, criteria, source, and where
        they are known cluster, reviewer and note. The asker's key must see the turn.
        """
        path = f"/v1/turns/{quote(turn_id, safe='')}/labels"
        return await self._call("PUT", path, asker=asker, body=label, may_lag=True)

    async def labels(self, turn_id: str, *, asker: str = "customer") -> list[dict[str, Any]]:
        """What is said of a turn: the newest label of each source."""
        path = f"/v1/turns/{quote(turn_id, safe='')}/labels"
        found: list[dict[str, Any]] = (await self._call("GET", path, asker=asker))["labels"]
        return found

    async def put_scores(
        self, turn_id: str, scores: Sequence[Mapping[str, Any]], *, asker: str = "customer"
    ) -> None:
        """Store measures of a turn, each `{name, value, detail, version}`; null is not 0."""
        path = f"/v1/turns/{quote(turn_id, safe='')}/scores"
        await self._call("PUT", path, asker=asker, body={"scores": list(scores)}, may_lag=True)

    async def put_report(
        self,
        name: str,
        *,
        kind: str,
        content: Mapping[str, Any],
        html: str = "",
        markdown: str = "",
        asker: str = "customer",
    ) -> str:
        """Store a report of a kind (`run`, `gate`, `advice`, `pilot`, `online`); its digest, by which a
        verdict names it. `html` or `markdown` is the same for people, as the console shows it."""
        path = f"/v1/reports/{quote(name, safe='')}"
        body: dict[str, Any] = {"kind": kind, "content": content}
        if text := html or markdown:
            body["page"] = {"type": "text/html" if html else "text/markdown", "text": text}
        return str((await self._call("PUT", path, asker=asker, body=body))["sha256"])

    async def put_verdict(
        self,
        rail: str,
        version: str,
        *,
        gate: str,
        verdict: str,
        report: str,
        sha256: str,
        asker: str = "customer",
    ) -> None:
        """Store what a gate says of a version: `pass`, `refused` or `not_enough`. Its promotion asks."""
        path = f"/v1/rails/{quote(rail, safe='')}/versions/{quote(version, safe='')}/verdict"
        body = {"gate": gate, "verdict": verdict, "report": report, "sha256": sha256}
        await self._call("PUT", path, asker=asker, body=body)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        asker: str,
        body: Mapping[str, Any] | None = None,
        may_lag: bool = False,
        may_miss: bool = False,
    ) -> dict[str, Any]:
        """Try until the gateway answers. With `may_lag`, 404 means that the record is still being written,
        with `may_miss` that there is none."""
        problem = ""
        for attempt in range(1, self._attempts + 1):
            retry_after, of_this_question = None, False
            try:
                reply = await self._once(method, path, asker=asker, body=body)
            except aiohttp.ConnectionTimeoutError:
                problem = f"{method} {self._url}{path}: no connection in {_CONNECT_TIMEOUT_S:g} s"
            except TimeoutError as exc:
                raise AnswerFailedError(f"{method} {path}: no answer in {self._timeout.total:g} s") from exc
            except aiohttp.ClientError as exc:
                problem = f"{method} {self._url}{path}: {exc}"
            else:
                if reply.status < 300:
                    return _object(reply.content, path)
                problem, retry_after = f"{method} {path}: {reply.status} {reply.detail}", reply.retry_after
                if may_miss and reply.status == 404:
                    raise _NotThereError(problem)
                lagging = may_lag and reply.status == 404
                if not lagging and reply.status not in _BUSY:
                    raise _refusal(reply, problem)
                of_this_question = lagging or reply.status == _TOO_SLOW
            if attempt < self._attempts:
                await asyncio.sleep(self._pause_s(attempt, retry_after))
        if of_this_question:
            raise AnswerFailedError(problem)
        raise GatewayUnavailableError(
            f"gateway: {problem} (tried {self._attempts} times); run `twinrail up` or set EVAL_GATEWAY_URL"
        )

    async def _once(self, method: str, path: str, *, asker: str, body: Mapping[str, Any] | None) -> _Reply:
        async with self._session.request(
            method,
            self._url + path,
            data=orjson.dumps(body) if body is not None else None,
            headers={"Authorization": f"Bearer {self._keys[asker]}", "Content-Type": "application/json"},
            timeout=self._timeout,
        ) as response:
            return _Reply(
                status=response.status,
                content=await response.read(),
                retry_after=_seconds(response.headers.get("Retry-After")),
            )

    def _pause_s(self, attempt: int, retry_after: float | None) -> float:
        """What the gateway asked for, else longer each time, with jitter to keep callers apart."""
        if retry_after is not None:
            return min(retry_after, _LONGEST_PAUSE_S)
        longest = min(self._first_pause_s * 2.0 ** (attempt - 1), _LONGEST_PAUSE_S)
        return longest * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A question that somebody asked of the gateway."""

    id: str
    conversation_id: str
    question: str
    filters: Mapping[str, Any]
    #: When it was asked, ISO 8601.
    asked_at: str = ""
    #: What was answered; "" for none.
    answer: str = ""
    #: Documents that it found, best first.
    documents: tuple[str, ...] = ()


class _NotThereError(AnswerFailedError):
    """The gateway has no such thing for this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int
    content: bytes
    retry_after: float | None

    @property
    def problem(self) -> Mapping[str, Any]:
        """The RFC 9457 body, if it is one."""
        try:
            value = orjson.loads(self.content)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def detail(self) -> str:
        """The problem's own words, else the first of the body."""
        parts = [
            str(self.problem[key]) for key in ("title", "detail", "field", "fix") if self.problem.get(key)
        ]
        return "; ".join(filter(None, parts))[:300] or self.content[:120].decode("utf-8", "replace")


def _object(content: bytes, path: str) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise GatewayRefusedError(f"{path}: not a JSON object; is EVAL_GATEWAY_URL a Twinrail gateway?")
    return value


def _refusal(reply: _Reply, problem: str) -> GatewayRefusedError | AnswerFailedError:
    """A key, address or pin that no question gets past ends the run; the rest is one question's failure."""
    if reply.status in (401, 403):
        return GatewayRefusedError(f"{problem}; EVAL_API_KEY must be a key with the scopes ask and eval")
    about = str(reply.problem.get("field", ""))
    if reply.status in (404, 405, 415) or about.startswith(("pin", "version", "body.pin")):
        return GatewayRefusedError(f"{problem}; check EVAL_GATEWAY_URL and the versions of the arms")
    return AnswerFailedError(problem)


def _given(passages: Sequence[GivenPassage]) -> Iterator[tuple[str, PastVersion]]:
    """Passages as documents of which nothing else is known, named as the gateway's citations name them."""
    for n, passage in enumerate(passages, start=1):
        yield (
            f"context:{n}",
            PastVersion(
                version=1,
                title=passage.title,
                text=passage.text,
                effective_from=passage.effective_from,
                effective_to="",
                releases=(),
            ),
        )


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.strip().isdigit() else None
