"""The command line itself: help, usage errors, one-line errors, exit codes. Nothing here reaches a server."""

import errno
import io
import re
from pathlib import Path

import pytest

from deploy.cli import main, variable_of
from deploy.output import Output

COMMANDS = (
    "up",
    "down",
    "status",
    "ask",
    "search",
    "ingest",
    "migrate",
    "rails",
    "undo",
    "promote",
    "canary",
    "version",
)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TWINRAIL_URL", "TWINRAIL_API_KEY", "DATABASE_URL", "GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path))


def run(*arguments: str) -> tuple[int, str, str]:
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = main(arguments, out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    return code, out.stdout.getvalue(), out.stderr.getvalue()


KNOWLEDGE = tuple(
    f"knowledge {name}"
    for name in (
        *("versions", "build", "shadow", "promote", "undo", "retire"),
        *("purge", "freshness", "fit", "fields"),
    )
)


@pytest.mark.parametrize("command", [*COMMANDS, *KNOWLEDGE, "keys create", "keys list", "keys revoke"])
def test_every_command_has_help_with_an_example_and_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"example:\n  twinrail {command}" in said
    assert "--json" in said


@pytest.mark.parametrize(
    "command",
    [
        *("down", "ingest", "migrate", "undo", "promote", "canary", "keys create", "keys revoke"),
        *KNOWLEDGE[1:],
    ],
)
def test_every_command_that_writes_has_a_dry_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert "--dry-run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: COMMAND; see `twinrail --help`"),
        (["fly"], "COMMAND: invalid choice: 'fly' (choose from "),
        (["ask"], "required: question; see `twinrail ask --help`"),
        (["undo", "everything"], "rail: invalid choice: 'everything' (choose from "),
        (["ask", "x", "--as", "nobody"], "--as: invalid choice: 'nobody' (choose from "),
        (["up", "--port", "x"], "--port: invalid int value: 'x'; see `twinrail up --help`"),
        (["knowledge", "fit", "--risk", "abc"], "--risk: 'abc' is not a number between 0 and 1; see"),
        (["knowledge", "fit", "--risk", "1"], "--risk: '1' is not a number between 0 and 1; see"),
        (
            ["knowledge", "fields", "--set", "text"],
            "--set: 'text' is not NAME=KIND with a kind of text, number",
        ),
        (["knowledge", "fields", "--set", "a=words"], "--set: 'a=words' is not NAME=KIND with a kind of"),
        (["knowledge", "fields", "--set", "$a=text"], "--set: $a: "),
        (["ask", "x", "--loud"], "unrecognized arguments: --loud; see `twinrail --help`"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"twinrail: {says}")


@pytest.mark.parametrize("command", ["status", "down", "ask x", "rails", "keys list", "up --no-demo"])
def test_a_home_that_cannot_be_used_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "file"))
    code, data, log = run(*command.split())
    assert (code, data) == (2, "")
    last = log.splitlines()[-1]
    assert last.startswith("twinrail: TWINRAIL_HOME: cannot ")
    assert "; choose a" in last


@pytest.mark.parametrize("command", ["ingest .", "up --no-demo"])
@pytest.mark.parametrize("models", ["file", "file/models"])
def test_a_models_folder_that_cannot_be_used_is_named(
    models: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWINRAIL_MODELS", str(tmp_path / models))
    code, data, log = run(*command.split())
    assert (code, data) == (2, "")
    last = log.splitlines()[-1]
    assert last.startswith(f"twinrail: TWINRAIL_MODELS: cannot use {tmp_path}/file")
    assert last.endswith("; choose a folder that this user may read and write")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("models/minilm", "TWINRAIL_MODELS: "),
        ("home/models", "TWINRAIL_HOME: "),
        ("", "TWINRAIL_MODELS: "),
        ("articles/a.md", ""),
    ],
)
def test_a_file_is_blamed_on_the_variable_whose_folder_holds_it(
    place: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWINRAIL_MODELS", str(tmp_path / "models"))
    assert variable_of(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / place))) == says


@pytest.mark.parametrize("command", ["migrate", "keys list", "up --no-demo"])
def test_a_database_address_that_is_none_is_named_without_what_it_says(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "hidden")
    code, data, log = run(*command.split())
    assert (code, data) == (2, "")
    assert log.startswith("twinrail: DATABASE_URL: no PostgreSQL address; write e.g. postgresql://")
    assert "hidden" not in log


def test_a_database_that_is_away_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden@127.0.0.1:9/x")
    code, data, log = run("migrate")
    assert (code, data) == (3, "")
    assert log.startswith("twinrail: DATABASE_URL: no answer from the database (")
    assert log.endswith("); start that server or correct the address\n")
    assert "hidden" not in log


def test_a_wrong_setting_of_any_part_stops_up_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SERVING_TUNED_AS", "fast")
    code, data, log = run("up", "--no-demo")
    assert (code, data) == (2, "")
    assert log.startswith("twinrail: SERVING_TUNED_AS: Input should be 'merged' or 'adapter'; ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("ask", "How much?"),
            r"TWINRAIL_API_KEY: not set, and .*keys\.json holds no 'customer' key; run `twinrail up`",
        ),
        (("ingest", "nowhere"), r"source: nowhere does not exist; give a folder"),
        (("up", "--demo", "nowhere"), r"--demo: nowhere does not exist; give a folder"),
        (("up", "--port", "99999"), r"--port: 99999 is not a port; give a number"),
        (
            ("undo", "model", "--publish"),
            r"--publish: the model rail has no publishes; leave --publish out",
        ),
        (
            ("canary", "model", "m-x"),
            r"--percent: a canary needs a version and its share; give both, or --off",
        ),
        (
            ("canary", "model", "m-x", "--percent", "101"),
            r"--percent: 101 is not a share; give a number from 0 to 100",
        ),
        (("knowledge", "build"), r"--name: give a name for a new version, or the id of one to go on with"),
        (("knowledge", "build", "k-a", "--name", "b"), r"--name: give a name for a new version, or the id"),
        (("knowledge", "shadow"), r"version: give the version to watch, or --off to end it"),
        (("canary", "model", "m-x", "--off"), r"--off: ends the canary, so it takes no version"),
        (("keys", "revoke", "x"), r"id: 'x' is not a key's id; `twinrail keys list` shows them"),
    ],
)
def test_bad_settings_are_one_line_with_field_and_fix(arguments: tuple[str, ...], says: str) -> None:
    code, data, log = run(*arguments)
    assert code == 2
    assert data == ""
    assert re.fullmatch(rf"twinrail: {says}.*\n", log)


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINRAIL_URL", "localhost")
    code, _, log = run("ask", "How much?")
    assert code == 2
    assert log.startswith("twinrail: TWINRAIL_URL: ")


def test_no_gateway_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINRAIL_URL", NOBODY)
    monkeypatch.setenv("TWINRAIL_API_KEY", "tw_x")
    code, data, log = run("ask", "How much?")
    assert code == 3
    assert data == ""
    said = f"no gateway answers at {NOBODY}; start one with `twinrail up`, or set TWINRAIL_URL"
    assert log == f"twinrail: TWINRAIL_URL: {said}\n"


def test_status_without_a_stack_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINRAIL_URL", NOBODY)
    code, data, _ = run("status")
    assert code == 3
    assert "not running; start it with `twinrail up`" in data


def test_down_without_a_stack_is_done_already() -> None:
    code, data, _ = run("down")
    assert code == 0
    assert "nothing runs on" in data
