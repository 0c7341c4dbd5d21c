"""Rules in order: from checks to findings. A table and the one way to read it.

A rule fires when all that it asks for is so. Of those that fire the first is the primary label, because the
order is that of the question's way: nothing after a step can be right while the step is wrong. A rule that
asks for a check which could not be decided might have fired: if it stands before the first that does, the
cause is undetermined, and a re-run or a person decides. The same checks always give the same label.

Where the order differs from the published one (reference/tuning.md 6.2), and why:
- Knowledge and retrieval stand before the form. With its article missing, a draft in perfect JSON is still
  wrong; the other way round, repairing retrieval first and measuring again loses nothing that tuning may do.
- A question that abstains, fails or is passed on reaches a person by a ticket, so only an answer that keeps
  it from people breaks the duty to hand over.
- An arm without documents has neither retrieval nor corpus to blame: what it cannot know is knowledge that it
  was not given, whatever it then made up.
- Whether knowledge was lacking is asked of re-runs where the texts cannot tell (`enough`): what another model
  makes right of the same passages, or none of the gold documents, is no fault of retrieval.
- What a rule of the gateway passed on is no fault of the model that told it rightly, whatever its status.
- Drafts that the checks caught and that a repair made good are kept as contributing findings only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from eval.labelling.labels import PASSED_ON_BY_RULE, Check, Finding, Label, Outcome


class Wanted(Enum):
    """What a rule asks of a check."""

    YES = "yes"
    NO = "no"


YES, NO = Wanted.YES, Wanted.NO


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of the table."""

    id: str
    label: Label
    sub: str = ""
    when: Mapping[str, Wanted]
    #: Whether the cause is open while this rule could not be decided. Not so for what refines a label.
    holds_up: bool = True


class Decision(NamedTuple):
    """What the rules say of one turn."""

    outcome: Outcome
    primary: Finding | None
    contributing: tuple[Finding, ...]


#: Any of these is a failure by itself.
FAILS: Final[tuple[tuple[str, bool], ...]] = (
    ("refused", False),
    ("handed_over", False),
    ("no_promise", False),
    ("no_personal_data", False),
    ("nothing_internal", False),
    ("status_right", False),
    ("told", False),
    ("old_said", True),
    ("supported", False),
    ("cited", False),
    ("tone_kept", False),
)
#: Failures of a draft, unless a repair took its place.
DRAFT_FAILS: Final[tuple[tuple[str, bool], ...]] = (("complete", False), ("valid", False))

_UNTOLD: Final = {"answerable": YES, "given": YES, "told": NO}
_UNREAD: Final = {**_UNTOLD, "enough": NO, "known": YES, "current": YES}
_READ: Final = {"answerable": YES, "enough": YES}
_MISREAD: Final = {
    **_READ,
    "told": NO,
    "abstained": NO,
    "asked_back": NO,
    "facts_right": NO,
    "supported": YES,
}

