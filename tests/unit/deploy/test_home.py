"""The data folder: keys are private, one stack at a time."""

from pathlib import Path

import pytest

from deploy.errors import AlreadyRunningError, UsageError
from deploy.home import Home, StackState

STATE = StackState(pid=1, gateway_url="http://h", ready=True, database="d", engines={}, started_at="now")


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    home.keep_keys({"customer": "tw_1"})
    assert home.keys() == {"customer": "tw_1"}
    assert home.keys_file.stat().st_mode & 0o777 == 0o600


def test_no_keys_before_the_first_start_and_a_clear_error_for_broken_ones(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.keys() == {}
    home.keys_file.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"keys.json: cannot be read .*; restore it"):
        home.keys()


def test_a_second_stack_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    assert not home.is_running()
    with home.lock():
        home.keep_state(STATE)
        assert home.is_running()
        assert home.state() == STATE
        with pytest.raises(AlreadyRunningError, match="twinrail down"), home.lock():
            pass
        assert home.state() == STATE
    assert not home.is_running()
    assert home.state() is None


def test_state_that_a_killed_stack_left_behind_is_not_believed(tmp_path: Path) -> None:
    home = Home(tmp_path).prepare()
    home.keep_state(STATE)
    assert home.state() is None


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"^TWINRAIL_HOME: cannot write to"):
        Home(tmp_path / "file").prepare()
