"""Whether a behaviour may be trained: only what is frequent, wide-spread and survives what is cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from eval.advice.counts import FLOOR_QUESTIONS, SERIOUS_ABOVE, SMALL_BELOW, Share, missing_questions, share_of
from eval.advice.evidence import ArmLog, Row
from eval.advice.layers import Layer, behaviour_of, layer_of
from eval.advice.team import Tried
from eval.arms import ArmKind
from eval.labelling.labels import Label
from eval.prompts.tried import SearchedPrompts
from serving.tuning.failures import TRUNCATED

LEAST_ROWS = 100
LEAST_SEEN = 8
LEAST_CLUSTERS = 3
LEAST_PROMPTS = 3


class Standing(StrEnum):
    """What may be done about a behaviour now."""

    ELIGIBLE = "eligible"
    #: Something that costs less is untried, or mends it.
    CHEAPER_FIX = "cheaper_fix"
    #: Enough was asked, and it hardly happens.
    TOO_RARE = "too_rare"
    #: The questions or arms do not say.
    NOT_ENOUGH = "not_enough_evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of eligibility. `met` is None where nothing says."""

    name: str
    met: bool | None
    evidence: str
    #: What to do where it is not met.
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligibility:
    """A behaviour in the diagnosed arm, with every condition that training it has."""

    behaviour: str
    share: Share
    standing: Standing
    conditions: tuple[Condition, ...]
    #: In words, what to do now.
    advice: str
    #: Questions still to be asked before it can be told.
    questions_missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The arm that is diagnosed, and what its behaviours have to survive."""

    arm: ArmLog
    oracle: ArmLog | None
    #: Arms of the same rung with other prompts.
    variants: tuple[ArmLog, ...]
    tried: Tried
    #: Nothing has to be looked up for these questions, so the arm is its own oracle.
    needs_no_context: bool


def behaviours(arm: ArmLog) -> tuple[str, ...]:
    """Codes of the behaviours that fail in an arm, most frequent first."""
    codes = [behaviour_of(row) for row in arm.decided if layer_of(row, arm.kind) is Layer.BEHAVIOUR]
    return tuple(sorted(set(codes), key=lambda code: (-codes.count(code), code)))


def judge(behaviour: str, trial: Trial) -> Eligibility:
    """Every condition for one behaviour, and what follows."""
    share = _share(trial.arm, behaviour)
    conditions = (
        *_frequent(share),
        *((_LIMIT,) if behaviour == TRUNCATED else ()),
        *((_constrained(trial.tried),) if behaviour == Label.BAD_FORMAT else ()),
        _prompts(behaviour, trial),
        _oracle(behaviour, trial),
    )
    standing = _standing(conditions)
    return Eligibility(
        behaviour=behaviour,
        share=share,
        standing=standing,
        conditions=conditions,
        advice=_advice(behaviour, standing, conditions),
        questions_missing=missing_questions(share.n, LEAST_ROWS),
    )


#: Conditions whose failing names a cheaper fix; the others ask for more evidence.
_CHEAPER = ("limit of tokens", "constrained decoding", "searched prompts")
_ORACLE = "gold documents given"
_QUESTIONS, _FREQUENCY = "questions", "frequency"


_LIMIT = Condition(
    name="limit of tokens",
    met=False,
    evidence="the draft was cut there",
    otherwise="raise the limit of tokens or ask for shorter answers",
)


def _standing(conditions: Sequence[Condition]) -> Standing:
    if all(condition.met for condition in conditions):
        return Standing.ELIGIBLE
    met = {condition.name: condition.met for condition in conditions}
    if met[_QUESTIONS] and not met[_FREQUENCY]:
        return Standing.TOO_RARE
    for condition in conditions:
        untried = condition.name in _CHEAPER and not condition.met
        if untried or (condition.name == _ORACLE and condition.met is False):
            return Standing.CHEAPER_FIX
    return Standing.NOT_ENOUGH


def _advice(behaviour: str, standing: Standing, conditions: Sequence[Condition]) -> str:
    if standing is Standing.TOO_RARE:
        return "leave it: too rare to train for"
    unmet = (condition.otherwise for condition in _by_cost(conditions) if condition.met is not True)
    return next(unmet, f"train {behaviour}: it survives everything that is cheaper")


def _by_cost(conditions: Sequence[Condition]) -> list[Condition]:
    """What is cheapest to do first: settings and prompts, then retrieval, then more questions."""
    rank = {name: place for place, name in enumerate((*_CHEAPER, _ORACLE))}
    return sorted(conditions, key=lambda condition: rank.get(condition.name, len(rank)))


def _share(arm: ArmLog, behaviour: str) -> Share:
    def counts(row: Row) -> bool:
        return behaviour_of(row) == behaviour and layer_of(row, arm.kind) is Layer.BEHAVIOUR

    return share_of(arm.decided, counts)


def _frequent(share: Share) -> tuple[Condition, ...]:
    seen = share.k >= LEAST_SEEN and share.low > SERIOUS_ABOVE
    return (
        Condition(
            name=_QUESTIONS,
            met=share.n >= LEAST_ROWS,
            evidence=f"{share.n} decided, {LEAST_ROWS} needed",
            otherwise=f"ask {missing_questions(share.n, LEAST_ROWS)} more questions",
        ),
        Condition(
            name=_FREQUENCY,
            met=seen,
            evidence=f"{share.k} of {share.n}, at least {share.low:.1%}; {LEAST_SEEN} and more than "
            f"{SERIOUS_ABOVE:.0%} needed",
            otherwise="leave it: too rare to train for",
        ),
        Condition(
            name="clusters",
            met=share.clusters >= LEAST_CLUSTERS,
            evidence=f"{share.clusters} with such a failure, {LEAST_CLUSTERS} needed",
            otherwise="ask questions of other clusters, or mend these few by hand",
        ),
    )


def _constrained(tried: Tried) -> Condition:
    said = tried.constrained_decoding
    evidence = {
        None: "no evidence: the team file does not say (tried.constrained_decoding)",
        True: "was on (team file)",
        False: "was off (team file)",
    }[said]
    return Condition(
        name="constrained decoding",
        met=said,
        evidence=evidence,
        otherwise="decode against the schema and retry once, then measure again",
    )


def _prompts(behaviour: str, trial: Trial) -> Condition:
    """Measured where arms differ in their prompt only; else by the record of a search."""
    arms = (trial.arm, *trial.variants)
    otherwise = f"search the prompt (`twinrail eval prompts`): at least {LEAST_PROMPTS}, then measure again"
    if len(arms) >= LEAST_PROMPTS:
        shares = [(arm.name, _share(arm, behaviour)) for arm in arms]
        counted = ", ".join(f"{name} {share.k} of {share.n}" for name, share in shares)
        mended = [name for name, share in shares if share.low <= SERIOUS_ABOVE]
        return Condition(
            name="searched prompts",
            met=not mended,
            evidence=f"measured: {counted}",
            otherwise=f"use the prompt of {mended[0]}, which mends it" if mended else otherwise,
        )
    searches = [
        search
        for search in trial.tried.prompt_searches
        if (search.kind in _RETRIEVING) == (trial.arm.kind in _RETRIEVING)
    ]
    if not searches:
        evidence = (
            f"no evidence: {len(arms)} in the run, and the team file names no search of the prompt of such "
            "an arm (tried.prompt_searches)"
        )
        return Condition(name="searched prompts", met=None, evidence=evidence, otherwise=otherwise)
    # A search whose best prompt the arm uses says more than one that it does not, however large.
    search = max(searches, key=lambda each: (_uses_best(trial.arm, each), each.prompts))
    told = f"{search.prompts} searched on {search.questions} questions ({search.folder})"
    if not _uses_best(trial.arm, search):
        return Condition(
            name="searched prompts",
            met=False,
            evidence=f"{told}; {trial.arm.name} was not asked with the best of them, {search.best}",
            otherwise=f"measure {trial.arm.name} with the prompt that {search.folder} found best",
        )
    return Condition(
        name="searched prompts",
        met=search.prompts >= LEAST_PROMPTS,
        evidence=f"{told}, {LEAST_PROMPTS} needed; it fails under the best of them, {search.best}",
        otherwise=otherwise,
    )


def _uses_best(arm: ArmLog, search: SearchedPrompts) -> bool:
    """Whether the arm was asked with the best prompt of a search, which may be the version's own."""
    if search.best_sha256:
        return arm.prompt_sha256 == search.best_sha256
    return arm.model == search.model


