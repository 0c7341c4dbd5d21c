"""Steps as people see them."""

import pytest

from deploy.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_says_number_seconds_and_outcome() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = Progress(("folder", "engine"), lines.append, clock)
    with progress.step("engine", announce="starting") as step:
        clock.now = 38.25
        step.detail = "ready"
    assert lines == ["[2/2] engine           starting ...", "[2/2] engine   38.2 s  ready"]
    assert progress.seconds == {"engine": 38.25}


def test_a_failed_step_says_so_and_counts_as_not_done() -> None:
    lines: list[str] = []
    progress = Progress(("folder",), lines.append, Clock())
    with pytest.raises(OSError, match="full"), progress.step("folder"):
        raise OSError("full")
    assert lines == ["[1/1] folder    0.0 s  stopped"]
    assert progress.seconds == {}
