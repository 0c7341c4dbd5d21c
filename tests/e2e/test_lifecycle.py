"""Starting, stopping and being killed: nothing is left behind, nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.home import Home
from tests.e2e.conftest import GONE_S, Stack, running

pytestmark = pytest.mark.e2e
QUESTION = "How much is Sync Plus a month?"


def stored_turn(stack: Stack, turn_id: str) -> dict[str, Any]:
    key = Home(stack.home).keys()["customer"]
    request = urllib.request.Request(f"{stack.url}/v1/turns/{turn_id}", headers={"x-api-key": key})
    with urllib.request.urlopen(request, timeout=30) as response:
        turn: dict[str, Any] = json.load(response)
    return turn


def assert_all_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_S)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert left == []


def vllm_runs(stack: Stack) -> bool:
    return any("vllm" in " ".join(process.cmdline()) for process in stack.processes() if process.is_running())


def test_ctrl_c_leaves_no_process_and_the_next_start_goes_on_where_it_was(folder: Path) -> None:
    home = folder / "home"
    with running(home, folder / "first.log", "--no-fallback") as first:
        first.wait_for(first.is_ready, "ready")
        answered = first.twinrail("ask", QUESTION, "--json")
        keys = Home(home).keys()
        processes = first.processes()
        assert len(processes) > 4
        os.killpg(first.process.pid, signal.SIGINT)  # as the terminal does it
        assert first.process.wait(GONE_S) == 0
        assert_all_gone(processes)
    assert first.said("stopped")
    assert Home(home).state() is None

    with running(home, folder / "second.log", "--no-fallback") as second:
        second.wait_for(lambda: second.said("[8/8] gateway"), "the gateway")
        second.wait_for(lambda: vllm_runs(second), "vLLM")
        assert second.said("up to date")
        assert second.said("unchanged since the last start")
        assert Home(home).keys() == keys
        turn = stored_turn(second, answered.json["id"])
        assert turn["question"] == QUESTION
        assert turn["versions"] == answered.json["versions"]
        processes = second.processes()
        second.process.kill()
        second.process.wait()
        assert_all_gone(processes)


def test_a_taken_port_is_named_with_its_setting_and_the_fix(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running(folder / "home", folder / "up.log", port=port) as stack:
            assert stack.process.wait(GONE_S) == 2
    last = stack.log.read_text(encoding="utf-8").splitlines()[-1]
    assert last == (
        f"twinrail: GATEWAY_PORT: port {port} on 127.0.0.1 is in use; "
        "stop that process, or choose another one with --port"
    )


def test_engines_that_do_not_answer_are_named(folder: Path) -> None:
    with running(folder / "home", folder / "up.log", SERVING_ENGINES="http://127.0.0.1:9") as stack:
        assert stack.process.wait(GONE_S * 3) == 3
    last = stack.log.read_text(encoding="utf-8").splitlines()[-1]
    assert last.startswith("twinrail: SERVING_ENGINES: nothing to serve with (http://127.0.0.1:9/v1: ")
