"""A follow-up gets the words of the last turn, and keeps its own in front."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieval.hits import Said
from retrieval.rewriting import LastTurns, with_last_turn

PRICE = (
    Said(role="user", text="Where is my invoice?"),
    Said(role="assistant", text="Under Account."),
    Said(role="user", text="How much is Sync Plus a month?"),
    Said(role="assistant", text="Sync Plus is $9 a month."),
)


async def test_the_last_message_of_each_side_says_what_it_is_about() -> None:
    searched = await LastTurns().rewrite("And for a year?", PRICE, timeout_s=1.0)
    assert searched == "And for a year? Sync Plus month $9"


def test_words_of_any_conversation_and_those_of_the_question_are_not_added() -> None:
    history = (Said(role="user", text="Thanks, I would like a refund please"),)
    assert with_last_turn("Is a refund possible?", history) == "Is a refund possible?"


def test_a_long_message_adds_its_beginning_only() -> None:
    history = (Said(role="assistant", text=" ".join(f"word{n}" for n in range(100))),)
    assert with_last_turn("Why?", history).split()[-1] == "word7"


@given(
    st.text(min_size=1),
    st.lists(st.builds(Said, role=st.sampled_from(["user", "assistant"]), text=st.text())),
)
def test_the_question_always_stands_in_front(question: str, history: list[Said]) -> None:
    searched = with_last_turn(question, history)
    assert searched == question or searched.startswith(question.strip())
