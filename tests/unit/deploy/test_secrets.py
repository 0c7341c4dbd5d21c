"""Keys are shown on a terminal and nowhere else; logs belong to their owner."""

from __future__ import annotations

import io
from pathlib import Path

from deploy.commands.stack import spawn_detached
from deploy.home import Home
from deploy.logfile import open_log
from deploy.output import Output
from deploy.welcome import welcome

KEYS = {"customer": "tw_customer", "admin": "tw_admin"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def say_welcome(keys: dict[str, str] | None) -> str:
    return welcome(
        url="http://h", keys=keys, keys_file=Path("/home/keys.json"), question="How?", opening="Ready."
    )


def test_only_a_terminal_is_private() -> None:
    assert Output(stdout=Terminal()).is_private
    assert not Output(stdout=io.StringIO()).is_private


def test_the_welcome_of_a_terminal_can_be_copied_as_it_stands() -> None:
    said = say_welcome(KEYS)
    assert "Bearer tw_customer" in said
    assert "http://h/console#key=tw_admin" in said


def test_any_other_welcome_names_the_file_of_the_keys_instead() -> None:
    said = say_welcome(None)
    assert "tw_" not in said
    assert '"authorization: Bearer $CUSTOMER_KEY"' in said
    assert "/home/keys.json" in said


def test_what_a_detached_stack_says_as_data_does_not_reach_its_log(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    assert spawn_detached(["sh", "-c", "echo tw_customer; echo '[1/8] folder' >&2"], log).wait() == 0
    assert log.read_text(encoding="utf-8") == "[1/8] folder\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_logs_are_readable_by_their_owner_only_also_those_of_an_earlier_release(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.logs.mkdir()
    home.logs.chmod(0o755)
    old = home.logs / "gateway.log"
    old.write_text("before\n", encoding="utf-8")
    old.chmod(0o644)
    home.prepare()
    with open_log(old) as log:
        log.write(b"after\n")
    assert home.logs.stat().st_mode & 0o777 == 0o700
    assert old.stat().st_mode & 0o777 == 0o600
    assert old.read_text(encoding="utf-8") == "before\nafter\n"
