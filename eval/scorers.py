"""One answer judged on one thing at a time. Pure: the same observation always gets the same score.

A scorer returns a `Score`, or says that the metric does not apply, or that it could not tell. Neither of the
last two is ever counted as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from eval.cases import Case
from eval.matching import missing_facts, stale_values_in
from eval.observations import Evidence, Observation, Ranking
from serving.prompting import Passage
from serving.sentences import sentences
from serving.wording import Wording


@dataclass(frozen=True, slots=True)
class Score:
    """A measured value: 1 for yes and 0 for no, or a share in between. `detail` says why."""

    value: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ScoreFailure:
    """The metric applies, but what it needs is missing or broken."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The metric has no meaning for this question or arm."""

    reason: str


Outcome = Score | ScoreFailure | NotApplicable

#: Broken parts of a sentence against passages: values or claims without support; empty if it stands. What the
#: question says may be repeated.
Unsupported = Callable[[str, Sequence[Passage], str], Sequence[str]]
#: Names of the tone rules that a text breaks.
BrokenToneRules = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What the scorers need from outside: output checks, the task's schema and its fixed wordings."""

    unsupported: Unsupported
    broken_tone_rules: BrokenToneRules
    schema: Mapping[str, Any]
    #: Texts of the deployment that claim nothing, verbatim.
    wordings: tuple[str, ...] = ()
    #: Those of them that an answer must hold by how it should end; None: not known.
    wording: Wording | None = None
    #: Names the output checks and their thresholds: what was judged by others is judged again.
    version: str = ""

    @property
    def writes_text(self) -> bool:
        """Whether the task has a text that a customer reads; else its whole JSON is for programs."""
        return self.asks_for("answer")

    def asks_for(self, field: str) -> bool:
        """Whether the task has such a field; a schema that names none leaves all open."""
        return field in self.schema.get("properties", (field,))

    def is_free(self, field: str) -> bool:
        """Whether a field is in the model's own words, so that another wording is no other value."""
        kind = self.schema.get("properties", {}).get(field, {})
        return kind.get("type") == "string" and not {"enum", "const", "pattern", "format"} & kind.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A question, what was answered, and what this question's search finds in the knowledge version."""

    case: Case
    seen: Observation
    ranking: Ranking | None
    #: False for arms that answer without retrieval.
    retrieves: bool


Scorer = Callable[[Subject, Scoring], Outcome]

_NO_RETRIEVAL = NotApplicable("the arm answers without retrieval")
_NO_GOLD = NotApplicable("no article holds the answer")
#: An arm without retrieval is held against this many hits of the same question's search.
_HITS_TO_HOLD_AGAINST = 10
_NO_DRAFT = NotApplicable("nothing was generated")
_NO_TEXT = NotApplicable("the task writes no text for a customer")


def score_hit(subject: Subject, _: Scoring) -> Outcome:
    """Whether an article that holds the answer is among the hits."""
    return _gold_among(subject, subject.seen.retrieved)


def score_gold_in_prompt(subject: Subject, _: Scoring) -> Outcome:
    """Whether an article that holds the answer reached the prompt, past the threshold and the packing."""
    return _gold_among(subject, [item.document_id for item in subject.seen.packed])


def _gold_among(subject: Subject, documents: Sequence[str]) -> Outcome:
    if not subject.retrieves:
        return _NO_RETRIEVAL
    if not subject.case.gold:
        return _NO_GOLD
    if "retrieval" in subject.seen.degraded:
        return ScoreFailure("retrieval did not answer")
    if subject.seen.draft is not None and not documents:
        return ScoreFailure("the turn does not say what was found")
    found = [document for document in subject.case.gold if document in documents]
    return Score(float(bool(found)), ", ".join(found) or f"none of {', '.join(subject.case.gold)}")


def score_answer(subject: Subject, _: Scoring) -> Outcome:
    """Every fact is there, no superseded value is, and the question was treated as it should be."""
    return _answer(subject, subject.case.facts)


