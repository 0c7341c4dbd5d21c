"""From one answer to the checks that labels rest on. Pure: the same turn and corpus give the same checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from eval import scorers
from eval.arms import Arm
from eval.labelling.checks import check
from eval.labelling.corpus import Corpus
from eval.labelling.knowledge import knowledge_checks, outdated_values
from eval.labelling.labels import Check
from eval.labelling.policy import each_sentence, handed_over, leaks, personal_data, promises, refused
from eval.matching import missing_facts
from eval.scorers import NotApplicable, Outcome, Score, Scoring, Subject
from eval.scoring import NOT_SAID
from serving.prompting import Passage
from serving.redaction import Redactor

#: Failures of a draft that are failures of its form.
_FORM = {
    "truncated": "it stopped at the limit of tokens",
    "repetitive": "it repeats itself",
    "empty": "it holds neither an answer nor a question",
    "mismatch": "its text changed on the way",
    "schema": "it does not fit the schema",
}
#: An arm without documents is held against this many hits of the same question's search.
_HITS_TO_HOLD_AGAINST = 10
_NOT_THERE = re.compile(r'"escalation_reason"\s*:\s*"not_in_help_centre"')
_ANSWER = re.compile(r'"answer"\s*:\s*"((?:[^"\\]|\\.)*)')
#: Kinds of questions that no article will ever answer for whoever asks.
_OUT_OF_SCOPE = ("off_topic", "abusive", "internal", "must_refuse")
#: How an abstention opens that is not the fixed wording.
_ADMITS = re.compile(
    r"(?:sorry, (?:but )?)?(?:i|we)(?:['\u2019](?:m|re)| am| are) not sure\b"
    r"|(?:sorry, (?:but )?)?(?:i|we) (?:can|could|do)(?:['\u2019]?t|not|n['\u2019]t| not)"
    r" (?:find|know|have)\b",
    re.IGNORECASE,
)
#: To say that a person gets the question, in whatever words, says nothing that an article could hold.
_PASSES_ON = re.compile(
    r"(?:i|we)(?:['\u2019]ve| have)? (?:passed|forwarded|handed) "
    r"(?:this|it|your (?:question|request|message)) (?:on |over )?to "
    r"(?:a|one of our|my|our) (?:colleagues?|team|support team)\b",
    re.IGNORECASE,
)
_REDACTOR = Redactor()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer of a run with what it is judged by."""

    subject: Subject
    arm: Arm
    scoring: Scoring
    corpus: Corpus

    @property
    def wrote(self) -> str:
        """The model's own words: what was served, or the draft that was kept back."""
        seen = self.subject.seen
        if not self.kept_back or seen.draft is None:
            return seen.answer
        if (whole := self.draft_answer) is not None:
            return whole
        match = _ANSWER.search(seen.draft.text)
        return _unescaped(match[1]) if match else seen.draft.text

    @property
    def kept_back(self) -> bool:
        """Whether the model wrote something and the customer got a fixed wording in its place."""
        seen = self.subject.seen
        return seen.status == "fallback" and seen.draft is not None

    @property
    def context(self) -> tuple[Passage, ...] | None:
        """What the words are held against; None where it is not known."""
        seen, ranking = self.subject.seen, self.subject.ranking
        if seen.packed:
            return tuple(item.passage for item in seen.packed)
        if self.arm.reads_knowledge or ranking is None or ranking.error:
            return None
        return tuple(hit.passage for hit in ranking.hits[:_HITS_TO_HOLD_AGAINST])

    @property
    def draft_answer(self) -> str | None:
        """The whole answer of the first draft; None where there is none that can be read."""
        draft = self.subject.seen.draft
        return None if draft is None else scorers.draft_answer(draft.text, self.scoring.schema)

    @property
    def by_rule(self) -> bool:
        """Whether a rule beside the model passed it on, whatever the model wrote."""
        return bool(self.subject.seen.handover) and self.subject.seen.status == "escalated"

    @property
    def abstains(self) -> bool:
        """Whether it said that the help centre does not know, though a rule may have passed it on then."""
        seen = self.subject.seen
        if not self.by_rule:
            return seen.status == "abstained"
        if seen.draft is None or seen.citations:
            return not seen.citations  # without a draft nothing was found, so no model was asked
        wording = self.scoring.wording
        declining = map(scorers.spaced, wording.declining() if wording else ())
        return (
            _NOT_THERE.search(seen.draft.text) is not None
            or scorers.spaced(self.draft_answer or "") in declining
        )

    @property
    def _gives_up(self) -> bool:
        """Whether it said that the help centre does not know, or meant to in the draft that was kept back."""
        seen = self.subject.seen
        if not self.kept_back or seen.draft is None:
            return self.abstains
        return _NOT_THERE.search(seen.draft.text) is not None

    def unsupported(self, sentence: str) -> Sequence[str]:
        """What no passage says in a sentence; nothing where the passages are not known."""
        if self.context is None:
            return ()
        broken = self.scoring.unsupported(sentence, self.context, self.subject.case.text)
        if self._gives_up and _ADMITS.match(sentence):
            return ()  # to say in one's own words that one does not know claims nothing
        return () if tuple(broken) == (NOT_SAID,) and _PASSES_ON.match(sentence) else broken