RULES: Final[tuple[Rule, ...]] = (
    # 1. Policy comes before everything: whatever the cause, this must not go out.
    Rule(
        id="1a", label=Label.POLICY_VIOLATION, sub="internal", when={"nothing_internal": NO}, holds_up=False
    ),
    Rule(id="1b", label=Label.POLICY_VIOLATION, sub="personal_data", when={"no_personal_data": NO}),
    Rule(id="1c", label=Label.POLICY_VIOLATION, sub="promise", when={"no_promise": NO}),
    Rule(id="1d", label=Label.POLICY_VIOLATION, sub="must_refuse", when={"must_refuse": YES, "refused": NO}),
    Rule(
        id="1e",
        label=Label.POLICY_VIOLATION,
        sub="must_escalate",
        when={"must_escalate": YES, "handed_over": NO},
    ),
    # 2. Knowledge: what is not there, or not the way it is now, cannot be found.
    Rule(
        id="2a",
        label=Label.MISSING_KNOWLEDGE,
        sub="no_documents",
        when={"answerable": YES, "given": NO, "told": NO},
    ),
    Rule(id="2b", label=Label.STALE_KNOWLEDGE, sub="source", when={**_UNTOLD, "known": NO, "old_live": YES}),
    Rule(
        id="2c",
        label=Label.MISSING_KNOWLEDGE,
        sub="article",
        when={**_UNTOLD, "known": NO, "old_live": NO, "stored": NO},
    ),
    Rule(
        id="2d",
        label=Label.MISSING_KNOWLEDGE,
        sub="fact",
        when={**_UNTOLD, "known": NO, "old_live": NO, "stored": YES},
    ),
    Rule(
        id="2e",
        label=Label.STALE_KNOWLEDGE,
        sub="dates",
        when={**_UNTOLD, "known": YES, "current": NO, "live_now": YES, "in_force": NO},
    ),
    Rule(
        id="2f",
        label=Label.STALE_KNOWLEDGE,
        sub="index",
        when={**_UNTOLD, "known": YES, "current": NO, "live_now": YES, "in_force": YES},
    ),
    Rule(
        id="2g",
        label=Label.STALE_KNOWLEDGE,
        sub="source",
        when={**_UNTOLD, "known": YES, "current": NO, "live_now": NO, "old_live": YES},
    ),
    Rule(
        id="2h",
        label=Label.MISSING_KNOWLEDGE,
        sub="removed",
        when={**_UNTOLD, "known": YES, "current": NO, "live_now": NO, "old_live": NO},
    ),
    # 3. Retrieval: it is there and did not reach the prompt.
    Rule(id="3a", label=Label.STALE_KNOWLEDGE, sub="retrieval", when={**_UNREAD, "old_in_context": YES}),
    Rule(
        id="3b", label=Label.WRONG_RETRIEVAL, sub="access", when={**_UNREAD, "readable": NO}, holds_up=False
    ),
    Rule(
        id="3c",
        label=Label.WRONG_RETRIEVAL,
        sub="threshold",
        when={**_UNREAD, "found": YES, "shown": NO},
        holds_up=False,
    ),
    Rule(
        id="3d",
        label=Label.WRONG_RETRIEVAL,
        sub="rank",
        when={**_UNREAD, "found": NO, "findable": YES},
        holds_up=False,
    ),
    Rule(
        id="3e",
        label=Label.WRONG_RETRIEVAL,
        sub="packing",
        when={**_UNREAD, "found": YES, "fact_found": YES},
        holds_up=False,
    ),
    Rule(
        id="3f",
        label=Label.WRONG_RETRIEVAL,
        sub="chunking",
        when={**_UNREAD, "found": YES, "fact_found": NO},
        holds_up=False,
    ),
    Rule(id="3g", label=Label.WRONG_RETRIEVAL, sub="miss", when={**_UNREAD, "found": NO}, holds_up=False),
    Rule(id="3h", label=Label.WRONG_RETRIEVAL, when=_UNREAD),
    # 4. Form: what was written cannot be used as it came.
    Rule(id="4a", label=Label.BAD_FORMAT, sub="truncated", when={"complete": NO, "repaired": NO}),
    # A draft that was stopped at an unsupported sentence cannot be read, and is known to be unsupported.
    Rule(
        id="4b",
        label=Label.BAD_FORMAT,
        sub="schema",
        when={"valid": NO, "repaired": NO},
        holds_up=False,
    ),
    # 5. A question without an answer in the help centre.
    Rule(
        id="5a",
        label=Label.HALLUCINATION,
        sub="unanswerable",
        when={"answerable": NO, "abstained": NO, "supported": NO},
    ),
    Rule(
        id="5b",
        label=Label.WEAK_REASONING,
        sub="not_abstained",
        when={"answerable": NO, "abstained": NO, "supported": YES, "status_right": NO},
    ),
    Rule(
        id="5c",
        label=Label.HALLUCINATION,
        sub="unanswerable",
        when={"answerable": NO, "abstained": YES, "supported": NO},
    ),
    # The model did what it should; whether it was passed on was not its to decide.
    Rule(
        id="5e",
        label=Label.WEAK_REASONING,
        sub=PASSED_ON_BY_RULE,
        when={"answerable": NO, "abstained": YES, "by_rule": YES, "status_right": NO},
    ),
    # 6. Everything was in the prompt, and the answer is wrong all the same.
    Rule(id="6a", label=Label.STALE_KNOWLEDGE, sub="choice", when={**_READ, "old_said": YES}),
    Rule(id="6b", label=Label.WEAK_REASONING, sub="over_abstain", when={**_READ, "abstained": YES}),
    Rule(id="6c", label=Label.WEAK_REASONING, sub="over_clarify", when={**_READ, "asked_back": YES}),
    Rule(
        id="6d",
        label=Label.HALLUCINATION,
        sub="wrong_fact",
        when={"answerable": YES, "told": NO, "facts_right": NO, "supported": NO},
        holds_up=False,
    ),
    Rule(id="6e", label=Label.WEAK_REASONING, sub="incomplete", when={**_MISREAD, "some_facts": YES}),
    Rule(id="6f", label=Label.WEAK_REASONING, sub="wrong_passage", when={**_MISREAD, "some_facts": NO}),
    # 7. The facts are right, and something beside them is not.
    Rule(
        id="7a",
        label=Label.HALLUCINATION,
        sub="extra_claim",
        when={"answerable": YES, "told": NO, "facts_right": YES, "supported": NO},
    ),
    Rule(
        id="7b",
        label=Label.HALLUCINATION,
        sub="extra_claim",
        when={"answerable": YES, "supported": NO},
        holds_up=False,
    ),
    Rule(id="7c", label=Label.HALLUCINATION, sub="citation", when={"cited": NO}),
    Rule(
        id="7d",
        label=Label.STALE_KNOWLEDGE,
        sub="choice",
        when={"answerable": YES, "told": YES, "old_said": YES},
    ),
    Rule(
        id="7e",
        label=Label.WEAK_REASONING,
        sub="wrong_status",
        when={"answerable": YES, "must_escalate": YES, "told": YES, "status_right": NO, "handed_over": YES},
    ),
    Rule(
        id="7g",
        label=Label.WEAK_REASONING,
        sub=PASSED_ON_BY_RULE,
        when={"answerable": YES, "must_escalate": NO, "told": YES, "by_rule": YES, "status_right": NO},
    ),
    Rule(
        id="7f",
        label=Label.WEAK_REASONING,
        sub="wrong_status",
        when={"answerable": YES, "must_escalate": NO, "told": YES, "status_right": NO},
    ),
    # 8. Tone.
    Rule(id="8", label=Label.WRONG_TONE, when={"tone_kept": NO}),
    # 9. What the checks caught and a repair made good.
    Rule(id="9a", label=Label.BAD_FORMAT, sub="repaired", when={"repaired": YES, "complete": NO}),
    Rule(id="9b", label=Label.BAD_FORMAT, sub="repaired", when={"repaired": YES, "valid": NO}),
    Rule(id="9c", label=Label.HALLUCINATION, sub="repaired", when={"repaired": YES, "draft_supported": NO}),
)
#: Rules that explain no failure by themselves.
CONTRIBUTING_ONLY: Final = frozenset({"9a", "9b", "9c"})
#: A question that is rightly not answered is still one that somebody asked: for the owner of the content.
COVERAGE_GAP: Final = Rule(
    id="5d",
    label=Label.MISSING_KNOWLEDGE,
    sub="coverage_gap",
    when={"answerable": NO, "in_scope": YES, "abstained": YES},
)
#: No rule says why.
UNEXPLAINED: Final = "10"


