"""`twinrail tune evaluate` on the gateway itself: real PostgreSQL and retrieval, a fake vLLM."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eval.settings import EvalSettings
from eval.tuning import command
from serving.prompting import PromptTemplate
from serving.registry import ModelRegistry
from serving.versions import SCHEMAS, ModelVersion, load_task_schema
from tests.fakes.tuning_rows import write_dataset_of
from tests.integration.gateway.conftest import Gateway, gateway, reply, settings

__all__ = ["gateway", "settings"]

N = 40
PRICES = {"title": "Prices", "text": "Plan 7 costs $9 a month.", "effective_from": "2026-03-01"}


async def evaluate(gateway: Gateway, folder: Path, candidate: str, *options: str) -> int:
    """The command on this gateway, as `twinrail eval` runs it."""
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    given = parser.parse_args(["tuned", candidate, "--out", str(folder / "out"), *options])
    known = EvalSettings.model_validate(
        {
            "gateway_url": gateway.url,
            "api_key": gateway.keys.evaluation,
            "runs": folder / "runs",
            "attempts": 3,
            "resamples": 200,
            "concurrency": 4,
        }
    )
    return await command.run(given, known)


def rows(file: Path, make: Callable[[int], Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps({"id": f"r{n:02d}", **make(n)}) + "\n" for n in range(N)))
    return file


def number(body: Mapping[str, Any]) -> int:
    """The number at the end of the question that a request asks."""
    asked = next(each for each in reversed(body["messages"]) if "Question:" in each["content"])
    return int(asked["content"].split()[-1])


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    return found


async def test_rows_with_passages_are_answered_from_these(gateway: Gateway, tmp_path: Path) -> None:
    """The candidate, not releasable yet, cites what it is shown; the base finds nothing half the time."""
    registry = ModelRegistry(gateway.records)
    candidate = ModelVersion(
        name="tuned",
        base_digest="b" * 64,
        adapter_digest="a" * 64,
        prompt=PromptTemplate(name="short", system="Answer as JSON."),
        task="support_answer",
        schema=load_task_schema(SCHEMAS / "support_answer.json"),
    )
    dataset = tmp_path / "dataset"
    digest = write_dataset_of(dataset, ["Can I bring my cat?"])
    await registry.register(
        candidate, manifest={"author": "test", "dataset_sha256": digest}, releasable=False
    )
    right = reply("Plan 7 costs $9 a month.")
    lost = reply(
        "I can't find that in our help centre, so I won't guess. I've passed your question to a colleague "
        "who will reply by email.",
        citations=(),
        escalate=True,
        escalation_reason="not_in_help_centre",
    )
    gateway.vllm.program(candidate.id, answer=right)
    for other in (gateway.stable, gateway.fallback):
        gateway.vllm.program(
            other,
            answer=lambda body: (
                ("Well: " if "response_format" not in body else "") + (right if number(body) % 2 else lost)
            ),
        )
    test = rows(
        tmp_path / "test.jsonl",
        lambda n: {
            "question": f"What does plan 7 cost for client {n}",
            "passages": [PRICES],
            "wanted": json.loads(right),
            "kind": "answerable",
            "cluster": f"c{n % 20}",
        },
    )
    rules = tmp_path / "rules.toml"
    rules.write_text(
        'name = "tuning"\nprimaries = ["fields_right"]\nlimits = {}\n[guards]\nhallucination_served = 0.10\n'
    )
    options = ("--questions", str(test), "--dataset", str(dataset), "--rules", str(rules))
    assert await evaluate(gateway, tmp_path, candidate.id, *options) == 0
    found = report(tmp_path)
    rates = {row["name"]: row["arms"] for row in found["metrics"]}
    assert {arm: rates["fields_right"][arm]["k"] for arm in found["arms"]} == {
        "candidate": 40,
        "strong": 20,
        "stable": 20,
    }
    assert rates["citations_valid"]["candidate"]["k"] == 40, "quotes stand in the passages that were given"
    assert rates["abstained_wrongly"]["strong"]["k"] == 20
    assert rates["format_valid"]["strong"]["k"] == 40
    free = rates["format_valid_unconstrained"]
    assert (free["candidate"]["k"], free["strong"]["k"]) == (40, 0), (
        "only here nothing holds it to the schema"
    )
    assert found["risk"]["candidate"]["served"]["k"] == 40
    (verdict,) = await verdicts(gateway, candidate.id)
    assert (verdict["gate"], verdict["verdict"]) == ("tuning", "pass")
    shown = [body for body in gateway.vllm.requests if "plan 7" in str(body["messages"])]
    assert all("[1] Prices (valid from 2026-03-01)" in str(body["messages"]) for body in shown)


async def verdicts(gateway: Gateway, version: str) -> list[dict[str, Any]]:
    _, listed = await gateway.get("/v1/rails/model/versions", key=gateway.keys.evaluation)
    return next(row["verdicts"] for row in listed["versions"] if row["id"] == version)


async def test_a_task_without_a_text_is_judged_by_its_fields(gateway: Gateway, tmp_path: Path) -> None:
    """Ticket routing: the queue is right or not, and what is out of scope is a kind of its own."""
    registry = ModelRegistry(gateway.records)
    schema = load_task_schema(SCHEMAS / "ticket_routing.json")
    versions = {
        name: ModelVersion(
            name=name,
            base_digest="b" * 64,
            adapter_digest=None,
            prompt=PromptTemplate(name=f"{name}_prompt", system="Route it, as JSON."),
            task="ticket_routing",
            schema=schema,
        )
        for name in ("routing", "routingbase")
    }

    def routed(queue: str) -> str:
        return json.dumps({"queue": queue, "priority": "P3", "product": "sync", "reason": "Because."})

    def wanted(n: int) -> str:
        return "first_line" if n % 4 == 0 else "billing"

    answers = {
        "routing": lambda body: routed(wanted(number(body))),
        "routingbase": lambda body: routed("billing"),
    }
    for name, version in versions.items():
        await registry.register(version, manifest={"author": "test"}, releasable=name != "routing")
        gateway.vllm.program(version.id, answer=answers[name])
    dataset = tmp_path / "dataset"
    write_dataset_of(dataset, ["Can I bring my cat?"], task="ticket_routing")
    test = rows(
        tmp_path / "test.jsonl",
        lambda n: {
            "question": f"Please help me with request number {n}",
            "passages": [],
            "wanted": {"queue": wanted(n), "priority": "P3", "product": "sync", "reason": "Not these words."},
            "kind": "out_of_scope" if n % 4 == 0 else "in_scope",
            "cluster": f"c{n % 20}",
        },
    )
    rules = tmp_path / "rules.toml"
    rules.write_text(
        'name = "tuning"\nprimaries = ["fields_right"]\nguards = {}\nlimits = {}\nzero_tolerance = []\n'
    )
    options = ("--questions", str(test), "--dataset", str(dataset), "--rules", str(rules), "--free", "0")
    base = versions["routingbase"].id
    assert await evaluate(gateway, tmp_path, versions["routing"].id, *options, "--strong", base) == 0
    found = report(tmp_path)
    fields = {(row["field"], row["value"]): row["arms"] for row in found["fields"]}
    queues = {arm: rate["k"] for arm, rate in fields["queue", None].items()}
    assert (queues["candidate"], queues["strong"]) == (40, 30)
    recall = fields["queue", "first_line"]
    assert [recall[arm]["k"] for arm in ("candidate", "strong")] == [10, 0]
    assert ("reason", None) not in fields, "its own words are no value"
    (out_of_scope,) = (
        row for row in found["slices"] if (row["kind"], row["metric"]) == ("out_of_scope", "fields_right")
    )
    assert out_of_scope["arms"]["candidate"]["k"] == 10
    assert {row["name"] for row in found["metrics"]} == {"fields_right", "format_valid"}
    assert list(found["arms"]) == ["candidate", "strong"]
    assert "does another task, support_answer" in found["notes"][0]


async def test_a_version_that_no_engine_serves_is_not_measured(gateway: Gateway, tmp_path: Path) -> None:
    registry = ModelRegistry(gateway.records)
    nowhere = ModelVersion(
        name="nowhere",
        base_digest="b" * 64,
        adapter_digest=None,
        prompt=PromptTemplate(name="short", system="Answer as JSON."),
        task="support_answer",
        schema=load_task_schema(SCHEMAS / "support_answer.json"),
    )
    await registry.register(nowhere, manifest={"author": "test"}, releasable=False)
    test = rows(
        tmp_path / "test.jsonl",
        lambda n: {"question": f"price {n}", "passages": [PRICES], "wanted": json.loads(reply("$9"))},
    )
    error = None
    try:
        await evaluate(gateway, tmp_path, nowhere.id, "--questions", str(test))
    except command.GatewayUnavailableError as exc:
        error = exc
    assert "no engine answers for" in str(error)
    assert not (tmp_path / "out" / "served").exists()
