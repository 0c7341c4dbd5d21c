"""What the benchmark asks of the model and of its peer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.overhead.errors import NotComparableError, PeerMissingError
from bench.overhead.peer import install_peer, write_config
from bench.overhead.stand import SENTENCE, answer_from
from bench.upstream import FastUpstream, Written
from gateway.outcome import Parsed, parse_draft, text_field, validator_of
from serving.prompting import Passage
from serving.versions import SCHEMAS, load_task_schema

TEXT = (
    "# Prices\n\nSync Plus costs $9 a month or $90 a year. It has 200 GB of space and six devices.\n\n"
    "| plan | price |\n| Free | $0 |\n\n- A trial of Sync Plus lasts 14 days. "
    + "More words follow here now. "
    * 40
)
ARTICLE = [Passage(n=1, title="Prices", text=TEXT, start=0, end=len(TEXT))]


def test_answer_is_whole_sentences_in_the_task_schema() -> None:
    schema = load_task_schema(SCHEMAS / "support_answer.json")

    parsed = parse_draft(answer_from(ARTICLE), validator=validator_of(schema), field=text_field(schema))

    assert isinstance(parsed, Parsed)
    assert parsed.answer.startswith("Sync Plus costs $9 a month or $90 a year. It has 200 GB")
    assert "|" not in parsed.answer
    assert len(SENTENCE.findall(parsed.answer)) == 3


def test_an_article_without_a_sentence_is_not_comparable() -> None:
    with pytest.raises(NotComparableError, match="no plain sentence"):
        answer_from([Passage(n=1, title="", text="| a | b |", start=0, end=9)])


def test_stream_and_whole_answer_say_the_same() -> None:
    text = answer_from(ARTICLE)
    written = Written.of(text, chunks=32, model="m")

    whole = json.loads(written.whole.partition(b"\r\n\r\n")[2])
    events = [json.loads(event.partition(b"data: ")[2]) for event in written.events]
    deltas = [event["choices"][0]["delta"] for event in events]

    assert whole["choices"][0]["message"]["content"] == text
    assert "".join(delta["content"] for delta in deltas) == text
    assert 30 <= len(events) <= 33
    assert [event["choices"][0]["finish_reason"] for event in events][-2:] == [None, "stop"]


def test_upstream_notes_who_left_only_while_it_is_watched() -> None:
    upstream = FastUpstream(models=["m"])
    upstream.end(upstream.begin(), left=True)
    upstream.control("watch", {"on": True})
    stays, leaves = upstream.begin(), upstream.begin()
    upstream.end(leaves, left=True)
    upstream.end(stays, left=False)

    state = upstream.control("state", {})

    assert list(state["arrived"]) == [str(stays), str(leaves)]
    assert list(state["freed"]) == [str(leaves)]
    assert state["served"] == 1
    assert state["running"] == 0


def test_peer_sends_one_model_to_the_upstream_and_asks_for_one_key(tmp_path: Path) -> None:
    path = write_config(tmp_path / "config.json", upstream="http://127.0.0.1:1/v1", model="bench", secret="s")

    config = json.loads(path.read_text())

    assert config["model_list"][0]["litellm_params"]["api_base"] == "http://127.0.0.1:1/v1"
    assert config["general_settings"] == {"master_key": "s"}


def test_peer_that_cannot_be_installed_says_how_to_go_on(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "home").write_text("a file where the folder should be")

    with pytest.raises(PeerMissingError, match="--without-litellm"):
        install_peer(tmp_path / "home", said.append)

    assert "once" in said[0]