#: A prompt that is good without passages says little about one with them.
_RETRIEVING = frozenset({ArmKind.RAG, ArmKind.RAG_PLUS, ArmKind.HYBRID})


def _oracle(behaviour: str, trial: Trial) -> Condition:
    if trial.needs_no_context and trial.arm.kind is ArmKind.PROMPT:
        return Condition(
            name=_ORACLE,
            met=True,
            evidence="these questions need no documents: missing knowledge is small without any",
            otherwise="",
        )
    if trial.oracle is None:
        return Condition(
            name=_ORACLE,
            met=None,
            evidence="no evidence: the run has no oracle arm",
            otherwise="run an arm with the gold documents given (context:gold)",
        )
    share = _share(trial.oracle, behaviour)
    # Questions without a gold document are not asked there, so it has fewer of them.
    survives = share.low > SERIOUS_ABOVE and share.n >= FLOOR_QUESTIONS
    unsure = not survives and (share.n < FLOOR_QUESTIONS or share.high >= SMALL_BELOW)
    return Condition(
        name=_ORACLE,
        met=True if survives else None if unsure else False,
        evidence=f"{trial.oracle.name}: {share.k} of {share.n} ({share.low:.1%} to {share.high:.1%})",
        otherwise=(
            "ask more questions with the gold documents given"
            if unsure
            else "improve retrieval: with the gold documents given it hardly happens"
        ),
    )
