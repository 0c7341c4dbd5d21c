"""`twinrail model register --adapter`: an operator's own adapter, from the folder to the registry."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.database import pool
from deploy.models import LocalModels, ModelFolders
from deploy.output import Output
from serving.adapter_checks import BaseFacts, check_adapter
from serving.adapter_configs import ADAPTER_CONFIG
from serving.digests import digest_folder
from serving.manifests import manifest_file
from serving.registry import ModelRegistry
from serving.settings import Form
from serving.versions import RegisteredVersion, VersionState
from tests.fakes.adapter_folders import write_adapter, write_base

SUPPORT = ("--name", "own", "--schema", "support_answer", "--prompt", "support_short")


@pytest.fixture
def models(tmp_path: Path) -> ModelFolders:
    folders = ModelFolders(tmp_path / "home" / "models")
    write_base(folders.base)
    return folders


@pytest.fixture
def adapter(models: ModelFolders, tmp_path: Path) -> Path:
    folder = write_adapter(tmp_path / "mine")
    record = check_adapter(folder, base=models.base).record()
    return write_adapter(folder, record={**record, "dataset_sha256": "e" * 64, "prompt_sha256": "0" * 64})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path) -> None:
    for name in ("SERVING_ENGINES", "TWINRAIL_MODELS", "TWINRAIL_URL", "TWINRAIL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    # Folding an adapter in needs a base that transformers can load.
    monkeypatch.setenv("SERVING_TUNED_AS", "adapter")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))


async def register(*arguments: str) -> tuple[int, dict[str, Any], str]:
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, ["model", "register", "--json", *SUPPORT, *arguments], out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    return code, json.loads(out.stdout.getvalue() or "{}"), out.stderr.getvalue()


async def stored(database_url: str) -> list[RegisteredVersion]:
    async with pool(database_url, size=1) as connections:
        return await ModelRegistry(connections).versions()


async def test_it_is_copied_found_and_a_candidate(
    adapter: Path, models: ModelFolders, database_url: str
) -> None:
    code, told, log = await register("--adapter", str(adapter))
    assert code == 0, log
    assert (told["state"], told["new"]) == ("candidate", True)
    assert "warning: prompt_sha256: the adapter was trained with the prompt another" in log
    assert "takes no traffic before a gate has passed it" in log
    [version] = await stored(database_url)
    digest = digest_folder(adapter)
    assert (version.id, version.version.adapter_digest) == (told["id"], digest)
    assert version.version.base_digest == BaseFacts.of(models.base).digest
    assert (version.manifest["rank"], version.manifest["dataset_sha256"]) == (2, "e" * 64)
    assert json.loads(manifest_file(models.root, told["id"]).read_text(encoding="utf-8")) == version.manifest
    here = LocalModels(
        folders=models, base_digest=version.version.base_digest, adapter_digest=None, form=Form.ADAPTER
    )
    weights = here.weights_of(version.version)
    assert weights is not None
    assert (weights.model, weights.adapter) == (models.base, models.adapter(digest))
    assert digest_folder(models.adapter(digest)) == digest
    code, again, _ = await register("--adapter", str(adapter))
    assert (code, again) == (0, {**told, "new": False})


async def test_a_dry_run_checks_and_writes_nothing(
    adapter: Path, models: ModelFolders, database_url: str
) -> None:
    code, told, _ = await register("--adapter", str(adapter), "--dry-run")
    assert code == 0
    assert sorted(each.name for each in models.root.iterdir()) == ["base"]
    assert await stored(database_url) == []
    _, registered, _ = await register("--adapter", str(adapter))
    assert registered["id"] == told["id"]


async def test_force_needs_a_reason_and_is_kept(adapter: Path, database_url: str) -> None:
    given = ("--adapter", str(adapter))
    for wrong, says in (
        ((*given, "--force"), "--reason: say why"),
        ((*given, "--reason", "x"), "leave it out, or give --force or --revive too"),
        (("--force", "--reason", "x"), "--force: is for an --adapter"),
    ):
        code, _, log = await register(*wrong)
        assert code == 2
        assert says in log
    await register(*given)
    code, told, _ = await register(*given, "--force", "--reason", "shown on Monday")
    assert (code, told["state"], told["new"]) == (0, "forced", False)
    [version] = await stored(database_url)
    assert version.state is VersionState.FORCED
    async with pool(database_url, size=1) as connections:
        events = await ModelRegistry(connections).events(version.id)
    assert (events[0].action, events[0].reason) == ("forced", "shown on Monday")


async def test_a_retired_version_comes_back_only_with_a_reason(adapter: Path, database_url: str) -> None:
    given = ("--adapter", str(adapter))
    _, told, _ = await register(*given)
    async with pool(database_url, size=1) as connections:
        await ModelRegistry(connections).retire(told["id"], by="test")
    for more in ((), ("--dry-run",), ("--force", "--reason", "in haste")):
        code, _, log = await register(*given, *more)
        assert code == 1
        assert f"version: {told['id']} was retired on" in log
        assert "--revive --reason TEXT to bring it back" in log
    assert "--reason: say why the version comes back" in (await register(*given, "--revive"))[2]
    back = (*given, "--revive", "--reason", "needed in May")
    assert (await register(*back, "--dry-run"))[1]["state"] == "candidate"
    code, again, _ = await register(*back)
    assert (code, again["id"], again["state"]) == (0, told["id"], "candidate")
    async with pool(database_url, size=1) as connections:
        events = await ModelRegistry(connections).events(told["id"])
    assert (events[0].action, events[0].reason) == ("revived", "needed in May")


async def test_a_dry_run_says_what_the_command_then_does(adapter: Path) -> None:
    given = ("--adapter", str(adapter))
    forced = ("--force", "--reason", "shown on Monday")
    for more, new, state in (((), True, "candidate"), (forced, False, "forced"), ((), False, "forced")):
        _, would, _ = await register(*given, *more, "--dry-run")
        assert (would["new"], would["state"], would["dry_run"]) == (new, state, True)
        _, told, _ = await register(*given, *more)
        assert {name: told[name] for name in would} == {**would, "dry_run": False}


@pytest.mark.parametrize("has_copy", [True, False])
async def test_the_same_weights_with_another_alpha_are_refused(
    adapter: Path, models: ModelFolders, database_url: str, has_copy: bool
) -> None:
    """Also under another name, by a dry run, and on a machine that never had the first one."""
    given = ("--adapter", str(adapter))
    _, told, _ = await register(*given)
    if not has_copy:
        shutil.rmtree(models.adapter(digest_folder(adapter)))
    (adapter / "manifest.json").unlink()
    config = adapter / ADAPTER_CONFIG
    made = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**made, "lora_alpha": 3 * made["lora_alpha"]}), encoding="utf-8")
    for more in ((), ("--dry-run",), ("--name", "another")):
        code, _, log = await register(*given, *more)
        assert code == 2
        assert f"lora_alpha: is {3.0 * made['lora_alpha']}, and {told['id']} is registered with" in log
        assert "restore adapter_config.json" in log
    assert [each.id for each in await stored(database_url)] == [told["id"]]
    assert models.adapter(digest_folder(adapter)).exists() == has_copy


async def test_an_edited_manifest_is_refused_with_the_field(adapter: Path, models: ModelFolders) -> None:
    _, told, _ = await register("--adapter", str(adapter))
    path = manifest_file(models.root, told["id"])
    row = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**row, "dataset_sha256": "f" * 64}), encoding="utf-8")
    code, _, log = await register("--adapter", str(adapter))
    assert code == 2
    assert f"{told['id']}.json: dataset_sha256: is" in log


async def test_what_is_refused_leaves_nothing(adapter: Path, models: ModelFolders, database_url: str) -> None:
    (adapter / "evil.py").write_text("raise SystemExit", encoding="utf-8")
    code, _, log = await register("--adapter", str(adapter))
    assert code == 2
    assert "evil.py: loading such a file can run code" in log
    assert sorted(each.name for each in models.root.iterdir()) == ["base"]
    assert await stored(database_url) == []


async def test_engines_of_others_load_their_own_adapters(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_ENGINES", "http://127.0.0.1:1/v1")
    code, _, log = await register("--adapter", str(adapter))
    assert code == 2
    assert "--adapter: is for the engines that `twinrail up` starts" in log
