"""Which failures training mends, and what mends the others.

A model that is trained on what the system did not know learns to invent it. So only behaviour is trained: how
to write, cite and abstain with the right passages in the prompt. Labels are those of evaluation, `label` or
`label.sub`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Sub-codes of behaviour inside labels that are otherwise something else: the model had what it needed.
BEHAVIOUR_SUBS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "hallucination": frozenset({"citation", "unanswerable"}),
        "weak_reasoning": frozenset(
            {"not_abstained", "over_abstain", "over_clarify", "wrong_passage", "wrong_status"}
        ),
    }
)
#: Labels that are behaviour whatever their sub-code.
_BEHAVIOUR = frozenset({"bad_format", "wrong_tone"})
#: A draft that was cut at the limit of tokens: a setting, whatever was learned.
TRUNCATED = "bad_format.truncated"

_INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "missing_knowledge": "write the missing articles and ingest them",
        "stale_knowledge": "sync the articles, give them validity dates, and show the newest version only",
        "wrong_retrieval": "improve retrieval: hybrid search, reranking, chunking, filters",
        "hallucination": "enforce the grounding check, and abstain where it refuses",
        "weak_reasoning": "try a stronger base model, or split the task into steps",
        "policy_violation": "filter by rule before release and hand over to a person; never train it alone",
        "policy_violation.must_escalate": "add an example to the hand-over rules (GATEWAY_HANDOVER_FILE)",
        "weak_reasoning.passed_on_by_rule": "add an ordinary example to the hand-over rules",
        "undetermined": "find the cause first (`twinrail advise`)",
        TRUNCATED: "raise the limit of tokens, or ask for shorter answers",
    }
)


def is_behaviour(code: str) -> bool:
    """Whether training may mend a failure."""
    label, _, sub = code.partition(".")
    if code == TRUNCATED:
        return False
    return label in _BEHAVIOUR or sub in BEHAVIOUR_SUBS.get(label, ())


def instead_of_tuning(code: str) -> str | None:
    """What mends a failure that training does not; None for one that it may, or that nobody knows."""
    if is_behaviour(code):
        return None
    return _INSTEAD.get(code) or _INSTEAD.get(code.partition(".")[0])


def is_known(code: str) -> bool:
    """Whether there is such a failure."""
    label = code.partition(".")[0]
    return label in _BEHAVIOUR or label in _INSTEAD


def trainable() -> tuple[str, ...]:
    """The failures that training mends."""
    subs = (f"{label}.{sub}" for label, each in BEHAVIOUR_SUBS.items() for sub in sorted(each))
    return (*sorted(_BEHAVIOUR), *subs)
