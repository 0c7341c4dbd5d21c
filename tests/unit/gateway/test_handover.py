"""What a person has to see: which messages, by which rule, and what becomes of the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.handover import (
    DEFAULT_RULES,
    MOST_PIECES,
    Handover,
    Match,
    Rules,
    load_rules,
    open_handover,
    pass_on,
    pieces_of,
)
from serving.wording import load_wording
from tests.fakes.embedding import WordEmbedder
from tests.unit.gateway.test_chain import BAD, SCHEMA, bench, written
from tests.unit.gateway.test_citations import TEXT

WORDING = load_wording()
RULES = Rules(
    close_from=0.8,
    reasons={
        "security_incident": ("my telephone was stolen",),
        "legal": ("my solicitor will write", "we meet in court"),
    },
    ordinary=("where do I find my stolen telephone insurance",),
)
THEFT = Match(reason="security_incident", like="my telephone was stolen", closeness=0.91)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("My telephone was stolen!", "security_incident"),
        ("Hello. I use Sync a lot. My telephone was stolen. What now?", "security_incident"),
        ("I use Sync a lot and yesterday my telephone was stolen", "security_incident"),
        ("we meet in court", "legal"),
        ("Where do I find my stolen telephone insurance?", None),
        ("How much is Sync Plus?", None),
        ("  \n ", None),
    ],
)
async def test_a_message_is_passed_on_by_the_piece_that_comes_close(message: str, reason: str | None) -> None:
    match = await (await Handover.of(WordEmbedder(), RULES)).find(message)
    assert (match.reason if match else None) == reason


async def test_what_comes_closer_to_an_ordinary_message_is_not() -> None:
    loose = replace(RULES, close_from=0.5)
    ask = "where do I find my stolen telephone insurance"
    assert await (await Handover.of(WordEmbedder(), loose)).find(ask) is None
    found = await (await Handover.of(WordEmbedder(), replace(loose, ordinary=()))).find(ask)
    assert found is not None
    assert (found.reason, found.like) == ("security_incident", "my telephone was stolen")


async def test_an_ordinary_example_is_compared_in_pieces_as_the_message_is() -> None:
    denied = replace(RULES, close_from=0.5, ordinary=("my telephone was not stolen, I only sell it",))
    ask = "My telephone was not stolen, how do I sign it out?"
    assert await (await Handover.of(WordEmbedder(), denied)).find(ask) is None
    assert await (await Handover.of(WordEmbedder(), replace(denied, ordinary=()))).find(ask) is not None


def test_a_long_message_is_compared_at_both_ends() -> None:
    pieces = pieces_of(" ".join(f"Sentence number {n}." for n in range(500)))
    assert len(pieces) == MOST_PIECES
    assert (pieces[0], pieces[-1]) == ("Sentence number 0.", "Sentence number 499.")


def test_a_piece_without_an_end_is_read_in_part() -> None:
    assert {len(piece) for piece in pieces_of("\u6f22" * 4000)} == {300}


async def test_the_record_of_a_match_holds_nothing_of_the_message() -> None:
    match = await (await Handover.of(WordEmbedder(), RULES)).find("I am Ada. My telephone was stolen!")
    assert match is not None
    assert set(match.row()) == {"reason", "like", "closeness"}
    assert (match.row()["like"], "Ada" in str(match.row())) == ("my telephone was stolen", False)


async def test_without_the_embedder_of_this_machine_there_are_no_rules() -> None:
    assert await open_handover([WordEmbedder()], RULES) is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, "security_incident"),
        ({"escalate": False, "escalation_reason": "none"}, "security_incident"),
        ({"escalate": True, "escalation_reason": "not_in_help_centre"}, "security_incident"),
        ({"escalate": True, "escalation_reason": "data_loss"}, "data_loss"),
    ],
)
def test_a_reason_that_the_model_gives_stays(given: dict[str, object], kept: str) -> None:
    fields, _ = pass_on(THEFT, given, TEXT, schema=SCHEMA, wording=WORDING)
    assert fields == {**given, "escalate": True, "escalation_reason": kept}


def test_a_reason_that_the_task_does_not_know_is_not_named() -> None:
    fields, _ = pass_on(replace(THEFT, reason="fire"), {}, TEXT, schema=SCHEMA, wording=WORDING)
    assert fields == {"escalate": True}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", WORDING.passing_on),
        (TEXT, f"{TEXT} {WORDING.passing_on}"),
        (f"{TEXT} {WORDING.passing_on}", f"{TEXT} {WORDING.passing_on}"),
        (WORDING.not_in_help_centre, WORDING.not_in_help_centre),
        (f" {WORDING.not_in_help_centre}\n", f" {WORDING.not_in_help_centre}\n"),
        (f" {TEXT}\n", f" {TEXT}\n{WORDING.passing_on}"),
        (WORDING.off_topic, f"{WORDING.off_topic} {WORDING.passing_on}"),
    ],
)
def test_the_customer_is_told_once_that_a_person_takes_over(text: str, told: str) -> None:
    assert pass_on(THEFT, {}, text, schema=SCHEMA, wording=WORDING)[1] == told


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_a_rule_passes_on_is_told_and_escalated(stream: bool) -> None:
    body, turn, shown = await bench().answer(stream=stream, handover=THEFT)
    assert body.status == "escalated"
    assert shown == f"{TEXT} {WORDING.passing_on}"
    assert (body.fields["escalate"], body.fields["escalation_reason"]) == (True, "security_incident")
    assert body.citations
    assert turn.ticket == "escalated"


async def test_a_stand_in_is_held_to_the_rule_as_well() -> None:
    body, _, _ = await bench(stable=[BAD, BAD]).answer(handover=THEFT)
    assert body.fallback is not None
    assert (body.fallback.step, body.status) == ("previous", "escalated")


async def test_an_abstention_is_escalated_in_its_own_words() -> None:
    draft = written(WORDING.not_in_help_centre).replace('"none"', '"not_in_help_centre"')
    body, _, shown = await bench(stable=[draft.replace("[1]", "[]")]).answer(handover=THEFT)
    assert (body.status, shown) == ("escalated", WORDING.not_in_help_centre)
    assert body.fields["escalation_reason"] == "security_incident"


async def test_where_nobody_could_write_the_fields_say_why_a_person_has_it() -> None:
    body, turn, shown = await bench(stable=[BAD] * 2, previous=[BAD], base=[BAD], outside=[BAD]).answer(
        handover=THEFT
    )
    assert (body.status, shown) == ("fallback", WORDING.failed)
    assert body.fields == {"escalate": True, "escalation_reason": "security_incident"}
    assert turn.ticket == "unsupported"


def test_a_task_whose_whole_json_is_the_answer_keeps_it() -> None:
    schema = {"properties": {"queue": {}, "escalate": {"type": "boolean"}}}
    assert pass_on(THEFT, {}, '{"queue": "x"}', schema=schema, wording=WORDING)[1] == '{"queue": "x"}'


def test_the_packaged_rules_name_reasons_of_the_support_task() -> None:
    rules = load_rules(DEFAULT_RULES)
    known = set(SCHEMA["properties"]["escalation_reason"]["enum"])
    assert set(rules.reasons) <= known - {"none", "not_in_help_centre"}
    texts = [*rules.ordinary, *(text for each in rules.reasons.values() for text in each)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "reasons: must name"),
        ("reasons: {}", "reasons: must name"),
        ("close_from: 0.5\nreasons: {legal: [sue]}\nurgent: []", "unknown field 'urgent'"),
        ("reasons: {legal: [sue]}", "close_from: must be"),
        ("close_from: yes\nreasons: {legal: [sue]}", "close_from: must be"),
        ("close_from: 1.5\nreasons: {legal: [sue]}", "close_from: must be"),
        ("close_from: 0.5\nreasons: {legal: []}", "reasons.legal: must be a list"),
        ("close_from: 0.5\nreasons: {legal: sue}", "reasons.legal: must be a list"),
        ("close_from: 0.5\nreasons: {legal: [sue, 3]}", "reasons.legal, message 2: must be a text"),
        ("close_from: 0.5\nreasons: {legal: [sue]}\nordinary: ['']", "ordinary, message 1: must be a text"),
        ("close_from: [", "cannot be read"),
    ],
)
def test_a_bad_rule_file_is_named_with_the_field(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "handover.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=told) as caught:
        load_rules(path)
    assert str(path) in str(caught.value)
    assert caught.value.field == "GATEWAY_HANDOVER_FILE"


def test_a_rule_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_rules(tmp_path / "none.yaml")
