"""Layers: which part of the system a failure belongs to, and what mends that part.

The same label can mean another layer in another arm: an answer that is made up without any context lacks
knowledge, one that is made up in spite of the right passage lacks a check.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from eval.advice.evidence import Row
from eval.arms import ArmKind
from eval.labelling.labels import PASSED_ON_BY_RULE, Label
from serving.tuning.failures import BEHAVIOUR_SUBS, TRUNCATED


class Layer(StrEnum):
    """A part of the system that is mended on its own."""

    KNOWLEDGE = "knowledge"
    RETRIEVAL = "retrieval"
    GROUNDING = "grounding"
    BEHAVIOUR = "behaviour"
    REASONING = "reasoning"
    POLICY = "policy"
    UNKNOWN = "unknown"


#: Layers whose fix is better information; they are mended before anything is trained.
INFORMATION = frozenset({Layer.KNOWLEDGE, Layer.RETRIEVAL})


class Group(StrEnum):
    """What the verdict chooses between, most upstream first."""

    INFORMATION = "information"
    REASONING = "reasoning"
    GROUNDING = "grounding"
    BEHAVIOUR = "behaviour"
    POLICY = "policy"


_GROUP_OF = {
    Layer.KNOWLEDGE: Group.INFORMATION,
    Layer.RETRIEVAL: Group.INFORMATION,
    Layer.GROUNDING: Group.GROUNDING,
    Layer.BEHAVIOUR: Group.BEHAVIOUR,
    Layer.REASONING: Group.REASONING,
    Layer.POLICY: Group.POLICY,
}

#: Not looking anything up, a model can neither abstain too much nor read the wrong passage.
_NEEDS_CONTEXT = frozenset({"over_abstain", "over_clarify", "wrong_passage"})


class Fix(StrEnum):
    """A candidate fix."""

    ADD_RETRIEVAL = "add_retrieval"
    DOCUMENTS = "documents"
    RETRIEVAL = "retrieval"
    CHECKS = "checks"
    PROMPT = "prompt"
    MODEL = "model"
    TUNE = "tune"
    RULES = "rules"


@dataclass(frozen=True, slots=True, kw_only=True)
class FixText:
    """A fix in words, and who has to do it."""

    title: str
    steps: str
    owner: str


FIX_TEXTS = {
    Fix.ADD_RETRIEVAL: FixText(
        title="Add retrieval",
        steps="ingest the documents, answer from cited passages, abstain below a confidence",
        owner="knowledge rail",
    ),
    Fix.DOCUMENTS: FixText(
        title="Write and sync documents",
        steps="write the missing articles, sync the stale ones, give them validity dates",
        owner="content owner",
    ),
    Fix.RETRIEVAL: FixText(
        title="Improve retrieval",
        steps="hybrid search, reranking, chunking, filters, newest version only in the prompt",
        owner="knowledge rail",
    ),
    Fix.CHECKS: FixText(
        title="Check support, else abstain",
        steps="enforce the grounding check, route unsupported drafts to an abstention or a person",
        owner="gateway",
    ),
    Fix.PROMPT: FixText(
        title="Search the prompt, constrain the output",
        steps="compare at least three prompts on the dev questions, decode against the schema, retry once",
        owner="model rail",
    ),
    Fix.MODEL: FixText(
        title="Stronger model or smaller tasks",
        steps="try a stronger base model, split the task into steps, give calculations to code",
        owner="model rail",
    ),
    Fix.TUNE: FixText(
        title="Tune the stable behaviour",
        steps="reviewed examples of these behaviours, held against the best prompt, gated before promotion",
        owner="model rail",
    ),
    Fix.RULES: FixText(
        title="Policy rules and a person",
        steps="examples for the hand-over rules, a filter before release, a regression test for each case",
        owner="policy owner",
    ),
}

_FIX_OF = {
    Layer.KNOWLEDGE: Fix.DOCUMENTS,
    Layer.RETRIEVAL: Fix.RETRIEVAL,
    Layer.GROUNDING: Fix.CHECKS,
    Layer.BEHAVIOUR: Fix.PROMPT,
    Layer.REASONING: Fix.MODEL,
    Layer.POLICY: Fix.RULES,
}


def layer_of(row: Row, kind: ArmKind) -> Layer | None:
    """The layer of a failed row in an arm of that kind; None for a row that did not fail."""
    if row.label is None:
        return None
    behaves = row.sub in BEHAVIOUR_SUBS.get(row.label, ())
    without_context = kind in (ArmKind.PROMPT, ArmKind.TUNED)
    match row.label:
        case Label.MISSING_KNOWLEDGE:
            return Layer.KNOWLEDGE
        case Label.STALE_KNOWLEDGE:
            return Layer.RETRIEVAL if row.sub in ("retrieval", "choice") else Layer.KNOWLEDGE
        case Label.WRONG_RETRIEVAL:
            return Layer.RETRIEVAL
        case Label.BAD_FORMAT | Label.WRONG_TONE:
            return Layer.BEHAVIOUR
        case Label.HALLUCINATION if without_context:
            return Layer.BEHAVIOUR if row.sub == "unanswerable" else Layer.KNOWLEDGE
        case Label.HALLUCINATION:
            return Layer.BEHAVIOUR if behaves else Layer.GROUNDING
        case Label.WEAK_REASONING if row.sub == PASSED_ON_BY_RULE:
            return Layer.POLICY
        case Label.WEAK_REASONING if without_context and row.sub in _NEEDS_CONTEXT:
            return Layer.KNOWLEDGE
        case Label.WEAK_REASONING:
            return Layer.BEHAVIOUR if behaves else Layer.REASONING
        case Label.POLICY_VIOLATION:
            return Layer.POLICY
        case Label.UNDETERMINED:
            return Layer.UNKNOWN


def group_of(row: Row, kind: ArmKind) -> Group | None:
    """The group that the verdict counts a row in; None for what passed or cannot be told."""
    layer = layer_of(row, kind)
    return None if layer is None else _GROUP_OF.get(layer)


def fix_of(layer: Layer, kind: ArmKind) -> Fix | None:
    """What mends a layer first, in an arm of that kind."""
    if layer is Layer.KNOWLEDGE and kind in (ArmKind.PROMPT, ArmKind.TUNED):
        return Fix.ADD_RETRIEVAL
    return _FIX_OF.get(layer)


def code_of(row: Row) -> str:
    """Label and sub-code in one word: `hallucination.citation`."""
    if row.label is None:
        return ""
    return f"{row.label}.{row.sub}" if row.sub else row.label.value


def behaviour_of(row: Row) -> str:
    """What would be trained: a label, or its sub-code where the label holds other things as well."""
    code = code_of(row)
    if row.label in BEHAVIOUR_SUBS or code == TRUNCATED:
        return code
    return row.label.value if row.label else ""
