"""A tiny gateway with the HTTP contract that evaluation relies on (design section 4), with faults.

It answers from a table of canned answers and remembers every request. Nothing in it retrieves or generates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

CUSTOMER_KEY = "tw_customer"
STAFF_KEY = "tw_staff"
KNOWLEDGE = "k-fake-00000001"
BASE = "m-base-00000001"
TUNED = "m-support-00000001"
#: Of the prompt that both models have.
PROMPT_SHA256 = "0" * 64
#: The one article of this gateway.
ARTICLE = "Sync Plus is $9 a month. The trial lasts 14 days."


@dataclass(kw_only=True)
class CannedAnswer:
    """What one model says to a question."""

    answer: str
    status: str = "answered"
    intent: str = "billing"
    draft: str | None = None
    failure: str | None = None
    feedback: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class FakeGateway:
    """State and routes. `answers` maps a model version to how it answers a question."""

    answers: dict[str, Callable[[str], CannedAnswer]]
    #: How a pinned prompt makes a model answer a question, by its name; None: as without one.
    prompted: Callable[[str, str], CannedAnswer] | None = None
    #: What a model writes where nothing holds it to the schema; None: as otherwise.
    freely: Callable[[str, str], str] | None = None
    #: Model versions beside the two that are live, with their manifests.
    candidates: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Index versions that are ready.
    indexes: tuple[str, ...] = (KNOWLEDGE,)
    #: Replies to give before the real ones: a status and headers each.
    faults: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    #: Drops every connection, as a process that is going down does.
    gone: bool = False
    #: Goes down after so many requests.
    gone_after: int | None = None
    #: Questions to refuse with 422, of any model and of one.
    refused: frozenset[str] = frozenset()
    refused_by: dict[str, frozenset[str]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    #: How often a turn is not there yet when it is asked for.
    turn_lag: int = 0
    turns: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Documents that a version finds for a question, best first; each version finds the one article if None.
    finds: Callable[[str, str], list[str]] | None = None
    #: What documents ever said, oldest first; the last is live. Those of `hidden` only staff can read.
    documents: dict[str, list[str]] = field(default_factory=lambda: {"plus": [ARTICLE]})
    hidden: frozenset[str] = frozenset()
    #: Labels by turn, oldest first.
    labels: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Scores by turn.
    scores: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Reports by name, and verdicts by rail and version, oldest first.
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    def app(self) -> web.Application:
        """The application to serve."""
        app = web.Application(middlewares=[self._guard()])
        app.router.add_get("/v1/rails", self._rails)
        app.router.add_get("/v1/rails/{rail}/versions", self._versions)
        app.router.add_post("/v1/answers", self._answer)
        app.router.add_post("/v1/search", self._search)
        app.router.add_get("/v1/turns", self._turns)
        app.router.add_get("/v1/turns/{id}", self._turn)
        app.router.add_get("/v1/documents", self._list)
        app.router.add_get("/v1/documents/{id}", self._document)
        app.router.add_put("/v1/turns/{id}/labels", self._put_label)
        app.router.add_get("/v1/turns/{id}/labels", self._labels)
        app.router.add_put("/v1/turns/{id}/scores", self._put_scores)
        app.router.add_put("/v1/reports/{name}", self._put_report)
        app.router.add_put("/v1/rails/{rail}/versions/{version}/verdict", self._put_verdict)
        return app

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Question and model of every answer that was asked for."""
        return [
            (body["question"], body["pin"]["model"])
            for _, path, body in self.requests
            if path == "/v1/answers"
        ]

    def _guard(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        @web.middleware
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            key = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if key not in (CUSTOMER_KEY, STAFF_KEY):
                return _problem(401, "unknown key")
            body = await request.json() if request.can_read_body else {}
            self.requests.append((key, request.path, body))
            self.gone = self.gone or (self.gone_after is not None and len(self.requests) > self.gone_after)
            if self.gone:
                assert request.transport is not None
                request.transport.abort()
            if self.faults:
                status, headers = self.faults.popleft()
                return web.Response(status=status, headers=headers, text="busy")
            return await handler(request)

        return guard

    async def _rails(self, _: web.Request) -> web.Response:
        empty = {
            "canary": None,
            "canary_weight_bp": 0,
            "previous": None,
            "shadow": None,
            "undo_to": None,
            "revision": 1,
        }
        return web.json_response(
            {
                "rails": [
                    {"rail": "knowledge", "stable": KNOWLEDGE, "fallback": None, "snapshot": 3, **empty},
                    {"rail": "model", "stable": TUNED, "fallback": BASE, "snapshot": None, **empty},
                ]
            }
        )

    async def _versions(self, request: web.Request) -> web.Response:
        rail = request.match_info["rail"]
        ids = list(self.indexes) if rail == "knowledge" else [BASE, TUNED, *self.candidates]
        state = "ready" if rail == "knowledge" else "releasable"
        own = {"prompt": "fake", "prompt_sha256": PROMPT_SHA256, "task": "support_answer"}
        rows = [
            {
                "id": each,
                "name": each,
                "state": state,
                "details": {} if rail == "knowledge" else {**own, "manifest": self.candidates.get(each, {})},
            }
            for each in ids
        ]
        return web.json_response({"rail": rail, "versions": rows})

    async def _search(self, request: web.Request) -> web.Response:
        body = await request.json()
        version = body["version"].partition("@")[0]
        if version == "k-unknown-00000001":
            return _problem(422, "unknown version", field="version")
        if body["question"] in self.refused:
            return _problem(422, "too long", field="question")
        found = ["plus"] if self.finds is None else self.finds(version, body["question"])
        return web.json_response(
            {
                "hits": [_hit(document, rank) for rank, document in enumerate(found, start=1)],
                "version": version,
                "snapshot": 3,
                "arm": "pinned",
                "confidence": 0.9,
                "abstain_below": 0.1,
                "calibration": "default",
                "rewritten": None,
                "mode": "hybrid",
                "candidates": 1,
                "underfilled": True,
                "degraded": [],
                "timings_ms": {"embed": 1.0, "search": 2.0},
                "trace_id": "0" * 32,
            }
        )

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        pin = body["pin"]
        if pin["model"] not in self.answers:
            return _problem(422, "unknown version", field="pin.model")
        if body["question"] in self.refused | self.refused_by.get(pin["model"], frozenset()):
            return _problem(422, "too long", field="question")
        canned = self.answers[pin["model"]](body["question"])
        prompt = (pin.get("prompt") or {"name": "fake"})["name"]
        if self.prompted is not None and "prompt" in pin:
            canned = self.prompted(prompt, body["question"])
        given = pin["context"] if isinstance(pin.get("context"), list) else None
        retrieves = pin.get("context") != "none" and given is None
        turn_id = str(UUID(int=len(self.turns) + 1))
        answer = {
            "id": turn_id,
            "conversation_id": f"c-{turn_id}",
            "status": canned.status,
            "answer": canned.answer,
            "fields": {"intent": canned.intent, "escalate": False, "escalation_reason": "none"},
            "citations": [
                {
                    "n": 1,
                    "document_id": "plus",
                    "document_version": 1,
                    "title": "Sync Plus",
                    "url": "https://help.invalid/plus",
                    "quote": ARTICLE[:24],
                    "start": 0,
                    "end": 24,
                    "snapshot": 3,
                }
            ]
            if retrieves and canned.status == "answered"
            else [],
            "confidence": {"retrieval": 0.9 if retrieves else None, "grounded": 1.0},
            "versions": {
                "knowledge": pin.get("knowledge") if retrieves else None,
                "model": pin["model"],
                "prompt": prompt,
            },
            "arms": {"knowledge": "pinned", "model": "pinned"},
            "degraded": [],
            "usage": {"prompt_tokens": 400, "completion_tokens": 40},
            "timings_ms": {"retrieval": 10.0, "generation": 900.0, "total": 910.0},
            "trace_id": "0" * 32,
        }
        draft = canned.draft if canned.draft is not None else _draft(canned)
        if self.freely is not None and pin.get("constrained") is False:
            draft = self.freely(pin["model"], body["question"])
        self.turns[turn_id] = {
            **{name: answer[name] for name in ("id", "conversation_id", "status", "versions", "arms")},
            "degraded": [],
            "trace_id": answer["trace_id"],
            "surface": "answers",
            "question": body["question"],
            "pinned": True,
            "created_at": "2026-03-01T12:00:00+00:00",
            "finished_at": "2026-03-01T12:00:01+00:00",
            "ticket": None,
            "answer": answer,
            "used": {
                "hits": [_hit()] if retrieves else [],
                "passages": _pinned(given) if given else [{"n": 1, **_hit()}] if retrieves else [],
                "drafts": [
                    {"attempt": "first", "model": pin["model"], "text": draft, "failure": canned.failure}
                ],
            },
            "feedback": canned.feedback,
        }
        return web.json_response(answer)

    async def _turns(self, request: web.Request) -> web.Response:
        before = request.query.get("before", "~")
        rows = sorted((row for row in self.turns.values() if row["id"] < before), key=lambda row: row["id"])
        newest = rows[::-1][: int(request.query["limit"])]
        return web.json_response(
            {
                "turns": [
                    {"id": row["id"], "pinned": row["pinned"], "question": row["question"][:200]}
                    for row in newest
                ]
            }
        )

    async def _list(self, request: web.Request) -> web.Response:
        after, limit = request.query.get("after", ""), int(request.query.get("limit", "200"))
        ids = sorted(document_id for document_id in self.documents if document_id > after)[:limit]
        rows = [{"id": each, "title": each, "effective_from": None, "effective_to": None} for each in ids]
        return web.json_response({"documents": rows})

    async def _document(self, request: web.Request) -> web.Response:
        document_id = request.match_info["id"]
        key = request.headers["Authorization"].removeprefix("Bearer ")
        texts = self.documents.get(document_id)
        if texts is None or (document_id in self.hidden and key != STAFF_KEY):
            return _problem(404, "no such document", field="id")
        versions = [
            {
                "version": number,
                "title": "Sync Plus",
                "text": text,
                "effective_from": None,
                "effective_to": None,
                "releases": [{"born": number, "died": number + 1 if number < len(texts) else None}],
            }
            for number, text in enumerate(texts, start=1)
        ]
        return web.json_response({"id": document_id, "head": 3, "versions": versions})

    async def _put_label(self, request: web.Request) -> web.Response:
        turn_id = request.match_info["id"]
        if turn_id not in self.turns:
            return _problem(404, "no such turn")
        body = await request.json()
        self.labels.setdefault(turn_id, []).append(body)
        return web.json_response(body)

    async def _put_scores(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.scores[request.match_info["id"]] = body["scores"]
        return web.json_response(body)

    async def _labels(self, request: web.Request) -> web.Response:
        stored = {"created_at": "2026-03-02T09:00:00+00:00", "contributing": [], "note": "", "criteria": ""}
        rows = self.labels.get(request.match_info["id"], [])
        newest = {row["source"]: {**stored, **row} for row in rows}
        return web.json_response({"labels": list(newest.values())})

    async def _put_report(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = request.match_info["name"]
        digest = sha256(orjson.dumps(body["content"], option=orjson.OPT_SORT_KEYS)).hexdigest()
        self.reports[name] = {"kind": body["kind"], "sha256": digest, "content": body["content"]}
        if page := body.get("page"):
            self.reports[name]["page"] = page
        written = {
            "written_by": "evaluation",
            "written_at": "2026-03-01T12:00:00+00:00",
            "page_type": (body.get("page") or {}).get("type"),
        }
        return web.json_response({"name": name, "kind": body["kind"], "sha256": digest, **written})

    async def _put_verdict(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.reports.get(body["report"], {}).get("sha256") != body["sha256"]:
            return _problem(422, "no report with this digest", field="sha256")
        of_version = request.match_info["rail"], request.match_info["version"]
        self.verdicts.setdefault(of_version, []).append(body)
        given = {"given_by": "evaluation", "created_at": "2026-03-01T12:00:00+00:00"}
        return web.json_response({**body, **given})

    async def _turn(self, request: web.Request) -> web.Response:
        if self.turn_lag:
            self.turn_lag -= 1
            return _problem(404, "no such turn")
        return web.json_response(self.turns[request.match_info["id"]])


def _hit(document_id: str = "plus", rank: int = 1) -> dict[str, Any]:
    return {
        "rank": rank,
        "document_id": document_id,
        "title": "Sync Plus",
        "text": ARTICLE,
        "start": 0,
        "end": len(ARTICLE),
        "url": "https://help.invalid/plus",
        "heading_path": ["Sync Plus"],
        "effective_from": None,
        "effective_to": None,
        "score": 0.9,
        "dense_score": 0.8,
        "lexical_score": 4.2,
        "rerank_score": None,
        "metadata": {},
    }


def _pinned(given: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"n": n, "document_id": f"context:{n}", "start": 0, "end": len(passage["text"]), **passage}
        for n, passage in enumerate(given, start=1)
    ]


def _draft(canned: CannedAnswer) -> str:
    value: dict[str, Any] = {
        "answer": canned.answer,
        "citations": [1],
        "intent": canned.intent,
        "escalate": False,
        "escalation_reason": "none",
        "follow_up": "",
    }
    return web.json_response(value).text or ""


def _problem(status: int, title: str, *, field: str | None = None) -> web.Response:
    body = {"type": "about:blank", "title": title, "status": status, "field": field, "fix": "change it"}
    return web.json_response(body, status=status, content_type="application/problem+json")
