"""Readiness as a metric: per rail, with and without anybody who probes."""

from __future__ import annotations

import asyncio

from gateway import instruments as names
from gateway.errors import GatewayError
from gateway.readiness import Part, Readiness
from tests.fakes.telemetry import recorded


class Switch:
    """A part that is there or not, as the test says."""

    def __init__(self) -> None:
        self.there = True
        self.asked = asyncio.Event()

    async def check(self) -> str:
        self.asked.set()
        if not self.there:
            raise GatewayError("gone")
        return "there"


def ready_rails() -> dict[str, int]:
    return {labels[names.RAIL]: point.value for labels, point in recorded().points("twinrail.rail.ready")}


def readiness(knowledge: Switch, model: Switch) -> Readiness:
    return Readiness(
        {
            "records": Part(required=False, check=Switch().check),
            "knowledge": Part(required=True, check=knowledge.check),
            "model": Part(required=True, check=model.check),
        }
    )


async def test_a_probe_sets_the_metric_of_each_rail() -> None:
    recorded()
    knowledge, model = Switch(), Switch()
    probe = readiness(knowledge, model)
    assert (await probe.report())[0]
    assert ready_rails() == {"knowledge": 1, "model": 1}
    model.there = False
    assert not (await probe.report())[0]
    assert ready_rails() == {"knowledge": 1, "model": 0}


async def test_the_metric_follows_without_a_probe() -> None:
    recorded()
    knowledge, model = Switch(), Switch()
    async with readiness(knowledge, model).watched(every_s=0.001), asyncio.timeout(10):
        await model.asked.wait()
        knowledge.there = False
        for _ in range(2):  # asked once more: the round before is over
            knowledge.asked.clear()
            await knowledge.asked.wait()
        assert ready_rails() == {"knowledge": 0, "model": 1}
    knowledge.asked.clear()
    await asyncio.sleep(0.01)
    assert not knowledge.asked.is_set(), "nobody asks any more"
