"""Logs whose cause is known, because a small world made them: questions, mechanisms that break answers, and arms.

Nothing here knows the rules of the advice. A world says how often documents are missing, searches miss, the model breaks
its format, reasons wrongly and so on; each arm turns some of these mechanisms off, as the real one would. Labels are
those of the mechanism, some of them wrong (`noise`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from eval.advice.evidence import Agreement, ArmLog, CaseUsage, Logs, MetricFigure, settle
from eval.advice.team import Team
from eval.arms import ArmKind
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.stats import wilson
from serving.pricing import TokenCounts

_NAMES = {
    ArmKind.PROMPT: "prompt_only",
    ArmKind.RAG: "rag",
    ArmKind.RAG_PLUS: "rag_improved",
    ArmKind.ORACLE: "oracle",
    ArmKind.TUNED: "tuned",
    ArmKind.HYBRID: "hybrid",
}
_WITHOUT_CONTEXT = (ArmKind.PROMPT, ArmKind.TUNED)
_TRAINED = (ArmKind.TUNED, ArmKind.HYBRID)
#: Tokens of prompt, of them cached, and of output; milliseconds of retrieval.
_USAGE = {
    ArmKind.PROMPT: (620, 512, 70, None),
    ArmKind.RAG: (1180, 512, 80, 24.0),
    ArmKind.RAG_PLUS: (1180, 512, 80, 61.0),
    ArmKind.ORACLE: (1400, 512, 80, None),
    ArmKind.TUNED: (140, 54, 66, None),
    ArmKind.HYBRID: (640, 54, 74, 24.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How often each mechanism breaks an answer, as shares of all questions."""

    questions: int
    clusters: int = 12
    arms: tuple[ArmKind, ...] = (ArmKind.RAG, ArmKind.ORACLE)
    #: The question cannot be answered without a document.
    needs_document: float = 0.0
    missing_document: float = 0.0
    stale_document: float = 0.0
    retrieval_miss: float = 0.0
    #: The same with improved retrieval.
    improved_miss: float = 0.0
    bad_format: float = 0.0
    wrong_tone: float = 0.0
    over_abstain: float = 0.0
    weak_reasoning: float = 0.0
    ungrounded: float = 0.0
    policy: float = 0.0
    #: Failures that no rule can explain.
    unexplained: float = 0.0
    #: Questions without an answer.
    lost: float = 0.0
    #: Labels that are wrong.
    noise: float = 0.0
    #: Of failures that people read as well, how many labels they agree with; None: nobody read any.
    agreement: float | None = None
    #: The labels blame retrieval for what the model does: the oracle arm does not help.
    blames_retrieval: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log, the team that reads it, and what is known to be right."""

    name: str
    logs: Logs
    team: Team
    expected: str
    #: Too few questions to say anything.
    below_floor: bool = False


def make_logs(world: World, seed: int) -> Logs:
    """The logs of a world; the same seed makes the same."""
    draw = random.Random(seed)
    cases = [_Case.of(number, world, draw) for number in range(world.questions)]
    settled = settle(
        _record(case, kind, world, random.Random(f"{seed}/{kind}/{case.id}"))
        for kind in world.arms
        for case in cases
    )
    failures = sum(row.failed for rows in settled.rows.values() for row in rows)
    agreement = None
    if world.agreement is not None and failures:
        agreement = Agreement(agreed=round(world.agreement * failures), both=failures)
    return Logs(
        run=f"synthetic-{seed}",
        question_set_sha256=f"{seed:064x}",
        labels_sha256=f"{seed + 1:064x}",
        criteria=settled.criteria,
        agreement=agreement,
        arms=tuple(
            ArmLog(
                name=_NAMES[kind],
                kind=kind,
                model="m-tuned-1" if kind in _TRAINED else "m-base-1",
                rows=settled.rows[_NAMES[kind]],
                metrics=_metrics(kind, settled.rows[_NAMES[kind]]),
                usage=tuple(_usage(case, kind, draw) for case in cases),
            )
            for kind in world.arms
        ),
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """A question with the mechanisms that will break its answer, drawn once for all arms."""

    id: str
    cluster: str
    broken: frozenset[str]

    @classmethod
    def of(cls, number: int, world: World, draw: random.Random) -> _Case:
        names = [
            "needs_document",
            "missing_document",
            "stale_document",
            "retrieval_miss",
            "improved_miss",
            "bad_format",
            "wrong_tone",
            "over_abstain",
            "weak_reasoning",
            "ungrounded",
            "policy",
            "unexplained",
            "lost",
            "blames_retrieval",
        ]
        luck = draw.random()
        broken = {name for name in names if draw.random() < getattr(world, name)}
        # What improved retrieval misses, plain retrieval misses too.
        broken.discard("improved_miss")
        if (
            world.retrieval_miss
            and "retrieval_miss" in broken
            and luck < world.improved_miss / world.retrieval_miss
        ):
            broken.add("improved_miss")
        return cls(f"q{number:04d}", f"topic-{number % world.clusters:02d}", frozenset(broken))


def _mechanism(case: _Case, kind: ArmKind) -> tuple[Label, str] | None:
    """The first thing that breaks this answer in this arm, upstream first."""
    broken = case.broken
    without = kind in _WITHOUT_CONTEXT
    if "policy" in broken:
        return Label.POLICY_VIOLATION, ""
    if "bad_format" in broken and kind not in _TRAINED:
        return Label.BAD_FORMAT, ""
    if without and "needs_document" in broken:
        return (Label.HALLUCINATION, "") if hash_of(case.id) % 2 else (Label.MISSING_KNOWLEDGE, "")
    if not without:
        if "missing_document" in broken:
            return Label.MISSING_KNOWLEDGE, ""
        if "stale_document" in broken:
            return Label.STALE_KNOWLEDGE, "index"
        if (kind in (ArmKind.RAG, ArmKind.HYBRID) and "retrieval_miss" in broken) or (
            kind is ArmKind.RAG_PLUS and "improved_miss" in broken
        ):
            return Label.WRONG_RETRIEVAL, "miss"
        if "blames_retrieval" in broken:
            return (Label.WEAK_REASONING, "") if kind is ArmKind.ORACLE else (Label.WRONG_RETRIEVAL, "miss")
        if "ungrounded" in broken:
            return Label.HALLUCINATION, ""
        if "over_abstain" in broken and kind not in _TRAINED:
            return Label.WEAK_REASONING, "over_abstain"
    if "weak_reasoning" in broken:
        return Label.WEAK_REASONING, "misread"
    if "wrong_tone" in broken and kind not in _TRAINED:
        return Label.WRONG_TONE, ""
    if "unexplained" in broken:
        return Label.UNDETERMINED, ""
    return None


def hash_of(text: str) -> int:
    """The same in every process, unlike `hash`."""
    return crc32(text.encode())


def _record(case: _Case, kind: ArmKind, world: World, draw: random.Random) -> LabelRecord:
    cause = _mechanism(case, kind)
    if cause and draw.random() < world.noise:
        cause = draw.choice([label for label in Label if label not in (cause[0], Label.UNDETERMINED)]), ""
    lost = "lost" in case.broken
    return LabelRecord(
        run="synthetic",
        turn_id="" if lost else f"{kind}-{case.id}",
        case_id=case.id,
        arm=_NAMES[kind],
        cluster=case.cluster,
        task_type="question",
        outcome=Outcome.RUN_ERROR if lost else Outcome.FAILED if cause else Outcome.PASSED,
        primary=None
        if lost or not cause
        else Finding(label=cause[0], sub=cause[1], rule="world", evidence=()),
        criteria="c1-00000000",
    )


def _metrics(kind: ArmKind, rows: Sequence) -> dict[str, MetricFigure]:  # type: ignore[type-arg]
    """What a report would say of these rows: enough for the duties and the matrix."""
    n = sum(row.decided for row in rows)
    bad = {label: sum(row.label is label for row in rows) for label in Label}
    figures = {
        "answer_right": ("answer quality", n - sum(row.failed for row in rows), True),
        "format_valid": ("format compliance", n - bad[Label.BAD_FORMAT], True),
        "hallucination_draft": ("hallucination rate", bad[Label.HALLUCINATION], False),
        "hallucination_served": ("hallucination rate", bad[Label.HALLUCINATION], False),
        "would_be_corrected": ("corrections", sum(row.failed for row in rows), False),
        "tone_kept": ("detail", n - bad[Label.WRONG_TONE], True),
        "abstained_when_due": ("detail", n, True),
    }
    if kind not in _WITHOUT_CONTEXT:
        figures["hit"] = ("retrieval quality", n - bad[Label.WRONG_RETRIEVAL], True)
        figures["citations_valid"] = ("detail", n, True)
    return {
        name: MetricFigure(
            name=name,
            title=name.replace("_", " "),
            group=group,
            higher_is_better=higher,
            k=k,
            n=n,
            low=wilson(k, n).low,
            high=wilson(k, n).high,
        )
        for name, (group, k, higher) in figures.items()
        if n
    }


def _usage(case: _Case, kind: ArmKind, draw: random.Random) -> CaseUsage:
    prompt, cached, completion, retrieval_ms = _USAGE[kind]
    spread = draw.uniform(0.9, 1.1)
    return CaseUsage(
        case_id=case.id,
        tokens=TokenCounts(
            prompt=round(prompt * spread),
            cached=min(cached, round(prompt * spread)),
            completion=round(completion * spread),
        ),
        cached_known=True,
        retrieval_ms=None if retrieval_ms is None else retrieval_ms * spread,
        handed_off=hash_of(case.id) % 20 == 0,
    )


# ---- the catalogue -----------------------------------------------------------------------------

_P, _R, _RP, _O, _T, _H = (
    ArmKind.PROMPT,
    ArmKind.RAG,
    ArmKind.RAG_PLUS,
    ArmKind.ORACLE,
    ArmKind.TUNED,
    ArmKind.HYBRID,
)
#: Four prompts with and without passages, of which the version's own is the best.
_SEARCHES = [
    {
        "folder": kind.value,
        "kind": kind,
        "model": "m-base-1",
        "prompts": 4,
        "questions": 48,
        "best": "current",
        "best_sha256": "",
    }
    for kind in (_P, _R)
]
_TRIED = {"prompt_searches": _SEARCHES, "constrained_decoding": True}
STARTUP = Team.model_validate({"team_size": "startup", "regulated": False, "tried": _TRIED})
LARGE = Team.model_validate({"team_size": "large", "regulated": True, "tried": _TRIED})
UNTRIED = Team.model_validate({"team_size": "startup", "regulated": False})
SOLO = Team.model_validate({"team_size": "solo", "regulated": False, "tried": _TRIED})

_W = World(questions=0)
#: Worlds with one right answer each: name, world without its size, team, verdict.
WORLDS: tuple[tuple[str, World, Team, str], ...] = (
    ("prompt is enough", replace(_W, arms=(_P,), weak_reasoning=0.01), STARTUP, "prompt"),
    ("format, nothing tried", replace(_W, arms=(_P, _T), bad_format=0.25), UNTRIED, "prompt"),
    ("rag live, format, nothing tried", replace(_W, arms=(_R, _O), bad_format=0.25), UNTRIED, "prompt"),
    ("routing format, solo", replace(_W, arms=(_P, _T), bad_format=0.25), SOLO, "prompt"),
    ("ungrounded, checks first", replace(_W, arms=(_R, _O), ungrounded=0.25), STARTUP, "prompt"),
    ("prompt lacks knowledge", replace(_W, arms=(_P, _O), needs_document=0.45), STARTUP, "rag"),
    ("rag mends the prompt", replace(_W, arms=(_P, _R, _O), needs_document=0.45), STARTUP, "rag"),
    ("searches miss", replace(_W, arms=(_R, _O), retrieval_miss=0.3), STARTUP, "improved_rag"),
    (
        "from scratch, searches miss",
        replace(_W, arms=(_P, _R, _O), needs_document=0.6, retrieval_miss=0.3),
        LARGE,
        "improved_rag",
    ),
    ("documents are missing", replace(_W, arms=(_R, _O), missing_document=0.28), STARTUP, "improved_rag"),
    ("documents are stale", replace(_W, arms=(_R, _O), stale_document=0.28), LARGE, "improved_rag"),
    (
        "improved retrieval helps",
        replace(_W, arms=(_R, _RP, _O), retrieval_miss=0.35, improved_miss=0.01),
        STARTUP,
        "improved_rag",
    ),
    (
        "both fail, solo",
        replace(_W, arms=(_R, _O, _H), retrieval_miss=0.25, bad_format=0.25),
        SOLO,
        "improved_rag",
    ),
    ("routing format", replace(_W, arms=(_P, _T), bad_format=0.3), STARTUP, "fine_tune"),
    ("rag live, format survives", replace(_W, arms=(_R, _O, _H), bad_format=0.3), STARTUP, "fine_tune"),
    ("rag live, tone survives", replace(_W, arms=(_R, _O, _H), wrong_tone=0.3), LARGE, "fine_tune"),
    ("rag live, over-abstains", replace(_W, arms=(_R, _O, _H), over_abstain=0.3), STARTUP, "fine_tune"),
    (
        "both fail",
        replace(_W, arms=(_R, _O, _H), retrieval_miss=0.25, bad_format=0.3),
        STARTUP,
        "hybrid",
    ),
    (
        "from scratch, knowledge and tone",
        replace(_W, arms=(_P, _R, _O, _H), needs_document=0.5, wrong_tone=0.3),
        LARGE,
        "hybrid",
    ),
    (
        "from scratch, knowledge and format, searches miss",
        replace(_W, arms=(_P, _R, _O, _H), needs_document=0.5, retrieval_miss=0.25, bad_format=0.3),
        STARTUP,
        "hybrid",
    ),
    ("reasons wrongly", replace(_W, arms=(_R, _O), weak_reasoning=0.3), STARTUP, "stronger_model"),
    (
        "reasons wrongly, a few searches miss",
        replace(_W, arms=(_R, _O), weak_reasoning=0.42, retrieval_miss=0.15),
        LARGE,
        "stronger_model",
    ),
    (
        "reasons wrongly and breaks format",
        replace(_W, arms=(_R, _O), weak_reasoning=0.3, bad_format=0.2),
        STARTUP,
        "stronger_model",
    ),
    ("nobody knows why", replace(_W, arms=(_R, _O), unexplained=0.25), STARTUP, "not_enough_evidence"),
    (
        "a third got no answer",
        replace(_W, arms=(_R, _O), lost=0.35, retrieval_miss=0.3),
        STARTUP,
        "not_enough_evidence",
    ),
    (
        "people disagree with the labels",
        replace(_W, arms=(_R, _O), retrieval_miss=0.3, agreement=0.4),
        STARTUP,
        "not_enough_evidence",
    ),
    (
        "labels blame retrieval wrongly",
        replace(_W, arms=(_R, _O), blames_retrieval=0.3),
        STARTUP,
        "not_enough_evidence",
    ),
    ("no oracle arm", replace(_W, arms=(_R, _H), wrong_tone=0.3), STARTUP, "not_enough_evidence"),
)
SIZES = (160, 300, 600)
NOISES = (0.0, 0.05, 0.10)
BELOW_FLOOR = (3, 20, 45)


def catalogue(seed: int = 20260301) -> Iterator[Log]:
    """Every world at every size and noise, and below the floor, where only one answer is right."""
    number = 0
    for name, world, team, expected in WORLDS:
        for size in SIZES:
            for noise in NOISES:
                number += 1
                made = make_logs(replace(world, questions=size, noise=noise), seed + number)
                yield Log(
                    name=f"{name}, {size} questions, noise {noise:g}", logs=made, team=team, expected=expected
                )
        for size in BELOW_FLOOR:
            number += 1
            made = make_logs(replace(world, questions=size, clusters=3), seed + number)
            yield Log(
                name=f"{name}, {size} questions",
                logs=made,
                team=team,
                expected="not_enough_evidence",
                below_floor=True,
            )
