"""`tune train` and `tune register`: from a recipe and rows to a version that may take traffic."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from deploy.cli import main
from deploy.database import pool
from deploy.migrate import migrate
from deploy.output import Output
from gateway.database import Database
from gateway.reports import ReportStore
from serving.adapter_checks import ADAPTER_FILE
from serving.errors import NotReleasableError
from serving.manifests import RUN_RECORD, manifest_file
from serving.registry import ModelRegistry, VersionEvent
from serving.versions import RegisteredVersion
from tests.fakes.tiny_dataset import write_tiny_dataset, write_tiny_recipe
from tests.fakes.tiny_model import write_tiny_model
from tests.fakes.tuning_reports import tuning_report, write_tuning_report


async def twinrail(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """Run the command as a program would be run: with an event loop of its own."""
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, ["tune", *map(str, arguments)], out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    return code, json.loads(out.stdout.getvalue() or "{}"), out.stderr.getvalue()


@pytest.fixture(scope="module")
async def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder, and a run on it that the command made."""
    folder = tmp_path_factory.mktemp("trained")
    write_tiny_model(folder / "base")
    recipe = write_tiny_recipe(folder, training={"max_steps": 1})
    data = write_tiny_dataset(folder / "data")
    where = ("--out", folder / "run", "--base", folder / "base", "--threads", "1")
    code, record, log = await twinrail("train", recipe, data, *where, "--json")
    assert code == 0, log
    assert record["steps"] == 1
    assert "step 1/1" in log
    return folder


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path, trained: Path) -> Path:
    for name in ("SERVING_ENGINES", "TWINRAIL_MODELS", "TWINRAIL_URL", "TWINRAIL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    shutil.copytree(trained / "base", tmp_path / "home" / "models" / "base")
    return tmp_path / "home"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run that nobody registered yet."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


async def stored(url: str, version: str) -> tuple[RegisteredVersion, list[VersionEvent]]:
    async with pool(url, size=1) as connections:
        registry = ModelRegistry(connections)
        return await registry.version(version), await registry.events(version)


async def give_verdict(url: str, version: str, verdict: str, *, gate: str = "tuning") -> None:
    async with pool(url, size=1) as connections:
        await ReportStore(Database(connections)).give_verdict(
            "model", version, gate=gate, verdict=verdict, report="tuned-x", sha256="ab" * 32, given_by="eval"
        )


def verdict_file(folder: Path, run: Path, version: str, verdict: str = "pass") -> Path:
    sha256 = json.loads((run / RUN_RECORD).read_text())["dataset_sha256"]
    content = tuning_report(version, verdict, trained_on={"sha256": sha256, "rows": 5})
    return write_tuning_report(folder, content, name=f"{verdict}.json")


async def candidate(run: Path) -> str:
    code, told, log = await twinrail("register", run, "--name", "support", "--json")
    assert code == 4, log
    return str(told["id"])


async def test_without_a_verdict_it_is_a_candidate_that_takes_no_traffic(
    run: Path, home: Path, database_url: str
) -> None:
    code, told, log = await twinrail("register", run, "--name", "support", "--json")
    assert (code, told["state"]) == (4, "candidate")
    # Without its dataset nothing is known to be unseen, and the verdict would be "not enough".
    assert f"`twinrail tune evaluate {run} --dataset DIR` with the folder of its dataset 'values'" in log
    version, _ = await stored(database_url, told["id"])
    assert not version.releasable
    assert (home / "models" / f"adapter-{str(version.version.adapter_digest)[:8]}" / ADAPTER_FILE).is_file()
    assert version.manifest["dataset_sha256"] == json.loads((run / RUN_RECORD).read_text())["dataset_sha256"]
    assert version.manifest["rank"] == 4
    assert "definition" not in version.manifest["run"]
    assert json.loads(manifest_file(home / "models", told["id"]).read_text()) == version.manifest
    # The folder can be named in its stead from now on.
    assert json.loads((run / RUN_RECORD).read_text())["version"] == told["id"]
    async with pool(database_url, size=1) as connections:
        with pytest.raises(NotReleasableError, match="candidate"):
            await ModelRegistry(connections).promote(told["id"])


async def test_a_recorded_pass_makes_it_releasable(run: Path, home: Path, database_url: str) -> None:
    version = await candidate(run)
    await give_verdict(database_url, version, "pass")
    code, told, log = await twinrail("register", run, "--name", "support", "--json")
    assert f"`twinrail model promote {version}`" in log
    assert (code, told) == (0, {"id": version, "state": "releasable", "dry_run": False})
    found, events = await stored(database_url, version)
    assert found.releasable
    assert not found.forced
    assert found.manifest["metrics"]["gate"] == "tuning"
    assert "the gate tuning passed it" in events[0].reason
    assert json.loads(manifest_file(home / "models", version).read_text()) == found.manifest
    # Once more changes nothing.
    assert (await twinrail("register", run, "--name", "support", "--json"))[1] == told


async def test_a_verdict_file_for_exactly_this_version_makes_it_releasable(
    run: Path, tmp_path: Path, database_url: str
) -> None:
    version = await candidate(run)
    file = verdict_file(tmp_path, run, version)
    code, _, log = await twinrail("register", run, "--name", "support", "--verdict", file, "--json")
    assert code == 0, log
    assert (await stored(database_url, version))[0].releasable


async def test_the_verdict_of_another_adapter_is_not_taken(run: Path, tmp_path: Path) -> None:
    file = verdict_file(tmp_path, run, "m-support-00000000")
    code, _, log = await twinrail("register", run, "--name", "support", "--verdict", file)
    assert code == 2
    assert "version: is m-support-00000000, and this run is m-support-" in log


@pytest.mark.parametrize("gate", ["tuning", "another"])
async def test_a_refusal_stands_until_it_is_forced(run: Path, database_url: str, gate: str) -> None:
    version = await candidate(run)
    await give_verdict(database_url, version, "pass")
    await give_verdict(database_url, version, "refused", gate=gate)
    code, _, log = await twinrail("register", run, "--name", "support")
    assert code == 1
    assert f"the gate {gate} says refused of {version}" in log
    assert not (await stored(database_url, version))[0].releasable
    forced = ("--force", "--reason", "the demo is at noon", "--json")
    code, told, _ = await twinrail("register", run, "--name", "support", *forced)
    assert (code, told["state"]) == (0, "forced")
    found, events = await stored(database_url, version)
    assert (found.releasable, found.forced, found.manifest["forced"]) == (True, True, True)
    assert (events[0].action, events[0].reason) == ("forced", "the demo is at noon")


@pytest.mark.parametrize("recorded", ["refused", "not_enough", "pass"])
async def test_a_file_never_outweighs_what_is_recorded(
    run: Path, tmp_path: Path, database_url: str, recorded: str
) -> None:
    version = await candidate(run)
    await give_verdict(database_url, version, recorded)
    passing = verdict_file(tmp_path, run, version)
    code, _, log = await twinrail("register", run, "--name", "support", "--verdict", passing)
    assert code == 1
    assert f"the gate tuning has said {recorded} of {version} in the recorded report tuned-x" in log
    assert not (await stored(database_url, version))[0].releasable


async def test_a_file_makes_up_for_no_other_gate(run: Path, tmp_path: Path, database_url: str) -> None:
    version = await candidate(run)
    passing = verdict_file(tmp_path, run, version)
    for recorded, code in (("not_enough", 4), ("refused", 1), ("pass", 0)):
        await give_verdict(database_url, version, recorded, gate="another")
        given = ("--name", "support", "--verdict", passing, "--json")
        assert (await twinrail("register", run, *given))[0] == code


async def test_a_retired_version_comes_back_only_with_a_reason(run: Path, database_url: str) -> None:
    version = await candidate(run)
    async with pool(database_url, size=1) as connections:
        await ModelRegistry(connections).retire(version, by="ann")
    for dry in ((), ("--dry-run",)):
        code, _, log = await twinrail("register", run, "--name", "support", *dry)
        assert code == 1
        assert f"version: {version} was retired on" in log
        assert "--revive --reason" in log
    assert "--reason: say why it is brought back" in (await twinrail("register", run, "--revive"))[2]
    code, told, _ = await twinrail(
        "register", run, "--name", "support", "--revive", "--reason", "needed in May", "--json"
    )
    assert (code, told["state"]) == (4, "candidate")
    events = (await stored(database_url, version))[1]
    assert (events[0].action, events[0].reason) == ("revived", "needed in May")


async def test_a_dry_run_says_what_the_command_then_does(run: Path, database_url: str) -> None:
    version = await candidate(run)
    support = ("register", run, "--name", "support", "--json")
    forced = ("--force", "--reason", "the demo is at noon")
    for verdict, more in ((None, forced), (None, ()), ("pass", ()), (None, forced)):
        if verdict is not None:
            await give_verdict(database_url, version, verdict)
        code, would, _ = await twinrail(*support, *more, "--dry-run")
        then, told, _ = await twinrail(*support, *more)
        assert (then, told) == (code, {**would, "dry_run": False})


async def test_too_little_evidence_leaves_it_a_candidate(run: Path, database_url: str) -> None:
    version = await candidate(run)
    await give_verdict(database_url, version, "not_enough")
    assert await candidate(run) == version


async def test_a_report_with_too_little_evidence_is_no_refusal(
    run: Path, tmp_path: Path, database_url: str
) -> None:
    version = await candidate(run)
    file = verdict_file(tmp_path, run, version, "not_enough")
    code, told, log = await twinrail("register", run, "--name", "support", "--verdict", file, "--json")
    assert (code, told["state"]) == (4, "candidate")
    assert "not_enough.json: the gate tuning has not enough evidence" in log
    assert not (await stored(database_url, version))[0].releasable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--force",), "--reason: say why"),
        (("--force", "--reason", "  "), "--reason: say why"),
        (("--reason", "so"), "--reason: is for --force"),
        (("--name", "Not A Name"), "--name: 'Not A Name' cannot be part of an id"),
        (("--verdict", "nowhere.json"), "nowhere.json: cannot be read"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(run: Path, arguments: tuple[str, ...], message: str) -> None:
    code, _, log = await twinrail("register", run, *arguments)
    assert code == 2
    assert message in log


async def test_a_verdict_that_is_none_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("pass")
    (tmp_path / "words.json").write_text('{"format": 1, "gate": "tuning", "verdict": "pass"}')
    for file, message in (
        (tmp_path / "list.json", "holds no JSON object"),
        (tmp_path / "text.json", "not JSON"),
        (tmp_path / "words.json", "version: is missing"),
    ):
        code, _, log = await twinrail("register", run, "--verdict", file)
        assert code == 2
        assert message in log


async def test_a_dry_run_writes_nothing(run: Path, home: Path) -> None:
    before = (run / RUN_RECORD).read_text()
    code, told, _ = await twinrail("register", run, "--dry-run", "--json")
    assert (code, told["dry_run"]) == (4, True)
    assert (run / RUN_RECORD).read_text() == before
    assert sorted(path.name for path in (home / "models").iterdir()) == ["base"]


async def test_an_adapter_for_another_base_is_refused(run: Path, home: Path) -> None:
    shutil.rmtree(home / "models" / "base")
    write_tiny_model(home / "models" / "base", layers=3)
    code, _, log = await twinrail("register", run)
    assert code == 2
    assert "base" in log
    assert sorted(path.name for path in (home / "models").iterdir()) == ["base"]


async def test_a_record_that_was_edited_is_refused(run: Path) -> None:
    record = json.loads((run / RUN_RECORD).read_text())
    record["definition"]["prompt"]["system"] = "Answer as you like."
    (run / RUN_RECORD).write_text(json.dumps(record))
    code, _, log = await twinrail("register", run)
    assert code == 2
    assert "prompt_sha256" in log
    del record["definition"]
    (run / RUN_RECORD).write_text(json.dumps(record))
    assert "holds no record of `twinrail tune train`" in (await twinrail("register", run))[2]


async def test_a_mistake_in_the_recipe_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    recipe = write_tiny_recipe(tmp_path, training={"learning_rat": 1})
    code, _, log = await twinrail("train", recipe, tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert "training.learning_rat: no such setting; meant learning_rate?" in log


@pytest.fixture(autouse=True)
async def migrated(database_url: str) -> None:
    await migrate(database_url, on_step=lambda _name: None)
