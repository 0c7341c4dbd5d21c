"""The board and the alerts in a real Prometheus that scrapes the running gateway: no panel stays empty."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from deploy.ports import free_port
from tests.deploy.expressions import PROMETHEUS, RULES, panel_expressions, rule_expressions
from tests.deploy.promql import named_in
from tests.integration.telemetry.conftest import Observed
from tests.integration.telemetry.load import every_outcome
from tests.integration.telemetry.test_exposition import ELSEWHERE

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus (Debian package) is absent"),
]

WINDOW = "30s"


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[str]:
    """Prometheus with our configuration, every second, on the given gateway; gives its base URL."""
    configuration: dict[str, Any] = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(RULES)]
    configuration["scrape_configs"] = [
        {"job_name": "twinrail-gateway", "static_configs": [{"targets": [target]}]}
    ]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


async def query(session: aiohttp.ClientSession, base: str, expression: str) -> list[dict[str, Any]]:
    """The instant vector of an expression; an empty list while Prometheus is not up yet."""
    try:
        async with session.get(f"{base}/api/v1/query", params={"query": expression}) as response:
            body = json.loads(await response.text())
    except (aiohttp.ClientError, json.JSONDecodeError):
        return []
    assert body["status"] == "success", f"{expression}: {body.get('error')}"
    result: list[dict[str, Any]] = body["data"]["result"]
    return result


async def test_no_panel_is_empty_and_the_rules_give_figures(observed: Observed, tmp_path: Path) -> None:
    gateway = observed.gateway
    # Once before, so that each series has a first value to rise from.
    await every_outcome(gateway)
    target = gateway.url.removeprefix("http://")
    async with prometheus(tmp_path, target) as base:
        waiting = {
            e.where: e.filled(WINDOW)
            for e in panel_expressions()
            if not named_in(e.text).metrics & ELSEWHERE.keys()
        }
        waiting |= {e.where: e.text for e in rule_expressions() if e.where.startswith("rule slo:")}
        for _ in range(30):
            await every_outcome(gateway)
            await asyncio.sleep(1.0)
            for where, expression in list(waiting.items()):
                vector = await query(gateway.session, base, expression)
                if any(sample["value"][1] != "NaN" for sample in vector):
                    del waiting[where]
            if not waiting:
                break
        assert not waiting, "no data"
