"""What GET /metrics says after real requests, and that board, alerts and contract name nothing else."""

from __future__ import annotations

import asyncio
import re

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.contract import DOCUMENT, documented
from tests.deploy.expressions import (
    Expression,
    choice_expressions,
    panel_expressions,
    recorded_names,
    rule_expressions,
)
from tests.deploy.promql import named_in
from tests.integration.telemetry.conftest import Observed
from tests.integration.telemetry.load import every_outcome
from tests.integration.telemetry.running_gateway import SECRETS

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Made by Prometheus, or by the rules.
_NOT_OURS = {"up", "le", "sloth_id"}
#: Counted only while PostgreSQL is away, which these tests leave alone.
_NEEDS_AN_OUTAGE = {"twinrail.turns.spooled"}
#: Recorded by processes that publish and do jobs, which no gateway is.
_OF_PUBLISHERS = {
    "twinrail.knowledge.freshness.lag",
    "twinrail.jobs.duration",
    "twinrail.jobs.documents.failed",
}
SHADOWED = "twinrail_retrieval_shadow_overlap_count"
#: On a share of the searches that used the vector index, which three articles never do.
_OF_LARGE_INDEXES = {"twinrail.retrieval.recall_probe"}
#: Their samples, with the labels that the contract gives them.
ELSEWHERE = {
    sample: {label.replace(".", "_") for label in documented().metrics[name].attributes}
    for name in _OF_PUBLISHERS | _OF_LARGE_INDEXES
    for sample in documented().metrics[name].exposed
}


class Exposed:
    """The exposition as data: sample name -> label names, and every label value."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.labels: dict[str, set[str]] = {}
        self.values: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.labels.setdefault(sample.name, set()).update(sample.labels)
                for name, value in sample.labels.items():
                    self.values.setdefault(name, set()).add(value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exposed(observed: Observed) -> Exposed:
    """/metrics after every outcome once, and what the shadow makes of them, which comes after the answers."""
    await every_outcome(observed.gateway)
    async with asyncio.timeout(60):
        while SHADOWED not in (text := await observed.gateway.exposition()):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.1)
    return Exposed(text)


@pytest.mark.parametrize(
    "expression",
    [*panel_expressions(), *choice_expressions(), *rule_expressions()],
    ids=lambda expression: expression.where,
)
async def test_every_name_of_board_and_alerts_is_exposed(exposed: Exposed, expression: Expression) -> None:
    named = named_in(expression.text)
    metrics = named.metrics - recorded_names() - _NOT_OURS
    missing = metrics - exposed.labels.keys() - set(ELSEWHERE)
    assert not missing, f"not exposed: {sorted(missing)}"
    labels = {**ELSEWHERE, **exposed.labels}
    known = _NOT_OURS | set().union(*(labels[metric] for metric in metrics))
    assert named.labels <= known, f"no such label: {sorted(named.labels - known)}"


async def test_every_metric_of_the_contract_is_exposed_with_its_attributes_and_no_others(
    exposed: Exposed,
) -> None:
    for name, metric in documented().metrics.items():
        if name in _NEEDS_AN_OUTAGE | _OF_PUBLISHERS | _OF_LARGE_INDEXES:
            continue
        for sample in metric.exposed:
            assert sample in exposed.labels, f"{metric.name}: no sample {sample}"
            labels = {name.replace(".", "_") for name in metric.attributes}
            # Not every instrument has failed here.
            assert exposed.labels[sample] - {"le", "error_type"} == labels - {"error_type"}, metric.name


async def test_labels_are_bounded(exposed: Exposed) -> None:
    assert exposed.values["http_route"] <= {
        "/v1/answers",
        "/v1/chat/completions",
        "/v1/search",
        "/v1/feedback",
        "/v1/turns",
        "/v1/turns/{turn_id}",
        "/v1/rails/{rail}/replicas",
        "/v1/reviews",
        "/v1/reviews/{turn_id}",
        "/v1/rails",
        "(unmatched)",
    }
    assert exposed.values["twinrail_rollout_model_arm"] <= {"stable", "canary", "pinned", "none", ""}
    for secret in SECRETS:
        assert secret not in exposed.text


async def test_what_happened_is_what_is_counted(exposed: Exposed) -> None:
    statuses = exposed.values["twinrail_answer_status"]
    assert statuses >= {"answered", "abstained", "escalated", "fallback", "client_cancelled"}
    assert exposed.values["gen_ai_response_finish_reason"] >= {"stop", "cancelled", "error"}
    assert exposed.values["reason"] >= {"retrieval", "generation", "policy"}


async def test_the_command_of_the_page_finds_the_answers(observed: Observed, exposed: Exposed) -> None:
    mark = "<!-- run by tests/integration/telemetry/test_exposition.py -->\n```sh\n"
    page = DOCUMENT.read_text(encoding="utf-8")
    commands = re.findall(re.escape(mark) + r"(.*?)```", page, re.DOTALL)
    assert commands
    for command in commands:
        here = command.replace("http://127.0.0.1:8080", observed.gateway.url)
        shell = await asyncio.create_subprocess_exec("bash", "-euc", here, stdout=asyncio.subprocess.PIPE)
        output, _ = await shell.communicate()
        assert b"twinrail_answers_total{" in output