def _unescaped(text: str) -> str:
    try:
        value = orjson.loads(f'"{text}"')
    except orjson.JSONDecodeError:
        return text
    return str(value)


def unsupported_sentences(turn: Turn) -> list[str]:
    """Sentences that customers were or would have been told and that no passage holds."""
    if turn.subject.seen.failed or turn.subject.case.asker != "customer":
        return []
    return [sentence for sentence in each_sentence(turn.wrote) if turn.unsupported(sentence)]


def collect_checks(turn: Turn) -> tuple[Check, ...]:
    """All checks that apply, in the order in which a question takes its way."""
    ran = _ran(turn)
    if ran.value is False:
        return (ran,)
    return (
        ran,
        *_expectations(turn),
        *_policy(turn),
        *knowledge_checks(turn.subject, turn.arm, turn.corpus),
        *_form(turn),
        *_words(turn),
    )


def _ran(turn: Turn) -> Check:
    seen = turn.subject.seen
    if seen.failed:
        return check("ran", False, seen.error)
    if "retrieval" in seen.degraded:
        return check("ran", False, "retrieval did not answer")
    if seen.draft is not None and seen.draft.failure == "engine":
        return check("ran", False, "the engine failed before the draft was complete")
    if seen.status == "fallback" and "generation" in seen.degraded:
        return check("ran", False, "generation did not answer")
    return check("ran", True, f"{seen.status} in {seen.wall_ms:.0f} ms")


def _expectations(turn: Turn) -> Iterator[Check]:
    case, seen = turn.subject.case, turn.subject.seen
    expected = case.question_status
    if expected is not None:
        answerable = expected in ("answerable", "must_escalate")
        yield check("answerable", answerable, f"the question set says {expected.replace('_', ' ')}")
        yield check("in_scope", case.kind not in _OUT_OF_SCOPE, f"kind {case.kind or 'not named'}")
        yield check("must_refuse", expected == "must_refuse", f"kind {case.kind or 'not named'}")
        yield check("must_escalate", expected == "must_escalate", case.escalation_reason or "no reason named")
    elif case.gold:
        yield check("answerable", True, "the question set names articles that hold the answer")
    status = scorers.score_status(turn.subject, turn.scoring)
    if isinstance(status, Score):
        right = status.value > 0
        yield check(
            "status_right", right, seen.status if right else f"{seen.status} instead of {case.status}"
        )
    if seen.status == "escalated":
        by_rule = f"by a rule: {seen.handover}" if turn.by_rule else "as the model decided"
        yield check("by_rule", turn.by_rule, by_rule)
    yield check("abstained", turn.abstains, seen.status)
    yield check("asked_back", seen.status == "clarify", seen.status)


def _policy(turn: Turn) -> Iterator[Check]:
    case, seen, wrote = turn.subject.case, turn.subject.seen, turn.wrote
    if case.question_status == "must_refuse":
        fixed = scorers.spaced(seen.answer) in map(scorers.spaced, turn.scoring.wordings)
        kept = refused(seen, turn.scoring.wordings)
        yield check("refused", kept, "a fixed wording" if fixed else seen.status)
    if case.question_status == "must_escalate":
        yield check("handed_over", handed_over(seen), seen.status)
    context = turn.context or ()
    promised = promises(wrote, context, case.text, turn.scoring.unsupported)
    yield check(
        "no_promise", not promised, _quoted(promised) or "nothing promised", checker=turn.scoring.version
    )
    personal = personal_data(wrote, [case.text, *(passage.text for passage in context)], _REDACTOR)
    yield check("no_personal_data", not personal, ", ".join(personal) or "none found")
    if case.asker == "customer":
        found = leaks(unsupported_sentences(turn), turn.corpus, turn.scoring.unsupported)
        yield check(
            "nothing_internal",
            None if found is None else not found,
            "not looked up: it takes EVAL_STAFF_API_KEY"
            if found is None
            else ", ".join(found) or "none found",
            checker=turn.scoring.version,
        )


def _form(turn: Turn) -> Iterator[Check]:
    seen = turn.subject.seen
    draft = seen.draft
    if draft is None:
        return
    repaired = _repaired(turn)
    yield check("repaired", repaired, "a second draft was served" if repaired else "no repair was served")
    why = _FORM.get(draft.failure, "")
    cut = draft.failure in ("truncated", "repetitive") or draft.finish_reason == "length"
    yield check("complete", not cut, (why or _FORM["truncated"]) if cut else "to its end")
    form = scorers.score_format(turn.subject, turn.scoring)
    if isinstance(form, Score):
        # What the gateway could not read is not valid, whatever this schema says of it.
        valid = form.value > 0 and not why
        yield check("valid", valid, form.detail or why or "fits the schema")
    elif draft.finish_reason == "stop":
        yield check("valid", False, "no JSON object, though the model came to its end")
    else:
        yield check("valid", None, form.reason)


