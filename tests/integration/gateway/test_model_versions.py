"""`twinrail model versions`, `show`, `diff`, `promote`, `undo`, `retire` against a running gateway."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.models import ModelFolders
from deploy.output import Output
from serving.manifests import Manifest, manifest_file, write_manifest
from serving.registry import ModelRegistry
from tests.fakes.adapter_folders import write_adapter
from tests.integration.gateway.conftest import Gateway


class Command:
    """The command line with the address and the release key of a gateway."""

    def __init__(self, gateway: Gateway, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TWINRAIL_MODELS", raising=False)
        monkeypatch.setenv("TWINRAIL_HOME", str(home))
        monkeypatch.setenv("TWINRAIL_URL", gateway.url)
        monkeypatch.setenv("TWINRAIL_API_KEY", gateway.keys.release)
        self.models = ModelFolders(home / "models")

    async def __call__(self, *arguments: str) -> tuple[int, Any, str]:
        code, said, log = await self.text(*arguments, "--json")
        return code, json.loads(said) if said else None, log

    async def text(self, *arguments: str) -> tuple[int, str, str]:
        """As a person reads it."""
        stdout, stderr = io.StringIO(), io.StringIO()
        out = Output(stdout=stdout, stderr=stderr)
        code = await asyncio.to_thread(main, ["model", *arguments], out)
        return code, stdout.getvalue(), stderr.getvalue()


@pytest.fixture
def model(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(gateway, tmp_path / "home", monkeypatch)


async def with_adapter(gateway: Gateway, digest: str, *, name: str = "tuned") -> str:
    """A candidate like the stable version, but for its name and its adapter."""
    registry = ModelRegistry(gateway.records)
    stable = (await registry.version(gateway.stable)).version
    version = replace(stable, name=name, adapter_digest=digest)
    facts = {"rank": 2, "metrics": {"tone": 0.97}}
    return (await registry.register(version, manifest=facts, releasable=False, author="ann")).id


async def test_versions_say_what_they_may_do_and_what_part_they_play(
    gateway: Gateway, model: Command
) -> None:
    candidate = await with_adapter(gateway, "a" * 64)
    code, found, _ = await model("versions")
    assert code == 0
    told = {each["id"]: (each["state"], each["details"]["roles"]) for each in found["versions"]}
    assert told == {
        gateway.stable: ("releasable", ["stable"]),
        gateway.fallback: ("releasable", ["fallback"]),
        gateway.canary: ("releasable", []),
        candidate: ("candidate", []),
    }
    await model("retire", gateway.canary)
    _, found, log = await model("versions")
    assert gateway.canary not in {each["id"] for each in found["versions"]}
    assert "1 retired: --all lists them too" in log
    _, text, _ = await model.text("versions", "--all")
    (row,) = (line.split() for line in text.splitlines() if line.startswith(gateway.canary))
    assert row[1:5] == ["retired", "-", "support_answer", "next_prompt"]


async def test_a_damaged_version_is_listed_with_the_reason_and_keeps_the_weights_of_others(
    gateway: Gateway, model: Command
) -> None:
    damaged, other = [await with_adapter(gateway, digest * 64, name="d" + digest) for digest in "ab"]
    async with gateway.records.connection() as connection:
        await connection.execute("UPDATE serving.model_version SET manifest = '[]' WHERE id = %s", [damaged])
    code, said, log = await model.text("versions")
    assert code == 0
    [row] = [line.split() for line in said.splitlines() if line.startswith(damaged)]
    assert row[1:8] == ["unreadable", "-", "-", "-", "-", "-", "ann"]
    assert f"warning: version: {damaged} cannot be read: manifest: is [], not an object" in log
    code, _, log = await model("show", damaged)
    assert (code, "cannot be read" in log) == (3, True)
    code, _, log = await model("retire", other, "--delete-weights")
    assert code == 1
    assert f"--delete-weights: {damaged} cannot be read" in log
    code, _, log = await model("retire", damaged, "--delete-weights")
    assert (code, "--delete-weights" in log) == (1, True)
    assert (await model("retire", damaged))[0] == 0
    code, said, _ = await model.text("versions", "--all")
    assert [line.split()[1] for line in said.splitlines() if line.startswith(damaged)] == ["retired"]
    code, _, log = await model("retire", damaged, "--delete-weights")
    assert (code, f"--delete-weights: {damaged} cannot be read" in log) == (1, True)
    assert (await model("retire", other, "--delete-weights"))[0] == 0


async def test_a_damaged_version_is_taken_back_from_the_engines_and_given_up(
    gateway: Gateway, model: Command
) -> None:
    damaged = await with_adapter(gateway, "a" * 64)
    key = gateway.keys.release
    assert (await gateway.post("/v1/rails/model:stage", {"version": damaged}, key=key))[0] == 200
    async with gateway.records.connection() as connection:
        await connection.execute("UPDATE serving.model_version SET manifest = '[]' WHERE id = %s", [damaged])
    code, _, log = await model("stage", damaged, "--wait", "0")
    assert (code, "cannot be read" in log) == (3, True)
    assert (await model("stage", damaged, "--off"))[0] == 0
    assert gateway.state.replicas.staged == {}  # type: ignore[attr-defined]
    assert (await model("retire", damaged))[0] == 0
    for staged in (True, False):
        body = {"version": "m-nope", "staged": staged}
        assert (await gateway.post("/v1/rails/model:stage", body, key=key))[0] == 404


async def test_show_tells_manifest_parts_events_and_moves(gateway: Gateway, model: Command) -> None:
    candidate = await with_adapter(gateway, "a" * 64)
    await model("promote", gateway.canary, "--wait", "0")
    code, shown, log = await model("show", gateway.canary)
    assert (code, log) == (0, "")
    assert (shown["state"], shown["details"]["roles"]) == ("releasable", ["stable"])
    assert shown["definition"]["schema"]["title"] == "support_answer"
    assert [each["action"] for each in shown["moves"]] == ["promote"]
    assert shown["engines"]["routable"]
    assert shown["manifest_file"] == {"is_here": False, "fault": ""}
    _, text, _ = await model.text("show", candidate)
    assert f"{candidate}  candidate\n" in text
    assert "adapter_digest" in text
    assert '{"tone": 0.97}' in text
    assert "registered  ann" in text
    assert "\nmoves\n" not in text


async def test_show_says_so_when_the_file_was_edited(gateway: Gateway, model: Command) -> None:
    candidate = await with_adapter(gateway, "a" * 64)
    stored = await ModelRegistry(gateway.records).version(candidate)
    write_manifest(model.models.root, Manifest.from_json(stored.manifest))
    _, shown, log = await model("show", candidate)
    assert (shown["manifest_file"], log) == ({"is_here": True, "fault": ""}, "")
    path = manifest_file(model.models.root, candidate)
    path.write_text(json.dumps({**stored.manifest, "metrics": {"tone": 1.0}}), encoding="utf-8")
    code, shown, log = await model("show", candidate)
    assert code == 0
    assert "metrics: is " in shown["manifest_file"]["fault"]
    assert log.startswith("warning: ")


async def test_diff_tells_what_is_not_the_same(gateway: Gateway, model: Command) -> None:
    candidate = await with_adapter(gateway, "a" * 64)
    code, found, _ = await model("diff", gateway.stable, candidate)
    assert code == 0
    parts = {each["part"]: (each["before"], each["after"]) for each in found["differences"]}
    assert parts == {
        "adapter_digest": (None, "a" * 64),
        "rank": (None, 2),
        "metrics.tone": (None, 0.97),
    }
    _, text, _ = await model.text("diff", gateway.stable, gateway.fallback)
    assert "-name: support_prompt" in text
    assert "+name: strong_prompt" in text
    _, text, _ = await model.text("diff", candidate, candidate)
    assert text == f"{candidate} and {candidate} do not differ\n"
    code, _, log = await model("diff", gateway.stable, "m-none-00000000")
    assert code == 2
    assert "m-none-00000000" in log


async def test_promote_and_undo_move_the_one_pointer(gateway: Gateway, model: Command) -> None:
    code, plan, _ = await model("promote", gateway.canary, "--dry-run")
    assert (code, plan["plan"]) == (0, f"would make {gateway.canary} stable in place of {gateway.stable}")
    code, moved, _ = await model("promote", gateway.canary)
    assert (code, moved["after"]["stable"]) == (0, gateway.canary)
    code, moved, _ = await model("undo")
    assert (code, moved["after"]["stable"]) == (0, gateway.stable)


async def test_a_candidate_is_not_promoted_and_nothing_moves(gateway: Gateway, model: Command) -> None:
    candidate = await with_adapter(gateway, "a" * 64)
    before = await ModelRegistry(gateway.records).pointer()
    code, _, log = await model("promote", candidate, "--force")
    assert code == 1
    assert "is a candidate: no gate has passed it" in log
    assert await ModelRegistry(gateway.records).pointer() == before


async def test_a_move_that_was_decided_on_another_pointer_is_refused(gateway: Gateway) -> None:
    registry = ModelRegistry(gateway.records)
    seen = await registry.pointer()
    await registry.promote(gateway.canary)
    for call, body in (
        ("promote", {"version": gateway.fallback}),
        ("canary", {"version": gateway.fallback, "weight_bp": 500}),
    ):
        status, problem, _ = await gateway.post(
            f"/v1/rails/model:{call}",
            {**body, "expected_revision": seen.revision},
            key=gateway.keys.release,
        )
        assert (status, problem["type"]) == (409, "urn:twinrail:problem:pointer-moved")
    assert (await registry.pointer()).stable == gateway.canary


async def test_a_forced_promotion_is_kept_with_what_was_against_it(gateway: Gateway, model: Command) -> None:
    del gateway.vllm.models[gateway.canary]
    code, _, _ = await model("promote", gateway.canary, "--force")
    assert code == 0
    _, shown, _ = await model("show", gateway.canary)
    assert shown["events"][0]["action"] == "promoted_by_force"
    assert shown["events"][0]["by"]
    assert "wanted" in shown["events"][0]["reason"]


async def test_retire_is_refused_where_traffic_leads_and_kept_with_its_reason(
    gateway: Gateway, model: Command
) -> None:
    for dry in ((), ("--dry-run",)):
        code, _, log = await model("retire", gateway.stable, *dry)
        assert code == 1
        assert f"{gateway.stable} " in log
        assert "it is stable" in log
    code, plan, _ = await model("retire", gateway.canary, "--dry-run")
    assert (code, plan["dry_run"]) == (0, True)
    code, done, _ = await model("retire", gateway.canary, "--reason", "replaced in May")
    assert (code, done) == (0, {"version": gateway.canary, "dry_run": False, "removed": []})
    _, shown, _ = await model("show", gateway.canary)
    assert shown["state"] == "retired"
    assert (shown["events"][0]["action"], shown["events"][0]["reason"]) == ("retired", "replaced in May")
    assert shown["events"][0]["by"]
    code, _, log = await model("promote", gateway.canary, "--force")
    assert code == 1
    assert "is retired" in log


async def test_weights_go_with_the_last_version_that_uses_them(gateway: Gateway, model: Command) -> None:
    first = await with_adapter(gateway, "a" * 64)
    second = await with_adapter(gateway, "a" * 64, name="again")
    kept = write_adapter(model.models.adapter("a" * 64))
    merged = model.models.merged("b" * 64, "a" * 64)
    merged.mkdir()
    _, plan, _ = await model("retire", first, "--delete-weights", "--dry-run")
    assert plan["removed"] == []
    _, done, _ = await model("retire", first, "--delete-weights")
    assert done["removed"] == []
    assert kept.exists()
    _, plan, _ = await model("retire", second, "--delete-weights", "--dry-run")
    assert plan["removed"] == [kept.name, merged.name]
    assert kept.exists()
    _, done, _ = await model("retire", second, "--delete-weights")
    assert done["removed"] == [kept.name, merged.name]
    assert not kept.exists()
    assert not merged.exists()