def score_answer_vital(subject: Subject, _: Scoring) -> Outcome:
    """The same of the facts that the question asks for: what a good answer adds may be left out."""
    return _answer(subject, subject.case.vital_facts)


def _answer(subject: Subject, facts: Sequence[Sequence[str]]) -> Outcome:
    case, seen = subject.case, subject.seen
    if case.status is None:
        return NotApplicable("the set does not say what to expect")
    wrong = []
    if seen.status != case.status:
        wrong.append(f"{seen.status} instead of {case.status}")
    if case.status != "abstained":
        if not case.facts_known:
            return NotApplicable("the set names no facts")
        wrong += [f"misses {fact}" for fact in missing_facts(seen.answer, facts)]
    wrong += [
        f"says {value}, which is out of date" for value in stale_values_in(seen.answer, case.stale_values)
    ]
    return Score(float(not wrong), "; ".join(wrong))


def score_facts(subject: Subject, _: Scoring) -> Outcome:
    """Whether all facts are there, whatever the status."""
    if not subject.case.facts:
        return NotApplicable("no fact is expected")
    missing = missing_facts(subject.seen.answer, subject.case.facts)
    return Score(float(not missing), ", ".join(missing))


def score_some_fact(subject: Subject, _: Scoring) -> Outcome:
    """Whether at least one fact is there: half an answer is more than none."""
    facts = subject.case.facts
    if not facts:
        return NotApplicable("no fact is expected")
    told = len(facts) - len(missing_facts(subject.seen.answer, facts))
    return Score(float(told > 0), f"{told} of {len(facts)}")


def score_status(subject: Subject, _: Scoring) -> Outcome:
    """Whether the question was answered, abstained from or passed on as it should be."""
    if subject.case.status is None:
        return NotApplicable("the set does not say what to expect")
    return Score(float(subject.seen.status == subject.case.status), subject.seen.status)


def score_format(subject: Subject, scoring: Scoring) -> Outcome:
    """Whether the model's first output, as it came, is one JSON object that the schema accepts."""
    draft = subject.seen.draft
    if draft is None:
        return _NO_DRAFT
    if draft.failure == "engine":
        return ScoreFailure("the engine failed before the draft was complete")
    try:
        value = orjson.loads(draft.text)
    except orjson.JSONDecodeError as exc:
        if draft.failure == "unsupported":
            return ScoreFailure("the gateway stopped the draft at an unsupported sentence")
        return Score(0.0, f"not JSON: {exc.msg}")
    broken = next(iter(Draft202012Validator(scoring.schema).iter_errors(value)), None)
    if broken is None:
        return Score(1.0)
    return Score(0.0, f"{'.'.join(str(part) for part in broken.path) or 'object'}: {broken.message[:160]}")


def score_intent(subject: Subject, _: Scoring) -> Outcome:
    """Whether the intent is the expected one."""
    return score_field(subject, "intent")


def score_field(subject: Subject, name: str) -> Outcome:
    """Whether one field of the task is the expected one. A field of which no draft was fit to be used is
    wrong; where the gateway answered by itself there is none."""
    wanted, seen = subject.case.wanted_fields, subject.seen
    if name not in wanted:
        return NotApplicable(f"the set names no {name}")
    if name in seen.fields:
        given = seen.fields[name]
        return Score(float(given == wanted[name]), str(given))
    if seen.draft is None:
        return _NO_DRAFT
    if seen.draft.failure == "engine":
        return ScoreFailure("the engine failed before the draft was complete")
    if not seen.draft.failure:
        return ScoreFailure(f"the answer has no {name} field")
    return Score(0.0, f"no draft was fit to be used: {seen.draft.failure}")


