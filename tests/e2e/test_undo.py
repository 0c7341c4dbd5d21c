"""Each rail moves alone: undo of one changes nothing on the other, and twice is redo."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Stack

pytestmark = pytest.mark.e2e
QUESTION = "How much is Sync Plus a month?"


def rails(stack: Stack) -> dict[str, Any]:
    return {rail["rail"]: rail for rail in stack.twinrail("rails", "--json").json["rails"]}


def test_undo_knowledge_takes_the_publish_back_and_leaves_the_model(stack: Stack) -> None:
    before = rails(stack)
    assert stack.twinrail("undo", "knowledge", "--publish", "--dry-run").code == 0
    assert rails(stack) == before
    try:
        assert stack.twinrail("undo", "knowledge", "--publish", "--force").code == 0
        after = rails(stack)
        assert after["knowledge"]["snapshot"] < before["knowledge"]["snapshot"]
        assert after["model"] == before["model"]
        found = stack.twinrail("search", QUESTION)
        assert f"@{after['knowledge']['snapshot']} (stable)" in found.log
        # Nothing was published before the first publish.
        assert found.code == (0 if after["knowledge"]["snapshot"] else 4)
    finally:
        assert stack.twinrail("undo", "knowledge", "--publish", "--force").code == 0
    assert rails(stack)["knowledge"]["snapshot"] == before["knowledge"]["snapshot"]
    assert stack.twinrail("search", QUESTION).code == 0


def test_undo_model_answers_with_the_version_before_and_leaves_the_knowledge(stack: Stack) -> None:
    before = rails(stack)
    stack.wait_for(lambda: stack.said("is ready too"), "the engine of the version before")
    try:
        assert stack.twinrail("undo", "model").code == 0
        after = rails(stack)
        assert after["model"]["stable"] == before["model"]["previous"]
        assert after["knowledge"] == before["knowledge"]
        done = stack.twinrail("ask", QUESTION, "--json")
        assert done.code in (0, 4), done.log
        assert done.json["versions"]["model"] == before["model"]["previous"]
        assert done.json["versions"]["knowledge"].startswith(before["knowledge"]["stable"])
    finally:
        assert stack.twinrail("undo", "model").code == 0
    assert rails(stack)["model"]["stable"] == before["model"]["stable"]
