"""The reader finds the text of a field, wherever the pieces are cut."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.answer_text import FieldReader

TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=80)


def read(pieces: list[str]) -> str:
    reader = FieldReader()
    return "".join(reader.feed(piece) for piece in pieces)


def cut(text: str, at: list[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(TEXT, TEXT, st.lists(st.integers(0, 500), max_size=12), st.booleans(), st.booleans())
def test_any_text_survives_any_cut(
    answer: str, other: str, at: list[int], ascii_only: bool, first: bool
) -> None:
    fields = (
        {"answer": answer, "other": other} if first else {other or "x": {"answer": other}, "answer": answer}
    )
    if other == "answer" and not first:
        return
    whole = json.dumps(fields, ensure_ascii=ascii_only)
    assert read(cut(whole, at)) == answer


@given(TEXT)
def test_one_character_at_a_time(answer: str) -> None:
    assert read(list(json.dumps({"answer": answer}))) == answer


def test_only_the_top_level_string_of_that_name_counts() -> None:
    assert read(['{"a": {"answer": "no"}, "b": ["answer", "no"], "answer": "yes"}']) == "yes"
    assert read(['{"answer": {"text": "no"}}']) == ""
    assert read(['{"x": "answer", "y": ": no"}']) == ""


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    assert read([r'{"answer": "a\ud83d b\ude00 \ud83d\ude00 \ud83d"}']) == "a\ufffd b\ufffd \U0001f600 \ufffd"


def test_done_is_said_as_soon_as_the_field_ends() -> None:
    reader = FieldReader()
    reader.feed('{"answer": "yes')
    assert not reader.done
    reader.feed('"')
    assert reader.done
