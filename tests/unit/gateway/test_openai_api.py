"""What the OpenAI surface takes, ignores and refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import InvalidFieldError, RequestError, UnsupportedParameterError
from gateway.openai_api import IGNORED, parse_chat

ASK: dict[str, Any] = {"model": "twinrail", "messages": [{"role": "user", "content": "hi"}]}


def test_every_ignored_parameter_is_taken() -> None:
    body = parse_chat(ASK | dict.fromkeys(IGNORED, 1))
    assert body.question == "hi"


@pytest.mark.parametrize(
    ("name", "harmless", "harmful"),
    [
        ("n", 1, 2),
        ("tools", [], [{"type": "function"}]),
        ("tool_choice", "auto", "required"),
        ("logprobs", False, True),
        ("response_format", {"type": "text"}, {"type": "json_object"}),
        ("audio", None, {"voice": "x"}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(name: str, harmless: Any, harmful: Any) -> None:
    parse_chat(ASK | {name: harmless})
    with pytest.raises(UnsupportedParameterError) as refused:
        parse_chat(ASK | {name: harmful})
    assert refused.value.field == name
    assert refused.value.fix


@pytest.mark.parametrize("name", ["api_base", "guided_json", "priority", "cache_salt", "adapter"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedParameterError, match=name):
        parse_chat(ASK | {name: "x"})


def test_content_may_be_parts_and_history_is_user_and_assistant_only() -> None:
    body = parse_chat(
        {
            "model": "twinrail",
            "messages": [
                {"role": "system", "content": "x"},
                {"role": "user", "content": "one", "name": "bob"},
                {"role": "assistant", "content": "two", "refusal": None},
                {"role": "user", "content": [{"type": "text", "text": "three"}]},
            ],
        }
    )
    assert body.question == "three"
    assert [(message.role, message.content) for message in body.history] == [
        ("user", "one"),
        ("assistant", "two"),
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "hi"}],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": "x" * 4001}],
        [{"role": "user", "content": "a\x00b"}],
    ],
)
def test_a_last_message_that_is_no_question(messages: list[dict[str, str]]) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        parse_chat({"model": "twinrail", "messages": messages})
    assert refused.value.field == "messages"


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"model": "twinrail"},
        {"messages": ASK["messages"]},
        ASK | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        ASK | {"messages": [{"role": "tool", "content": "x"}]},
        ASK | {"twinrail": {"tenant": "globex"}},
    ],
)
def test_malformed_bodies(bad: Any) -> None:
    with pytest.raises((ValidationError, RequestError)):
        parse_chat(bad)
