"""Checkpoints are whole or not there, and a full disk is said to be one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from serving.errors import CheckpointError
from serving.tuning.checkpoints import Checkpoints, no_room


class PowerCutError(BaseException):
    """Nothing can be done about it."""


def write(checkpoints: Checkpoints, step: int, text: str = "x", *, cut: BaseException | None = None) -> None:
    with checkpoints.writing(step) as folder:
        (folder / "state").write_text(text)
        if cut:
            raise cut


def test_the_newest_whole_one_is_found(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.newest() is None
    for step in (5, 20, 10):
        write(checkpoints, step, str(step))
    assert checkpoints.steps() == [5, 10, 20]
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest / "state").read_text() == "20"


def test_one_that_is_cut_short_is_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 1)

    with pytest.raises(PowerCutError):
        write(checkpoints, 2, "half", cut=PowerCutError())
    assert checkpoints.steps() == [1]
    write(checkpoints, 2, "whole")
    assert (checkpoints.of(2) / "state").read_text() == "whole"


def test_one_is_written_again_in_place_of_itself(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 3, "first")
    write(checkpoints, 3, "second")
    assert (checkpoints.of(3) / "state").read_text() == "second"


def test_only_those_wanted_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4):
        write(checkpoints, step)
    checkpoints.drop_but(4, 2, None)
    assert checkpoints.steps() == [2, 4]
    checkpoints.remove()
    assert checkpoints.newest() is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_last_good_one_and_says_so(tmp_path: Path, code: int) -> None:
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 7)
    with pytest.raises(CheckpointError, match=r"no space left for the checkpoint of step 9; step-7 is kept"):
        write(checkpoints, 9, cut=OSError(code, "cannot write"))
    assert checkpoints.steps() == [7]
    assert [path.name for path in tmp_path.iterdir()] == ["step-7"]


def test_another_error_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        write(Checkpoints(tmp_path), 1, cut=PermissionError(errno.EACCES, "no"))
    assert not no_room(ValueError("No"))
    assert no_room(RuntimeError("I/O error: No space left on device (os error 28)"))