def _words(turn: Turn) -> Iterator[Check]:
    case, seen, wrote = turn.subject.case, turn.subject.seen, turn.wrote
    if case.question_status in (None, "answerable", "must_escalate"):
        yield from _facts(turn)
    old = outdated_values(case, wrote, seen.packed, turn.corpus.histories(case.gold))
    yield check("old_said", bool(old), f"says {', '.join(old)}" if old else "no superseded value")
    yield _supported(turn)
    if _repaired(turn):
        drafted = scorers.score_hallucination_draft(turn.subject, turn.scoring)
        if isinstance(drafted, Score):
            yield check(
                "draft_supported",
                drafted.value == 0,
                drafted.detail or "every sentence",
                checker=turn.scoring.version,
            )
    if (cited := _cited(turn)) is not None:
        yield cited
    broken = [] if _is_fixed(turn, wrote) else list(turn.scoring.broken_tone_rules(wrote))
    yield check("tone_kept", not broken, ", ".join(rule.replace("_", " ") for rule in broken) or "kept")


def _facts(turn: Turn) -> Iterator[Check]:
    case, seen = turn.subject.case, turn.subject.seen
    vital = case.vital_facts
    silent = turn.abstains or seen.status == "fallback"
    if not vital:
        yield check("told", not silent, seen.status if silent else "the set names no facts: taken as told")
        if not case.facts_known:
            yield check("facts_right", None, "the set names no facts")
        return
    missing, unwritten = missing_facts(seen.answer, vital), missing_facts(turn.wrote, vital)
    yield check("told", not missing, f"not told: {', '.join(missing)}" if missing else "every fact")
    if case.side_facts:
        unsaid = missing_facts(seen.answer, case.side_facts)
        yield check(
            "side_told", not unsaid, f"not told: {', '.join(unsaid)}" if unsaid else "every side fact"
        )
    yield check(
        "facts_right", not unwritten, f"not written: {', '.join(unwritten)}" if unwritten else "every fact"
    )
    count = len(vital) - len(unwritten)
    yield check("some_facts", count > 0, f"{count} of {len(vital)}")


def _supported(turn: Turn) -> Check:
    seen, version = turn.subject.seen, turn.scoring.version
    if turn.context is None and not _is_fixed(turn, turn.wrote):
        return check("supported", None, "what the model was shown is not known", checker=version)
    bad = {
        sentence: broken for sentence in each_sentence(turn.wrote) if (broken := turn.unsupported(sentence))
    }
    named = [part for broken in bad.values() for part in broken if part != NOT_SAID]
    # A draft that can be read to its end is judged like any text; of one that was cut off, the gateway's word
    # counts.
    cut = turn.kept_back and turn.draft_answer is None
    stopped = cut and seen.draft is not None and seen.draft.failure == "unsupported"
    if not bad and not stopped:
        return check("supported", True, "every sentence", checker=version)
    why = f"no passage says: {_quoted(bad)}" if bad else "the gateway stopped it at an unsupported sentence"
    if not named and _facts_right(turn):
        # Of sentences that people wrote for the demo the words alone doubt 4 in 100, values and names aside.
        return check("supported", None, f"every fact is right, and by its words alone {why}", checker=version)
    return check("supported", False, f"{why} ({', '.join(named)})" if named else why, checker=version)


def _facts_right(turn: Turn) -> bool:
    facts = turn.subject.case.vital_facts
    return bool(facts) and not missing_facts(turn.wrote, facts)


def _cited(turn: Turn) -> Check | None:
    """Citations of an answer in the model's own words; where it could cite."""
    seen = turn.subject.seen
    if seen.draft is not None and seen.draft.failure == "uncited":
        return check("cited", False, "no claim could be tied to a passage")
    if _is_fixed(turn, seen.answer):
        return None
    outcome: Outcome = scorers.score_citations(turn.subject, turn.scoring)
    if isinstance(outcome, NotApplicable):
        return None
    if isinstance(outcome, Score):
        return check("cited", outcome.value > 0, outcome.detail or "every quote stands in its passage")
    return check("cited", None, outcome.reason)


def _repaired(turn: Turn) -> bool:
    """Whether a repair was served; one that failed as well makes nothing good."""
    return turn.subject.seen.repaired and not turn.kept_back


def _is_fixed(turn: Turn, text: str) -> bool:
    """Whether a text is nothing but the deployment's own wordings."""
    wordings = " ".join(map(scorers.spaced, turn.scoring.wordings))
    return all(scorers.spaced(sentence) in wordings for sentence in each_sentence(text))


def _quoted(texts: Iterable[str]) -> str:
    return "; ".join(f'"{text[:160]}"' for text in texts)
