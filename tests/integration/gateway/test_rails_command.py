"""`twinrail undo`, `promote` and `canary` against a running gateway."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.output import Output
from tests.integration.gateway.conftest import Gateway


class Command:
    """The command line with the address and the release key of a gateway."""

    def __init__(self, gateway: Gateway, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TWINRAIL_HOME", str(home))
        monkeypatch.setenv("TWINRAIL_URL", gateway.url)
        monkeypatch.setenv("TWINRAIL_API_KEY", gateway.keys.release)

    async def __call__(self, *arguments: str) -> tuple[int, Any, str]:
        stdout, stderr = io.StringIO(), io.StringIO()
        code = await asyncio.to_thread(main, [*arguments, "--json"], Output(stdout=stdout, stderr=stderr))
        said = stdout.getvalue()
        return code, json.loads(said) if said else None, stderr.getvalue()


@pytest.fixture
def twinrail(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(gateway, tmp_path / "home", monkeypatch)


async def test_a_plan_says_what_the_undo_then_does(gateway: Gateway, twinrail: Command) -> None:
    await twinrail("canary", "model", gateway.canary, "--percent", "5")
    _, plan, _ = await twinrail("undo", "model", "--dry-run")
    assert plan["plan"] == f"would end the canary {gateway.canary}"
    code, moved, _ = await twinrail("undo", "model")
    assert (code, moved["after"]["canary"]) == (0, None)
    _, plan, _ = await twinrail("undo", "model", "--dry-run")
    assert plan["plan"] == f"would give {gateway.canary} 5 % again"
    await twinrail("promote", "model", gateway.canary)
    _, plan, _ = await twinrail("undo", "model", "--dry-run")
    assert plan["plan"] == f"would make {gateway.stable} stable in place of {gateway.canary}"
    code, moved, _ = await twinrail("undo", "model")
    assert (code, moved["after"]["stable"]) == (0, gateway.stable)
    code, moved, _ = await twinrail("undo", "knowledge", "--publish", "--force")
    assert (code, moved["before"]["snapshot"], moved["after"]["snapshot"]) == (0, 1, 0)


async def test_a_version_that_no_engine_serves_needs_force(gateway: Gateway, twinrail: Command) -> None:
    del gateway.vllm.models[gateway.canary]
    code, data, log = await twinrail("promote", "model", gateway.canary, "--wait", "0")
    assert (code, data) == (1, None)
    assert f"{gateway.canary} is not served everywhere: engines: wanted" in log
    assert "it stays staged" in log
    status, problem, _ = await gateway.post(
        "/v1/rails/model:promote", {"version": gateway.canary}, key=gateway.keys.release
    )
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:not-served")
    log = problem["fix"]
    assert "--force" in log
    code, moved, _ = await twinrail("promote", "model", gateway.canary, "--force")
    assert (code, moved["after"]["stable"]) == (0, gateway.canary)


async def test_a_refused_version_gets_no_share_without_force(gateway: Gateway, twinrail: Command) -> None:
    """Also where engines would have to be waited for: the answer comes first."""
    content, key = {"verdict": "refused"}, gateway.keys.evaluation
    async with gateway.session.put(
        f"{gateway.url}/v1/reports/gate-1",
        json={"kind": "gate", "content": content},
        headers=gateway.headers(key),
    ) as stored:
        digest = (await stored.json())["sha256"]
    verdict = {"gate": "release", "verdict": "refused", "report": "gate-1", "sha256": digest}
    address = f"{gateway.url}/v1/rails/model/versions/{gateway.canary}/verdict"
    async with gateway.session.put(address, json=verdict, headers=gateway.headers(key)) as given:
        assert given.status == 200
    del gateway.vllm.models[gateway.canary]
    for percent in ("5", "100"):
        code, data, log = await twinrail("canary", "model", gateway.canary, "--percent", percent)
        assert (code, data) == (1, None)
        assert f"{gateway.canary}: release refused it, see the report gate-1" in log
        assert "--force" in log
    code, moved, _ = await twinrail("canary", "model", gateway.canary, "--percent", "5", "--force")
    assert (code, moved["after"]["canary_weight_bp"]) == (0, 500)
    await twinrail("canary", "model", "--off")
    code, _, log = await twinrail("undo", "model")
    assert (code, "release refused it" in log) == (1, True)