def score_fields(subject: Subject, scoring: Scoring) -> Outcome:
    """Whether everything that the task asks for is right: each known field, and the text if there is one."""
    wanted = [name for name in subject.case.wanted_fields if not scoring.is_free(name)]
    each = {name: score_field(subject, name) for name in wanted}
    if scoring.writes_text:
        each["answer"] = score_answer_vital(subject, scoring)
    scored = {name: outcome for name, outcome in each.items() if isinstance(outcome, Score)}
    wrong = [f"{name}: {outcome.detail}" for name, outcome in scored.items() if outcome.value < 1]
    if wrong:
        return Score(0.0, "; ".join(wrong))
    if failure := next((outcome for outcome in each.values() if isinstance(outcome, ScoreFailure)), None):
        return failure
    return Score(1.0) if scored else NotApplicable("the set names no field of the task")


def score_wording(subject: Subject, scoring: Scoring) -> Outcome:
    """Whether the sentences that policy asks for stand in the answer, word for word."""
    if not scoring.writes_text:
        return _NO_TEXT
    required = [*subject.case.required, *_ending_wording(subject.case, scoring.wording)]
    if not required:
        return NotApplicable("no wording is required")
    said = spaced(subject.seen.answer)
    missing = [text for text in required if spaced(text) not in said]
    return Score(float(not missing), f"misses: {missing[0]}" if missing else "")


def _ending_wording(case: Case, wording: Wording | None) -> tuple[str, ...]:
    """The fixed wording of the ending that a question should have."""
    if wording is None:
        return ()
    if case.status == "escalated":
        return (wording.passing_on,)
    if case.status != "abstained":
        return ()
    own = {"off_topic": wording.off_topic, "abusive": wording.abusive}
    return (own.get(case.kind, wording.not_in_help_centre),)


def score_hallucination_draft(subject: Subject, scoring: Scoring) -> Outcome:
    """Whether the model's own draft says anything that its context does not."""
    if not scoring.writes_text:
        return _NO_TEXT
    draft = subject.seen.draft
    if draft is None:
        return _NO_DRAFT
    text = draft_answer(draft.text, scoring.schema)
    if text is None and draft.failure == "unsupported" and subject.retrieves:
        return Score(1.0, "stopped by the gateway at an unsupported sentence")
    if text is None:
        return ScoreFailure("the draft has no readable answer")
    return _hallucination(text, subject, scoring)


def score_hallucination_served(subject: Subject, scoring: Scoring) -> Outcome:
    """Whether the customer was told anything that the context does not say.

    The text decides, not the status: an abstention in the model's own words is checked like any answer.
    """
    if not scoring.writes_text:
        return _NO_TEXT
    if spaced(subject.seen.answer) in map(spaced, scoring.wordings):
        return Score(0.0, "fixed wording")
    return _hallucination(subject.seen.answer, subject, scoring)


def context_of(subject: Subject) -> tuple[Evidence, ...] | ScoreFailure:
    """What an answer is held against: the passages in the prompt, else what retrieval would have found."""
    if subject.seen.packed:
        return subject.seen.packed
    if subject.case.passages == ():
        return ()
    if subject.retrieves:
        return ScoreFailure("the turn does not say what the model was shown")
    if subject.ranking is None or subject.ranking.error:
        return ScoreFailure("no search result to hold the answer against")
    return subject.ranking.hits[:_HITS_TO_HOLD_AGAINST]


def _hallucination(text: str, subject: Subject, scoring: Scoring) -> Outcome:
    context = context_of(subject)
    if isinstance(context, ScoreFailure):
        return context
    passages = [item.passage for item in context]
    for span in sentences(text):
        sentence = text[span.start : span.end]
        broken = scoring.unsupported(sentence, passages, subject.case.text)
        if broken:
            return Score(1.0, f"{', '.join(broken)} in: {sentence}")
    return Score(0.0)


def spaced(text: str) -> str:
    """A text with single blanks: how texts of the deployment are compared."""
    return " ".join(text.split())


def draft_answer(text: str, schema: Mapping[str, Any]) -> str | None:
    """The `answer` of a draft; the whole text if the task has none; None if it cannot be read."""
    if "answer" not in schema.get("properties", {}):
        return text or None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    answer = value.get("answer") if isinstance(value, dict) else None
    return answer if isinstance(answer, str) else None