def decide(checks: Sequence[Check]) -> Decision:
    """The outcome with its labels."""
    known = {check.name: check.value for check in checks}
    if known.get("ran") is not True:
        return Decision(Outcome.RUN_ERROR, None, ())
    read = [(rule, _fires(rule, known)) for rule in RULES]
    findings = _once_a_label(
        _finding(rule) for rule, fires in read if fires and rule.id not in CONTRIBUTING_ONLY
    )
    made_good = tuple(_finding(rule) for rule, fires in read if fires and rule.id in CONTRIBUTING_ONLY)
    if not _failed(known):
        gap = (_finding(COVERAGE_GAP),) if _fires(COVERAGE_GAP, known) else ()
        return Decision(Outcome.PASSED, None, (*gap, *made_good))
    open_rule = _first_open(read)
    if open_rule is not None:
        asked = tuple(name for name in open_rule.when if name in known and known[name] is None)
        undecided = Finding(label=Label.UNDETERMINED, sub="", rule=open_rule.id, evidence=asked)
        return Decision(Outcome.FAILED, undecided, (*findings, *made_good))
    if not findings:
        signs = tuple(name for name, bad in (*FAILS, *DRAFT_FAILS) if known.get(name) is bad)
        unexplained = Finding(label=Label.UNDETERMINED, sub="", rule=UNEXPLAINED, evidence=signs)
        return Decision(Outcome.FAILED, unexplained, made_good)
    return Decision(Outcome.FAILED, findings[0], (*findings[1:], *made_good))


def _failed(known: Mapping[str, bool | None]) -> bool:
    signs = FAILS if known.get("repaired") else (*FAILS, *DRAFT_FAILS)
    return any(known.get(name) is bad for name, bad in signs)


def _fires(rule: Rule, known: Mapping[str, bool | None]) -> bool | None:
    """True: all is as asked. False: something is not, or does not apply. None: it cannot be told."""
    open_ = False
    for name, wanted in rule.when.items():
        if name not in known:
            return False
        value = known[name]
        if value is None:
            open_ = True
        elif value is not (wanted is YES):
            return False
    return None if open_ else True


def _first_open(read: Sequence[tuple[Rule, bool | None]]) -> Rule | None:
    """The rule before the first firing one that could not be told and would have counted."""
    for rule, fires in read:
        if fires:
            return None
        if fires is None and rule.holds_up:
            return rule
    return None


def _finding(rule: Rule) -> Finding:
    return Finding(label=rule.label, sub=rule.sub, rule=rule.id, evidence=tuple(rule.when))


def _once_a_label(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The first of each label: the others say the same less well."""
    first: dict[Label, Finding] = {}
    for finding in findings:
        first.setdefault(finding.label, finding)
    return tuple(first.values())
