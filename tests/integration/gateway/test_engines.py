"""A version comes onto the engines of a running gateway: staged, loaded, shown and promoted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from deploy.database import pool
from gateway.access import create_key
from gateway.database import Database
from serving.adapter_checks import ADAPTER_FILE
from serving.adapter_configs import ADAPTER_CONFIG
from serving.digests import digest_folder
from serving.prompting import PromptTemplate
from serving.registry import ModelRegistry
from serving.versions import ModelVersion
from tests.fakes.adapter_folders import CONFIG
from tests.integration.telemetry.running_gateway import REFUND, TENANT, RunningGateway, running_gateway


async def call(running: RunningGateway, key: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """A GET, or with a body a POST."""
    async with running.session.request(
        "GET" if body is None else "POST",
        f"{running.url}/v1/rails/model{path}",
        json=body,
        headers={"authorization": f"Bearer {key}"},
    ) as response:
        return response.status, await response.json()


async def test_a_registered_version_is_staged_shown_promoted_and_retired(
    database_url: str, tmp_path: Path
) -> None:
    shelf = tmp_path / "shelf"
    folder = shelf / "new"
    folder.mkdir(parents=True)
    save_file({"weight": np.ones(4, dtype=np.float32)}, folder / ADAPTER_FILE)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(CONFIG), encoding="utf-8")
    digest = digest_folder(folder)
    path = folder.rename(shelf / f"adapter-{digest[:8]}")
    environ = {"SERVING_ADAPTERS_DIR": str(shelf), "SERVING_RECONCILE_S": "0.1", "SERVING_EVICT_AFTER_S": "0"}
    async with (
        running_gateway(database_url, tmp_path, environ=environ) as running,
        pool(database_url, size=2) as connections,
    ):
        registry = ModelRegistry(connections)
        stable = (await registry.version(running.stable)).version
        tuned = await registry.register(
            ModelVersion(
                name="tuned",
                base_digest=stable.base_digest,
                adapter_digest=digest,
                prompt=PromptTemplate(name="short", system="Answer from the passages, as JSON."),
                task=stable.task,
                schema=stable.schema,
            )
        )
        made = await create_key(
            Database(connections), name="release", tenant=TENANT, principals=["public"], scopes=["release"]
        )
        key = made.secret
        running.vllm.written[str(path)] = running.vllm.models[running.stable]

        status, problem = await call(running, key, ":promote", {"version": tuned.id})
        assert (status, problem["type"]) == (409, "urn:twinrail:problem:not-served")
        status, _ = await call(running, key, ":stage", {"version": "m-nope"})
        assert status == 404

        status, state = await call(running, key, ":stage", {"version": tuned.id})
        assert (status, state["roles"]) == (200, ["staged"])
        async with asyncio.timeout(30):
            while not state["routable"]:
                await asyncio.sleep(0.05)
                _, found = await call(running, key, f"/replicas?version={tuned.id}")
                (state,) = found["versions"]
        assert running.vllm.adapters == {tuned.id: str(path)}
        (holding,) = state["holdings"]
        assert (holding["state"], holding["of_this_life"]) == ("probed", True)
        _, report = await call(running, key, ":probe", {"version": tuned.id})
        assert report["passed"]

        status, pointer = await call(running, key, ":promote", {"version": tuned.id})
        assert (status, pointer["stable"]) == (200, tuned.id)
        answer = await running.ask(REFUND)
        assert (answer["status"], answer["versions"]["model"]) == ("answered", tuned.id), answer.get(
            "fallback"
        )
        _, found = await call(running, key, "/replicas")
        assert {each["version"]: each["roles"][0] for each in found["versions"]} == {
            tuned.id: "stable",
            running.fallback: "fallback",
            running.stable: "previous",
        }
        running.vllm.ignored.add(tuned.id)
        _, report = await call(running, key, ":probe", {"version": tuned.id})
        assert not report["passed"]
        assert "answers as its base" in report["engines"][0]["reason"]