def score_tone(subject: Subject, scoring: Scoring) -> Outcome:
    """Whether the answer that was served keeps every tone rule."""
    if not scoring.writes_text:
        return _NO_TEXT
    if not subject.seen.answer:
        return NotApplicable("no text was served")
    broken = scoring.broken_tone_rules(subject.seen.answer)
    return Score(float(not broken), ", ".join(broken))


def score_corrected(subject: Subject, _: Scoring) -> Outcome:
    """Whether a reviewer corrected this answer."""
    if subject.seen.corrected is None:
        return NotApplicable("nobody reviewed it")
    return Score(float(subject.seen.corrected))


def score_would_be_corrected(subject: Subject, scoring: Scoring) -> Outcome:
    """A stand-in for reviewers: wrong by the answer key, or against the house tone."""
    if not scoring.writes_text:
        return _NO_TEXT
    parts = (score_answer(subject, scoring), score_tone(subject, scoring))
    wrong = [part.detail for part in parts if isinstance(part, Score) and part.value < 1]
    if wrong:
        return Score(1.0, "; ".join(wrong))
    undecided = next((part for part in parts if not isinstance(part, Score)), None)
    return Score(0.0) if undecided is None else undecided


def score_citations(subject: Subject, scoring: Scoring) -> Outcome:
    """Whether the answer cites, and every quote stands word for word in a passage of that document."""
    if not scoring.asks_for("citations"):
        return NotApplicable("the task has no citations")
    if not subject.retrieves:
        return _NO_RETRIEVAL
    if subject.seen.status not in ("answered", "escalated"):
        return NotApplicable("no answer to cite for")
    if not subject.seen.citations:
        return Score(0.0, "no citation")
    for citation in subject.seen.citations:
        texts = [
            item.passage.text for item in subject.seen.packed if item.document_id == citation.document_id
        ]
        if not citation.quote.strip() or not any(citation.quote in text for text in texts):
            return Score(0.0, f"[{citation.n}] {citation.document_id}: quote not in the passage")
    return Score(1.0)


def score_cites_gold(subject: Subject, _: Scoring) -> Outcome:
    """Whether an article that holds the answer is cited."""
    if not subject.retrieves:
        return _NO_RETRIEVAL
    if not subject.case.gold:
        return _NO_GOLD
    if not subject.seen.citations:
        return NotApplicable("no citation")
    cited = {citation.document_id for citation in subject.seen.citations}
    return Score(float(bool(cited & set(subject.case.gold))), ", ".join(sorted(cited)))


def score_abstained_when_due(subject: Subject, _: Scoring) -> Outcome:
    """Of the questions that must not be answered: whether it abstained."""
    if subject.case.status != "abstained":
        return NotApplicable("an answer is expected")
    return Score(float(subject.seen.status == "abstained"), subject.seen.status)


def score_abstained_wrongly(subject: Subject, _: Scoring) -> Outcome:
    """Of the questions that have an answer: whether it abstained all the same."""
    if subject.case.status in (None, "abstained"):
        return NotApplicable("no answer is expected")
    return Score(float(subject.seen.status == "abstained"), subject.seen.status)


def score_escalation_recall(subject: Subject, _: Scoring) -> Outcome:
    """Of the questions that a person must get: whether it passed them on."""
    if subject.case.status != "escalated":
        return NotApplicable("nothing to pass on")
    return Score(float(passed_on(subject.seen)), subject.seen.status)


def score_escalation_precision(subject: Subject, _: Scoring) -> Outcome:
    """Of the questions that it passed on: whether a person must get them."""
    if subject.case.status is None or not passed_on(subject.seen):
        return NotApplicable("not passed on")
    return Score(float(subject.case.status == "escalated"), subject.case.status)


def passed_on(seen: Observation) -> bool:
    """Passed to a person for its own sake; "not in the help centre" is abstaining and counted there."""
    reason = seen.fields.get("escalation_reason")
    return seen.status == "escalated" or (
        seen.fields.get("escalate") is True and reason not in ("not_in_help_centre", "none", None)
    )
