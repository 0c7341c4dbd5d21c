"""Faults do what they say, and are counted by what came of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench import eval_faults
from bench.faults.articles import WORLDS, Articles, delete_facts
from bench.faults.seeds import HITS, MIXED, PLAIN, SEEDS, SOUND, STABLE, Seed
from bench.faults.suite import DEMO, Fault, answer_keys
from bench.faults.tally import Judged, by_seed, confusion, label_by_metrics, overall, rates
from bench.faults.writing import WRITINGS, both, leak
from eval.cases import Case, load_cases
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.matching import missing_facts, says
from eval.observations import Observation
from eval.scorers import Score, ScoreFailure
from serving.prompting import Passage
from serving.tone import check_tone
from tests.fakes.responder import AnswerKey, Prompted, Reply

CASE = Case(
    id="price",
    topic="plans",
    split="dev",
    text="How much is Sync Plus?",
    gold=("sync-plans-prices",),
    facts=(("$9",), ("14 days",)),
    stale_values=("$8",),
    status="answered",
)
ARTICLES = Articles.read(DEMO / "articles")
KEY = AnswerKey(
    question=CASE.text,
    facts=CASE.facts,
    stale_values=CASE.stale_values,
    superseded=("Sync Plus in 2024",),
    status="answered",
    answer="Sync Plus costs $9 a month. The trial lasts 14 days.",
    intent="billing",
    escalate=False,
    escalation_reason="none",
)
SHOWN = Prompted(
    key=KEY,
    passages=tuple(
        Passage(n=n, title=title, text=text, start=0, end=len(text))
        for n, (title, text) in enumerate(
            (
                ("Sync Plus", "Sync Plus costs $9 a month. The trial lasts 14 days."),
                ("Guests", "Guests are people outside the team who open a shared folder."),
                ("Sync Plus in 2024", "In 2024 Sync Plus has cost $8 a month on every device."),
            ),
            1,
        )
    ),
)
REPLY = Reply(answer=KEY.answer, citations=(1,), intent="billing", escalate=False, escalation_reason="none")
NOTHING = replace(REPLY, answer="Nothing.", citations=(), escalation_reason="not_in_help_centre")


BROKEN_FORMS = ("drop-field", "break-json", "fence", "prose", "cut-short", "unknown-intent")


def written(name: str, reply: Reply = REPLY) -> str:
    return WRITINGS[name](reply, SHOWN)


def answer_of(name: str, reply: Reply = REPLY) -> str:
    value: str = json.loads(written(name, reply))["answer"]
    return value


# ---- model ---------------------------------------------------------------------------------------


def test_an_invented_value_stands_nowhere() -> None:
    for name in ("change-number", "add-claim", "add-name"):
        assert not SHOWN.supports(answer_of(name)), name
    assert missing_facts(answer_of("change-number"), KEY.facts)
    assert not missing_facts(answer_of("add-claim"), KEY.facts)
    assert answer_of("add-claim", NOTHING) == answer_of("change-number", NOTHING) == "Nothing."


def test_a_guess_takes_the_place_of_finding_nothing_only() -> None:
    assert written("guess") == REPLY.text()
    assert not SHOWN.supports(answer_of("guess", NOTHING))


@pytest.mark.parametrize("name", BROKEN_FORMS)
def test_a_broken_form_is_not_what_the_schema_asks_for(name: str) -> None:
    try:
        value = json.loads(written(name))
    except json.JSONDecodeError:
        return
    assert value.get("intent") != "billing"


@pytest.mark.parametrize("name", ["exclaim", "regret", "greet", "apologise", "note", "decorate"])
def test_a_wrong_tone_says_the_same_things(name: str) -> None:
    assert check_tone(answer_of(name))
    assert not check_tone(REPLY.answer)
    assert not missing_facts(answer_of(name), KEY.facts)
    assert SHOWN.supports(answer_of(name))


def test_weak_reasoning_says_nothing_that_is_not_there() -> None:
    for name, told in (("wrong-passage", 0), ("half-answer", 1), ("over-abstain", 0)):
        assert len(KEY.facts) - len(missing_facts(answer_of(name), KEY.facts)) == told, name
    assert SHOWN.supports(answer_of("wrong-passage"))
    assert SHOWN.supports(answer_of("half-answer"))
    assert says(answer_of("prefer-outdated"), "$8")


def test_what_a_person_must_see_is_kept_from_people() -> None:
    passed_on = replace(REPLY, escalate=True, escalation_reason="legal")
    value = json.loads(written("keep-from-people", passed_on))
    assert (value["escalate"], value["escalation_reason"]) == (False, "none")


def test_notes_of_staff_are_leaked_word_for_word() -> None:
    notes = ARTICLES.internal_sentences()
    assert len(notes) > 20
    for reply in (REPLY, NOTHING):
        assert any(note in json.loads(leak(notes)(reply, SHOWN))["answer"] for note in notes)


def test_two_faults_are_both_there() -> None:
    spoilt = json.loads(both("half-answer", "exclaim")(REPLY, SHOWN))["answer"]
    assert spoilt == "Sync Plus costs $9 a month!"
    assert both("change-number", "exclaim")(NOTHING, SHOWN) == NOTHING.text()


def test_the_contrary_is_said_in_the_same_words() -> None:
    free = replace(REPLY, answer="A trial is not free. It can be ended.")
    assert answer_of("deny", free) == "A trial is free. It can be ended."
    assert answer_of("deny", replace(REPLY, answer="Guests are free.")) == "Guests are not free."


# ---- documents -----------------------------------------------------------------------------------


def published(world: str) -> list[Articles]:
    return [edit(ARTICLES, [CASE]) for edit in WORLDS[world]]


def text_of(articles: Articles) -> str:
    return "\n".join(articles.files.values())


def test_a_removed_article_has_no_predecessor_either() -> None:
    assert not {"sync-plans-prices", "sync-plans-prices-2024"} & ids(published("removed")[-1])
    assert len(ids(ARTICLES)) > 60


def test_a_deleted_fact_stands_in_no_version_of_its_article() -> None:
    left = delete_facts(ARTICLES, [CASE])
    gone = missing_facts(left.document("sync-plans-prices"), CASE.facts)
    assert len(gone) == 1
    assert not says(left.document("sync-plans-prices-2024"), gone[0])
    assert ids(left) == ids(ARTICLES)
    assert len(text_of(left)) > 0.9 * len(text_of(ARTICLES))


def test_a_stale_world_still_says_what_was_true() -> None:
    taken_back = published("not-ingested")[-1]
    assert "sync-plans-prices" not in ids(taken_back)
    assert "effective_to" not in taken_back.document("sync-plans-prices-2024")
    kept = published("not-synced")[-1]
    assert "$8 a month" in kept.document("sync-plans-prices")
    assert "sync-plans-prices-2024" not in ids(kept)
    assert "effective_from: 2031" in published("dated-ahead")[-1].document("sync-plans-prices")
    assert "effective_to: 2026" in published("expired")[-1].document("sync-plans-prices")


def test_a_world_with_a_past_has_published_before() -> None:
    for world, old, new in (("behind", "$8 a month", "$9 a month"), ("put-back", "$9 a month", "$8 a month")):
        before, after = (each.document("sync-plans-prices") for each in published(world))
        assert old in before
        assert new not in before
        assert new in after
    assert "sync-plans-prices" in ids(published("taken-down")[0])
    assert "sync-plans-prices" not in ids(published("taken-down")[1])


def test_what_is_hidden_or_flooded_is_all_there() -> None:
    assert "audience: internal" in published("hidden")[-1].document("sync-plans-prices")
    assert ids(published("flooded")[-1]) > ids(ARTICLES)


def ids(articles: Articles) -> set[str]:
    return {
        line.removeprefix("id: ").strip('"')
        for text in articles.files.values()
        for line in text.split("---", 2)[1].splitlines()
        if line.startswith("id: ")
    }


# ---- seeds ---------------------------------------------------------------------------------------


def test_every_label_has_its_seeds_and_no_name_is_given_twice() -> None:
    assert {seed.label for seed in SEEDS} == set(Label) - {Label.UNDETERMINED}
    names = [seed.name for seed in (*SEEDS, *MIXED)]
    assert len(names) == len(set(names))
    assert all(seed.contributing not in (None, seed.label) for seed in MIXED)
    assert all(seed.is_grounded or seed.is_written for seed in (*SEEDS, *MIXED))


def test_seeds_name_what_there_is() -> None:
    for seed in (*SEEDS, *MIXED):
        assert seed.world == SOUND or seed.world in WORLDS
        known = seed.writing in WRITINGS or seed.writing in (PLAIN, "leak") or "+" in seed.writing
        assert known, seed.writing
        assert seed.index == STABLE or seed.hits == HITS


def test_a_seed_chooses_the_same_questions_each_time() -> None:
    cases = load_cases(DEMO / "questions")
    seed = next(seed for seed in SEEDS if seed.name == "not-ingested")
    chosen = seed.choose(cases)
    assert chosen == seed.choose(cases[::-1])
    assert len(chosen) == seed.take
    assert all(case.stale_values for case in chosen)
    assert {key.question for key in answer_keys(DEMO / "questions", ARTICLES)} == {
        case.text for case in cases
    }


# ---- counting ------------------------------------------------------------------------------------


def judged(seed: Seed, primary: Label | None, *contributing: Label, by_metrics: str = "passed") -> Judged:
    record = LabelRecord(
        run="r",
        turn_id="t",
        case_id=CASE.id,
        arm="faulty",
        cluster=CASE.topic,
        task_type="",
        outcome=Outcome.PASSED if primary is None else Outcome.FAILED,
        primary=None if primary is None else finding(primary),
        contributing=tuple(finding(label) for label in contributing),
        criteria="c1-00000000",
    )
    fault = Fault(
        seed=seed, case=CASE, seen=Observation(case_id=CASE.id, arm="faulty"), scores={}, taken=True
    )
    return Judged(fault=fault, record=record, by_metrics=by_metrics)


def finding(label: Label) -> Finding:
    return Finding(label=label, sub="", rule="1", evidence=())


TONE = Seed(name="tone", label=Label.WRONG_TONE)
MIXED_SEED = Seed(name="two", label=Label.HALLUCINATION, contributing=Label.WRONG_TONE)


def test_right_labels_are_counted_by_label_and_in_all() -> None:
    seen = [
        judged(TONE, Label.WRONG_TONE, by_metrics="wrong_tone"),
        judged(TONE, None),
        judged(MIXED_SEED, Label.HALLUCINATION),
    ]
    ours, metrics = rates(seen)["wrong_tone"]
    assert (ours.k, ours.n, metrics.k) == (1, 2, 1)
    whole = overall(seen)
    assert whole is not None
    assert [rate.k for rate in whole] == [2, 1]
    assert confusion(seen)["wrong_tone"] == {"wrong_tone": 1, "passed": 1}
    assert by_seed(seen)["two"] == {"hallucination": 1}


def test_only_faults_that_no_check_claims_to_see_give_no_share() -> None:
    """As `--only deny` leaves."""
    seed = Seed(name="deny", label=Label.HALLUCINATION, hard=True)
    found = eval_faults.Found(judged=[judged(seed, Label.HALLUCINATION), judged(seed, None)])
    assert "beyond the checks, not in the figure: 1/2 right" in eval_faults.text_of(found)
    assert "bar" not in eval_faults.text_of(found)
    assert eval_faults.json_of(found)["all"] is None
    assert eval_faults.meets_bar(found)


def test_a_mixed_fault_is_right_only_with_both_labels_in_their_places() -> None:
    assert judged(MIXED_SEED, Label.HALLUCINATION, Label.WRONG_TONE).names_both
    assert not judged(MIXED_SEED, Label.HALLUCINATION).names_both
    assert not judged(MIXED_SEED, Label.WRONG_TONE, Label.HALLUCINATION).names_both


def test_metrics_alone_name_the_first_that_is_wrong() -> None:
    good = {"gold_in_prompt": Score(1.0), "hallucination_draft": Score(0.0), "tone_kept": Score(1.0)}
    assert label_by_metrics(good) == "passed"
    assert label_by_metrics({**good, "hallucination_draft": Score(1.0)}) == "hallucination"
    assert (
        label_by_metrics({**good, "gold_in_prompt": Score(0.0), "tone_kept": Score(0.0)}) == "wrong_retrieval"
    )
    assert label_by_metrics({**good, "gold_in_prompt": ScoreFailure("?")}) == "passed"
