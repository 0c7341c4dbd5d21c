"""The failure-to-fix map: the framework's first fix of each failure, and ours with its evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eval.advice.counts import Share, State, share_of
from eval.advice.facts import Diagnosis
from eval.advice.layers import Group
from eval.advice.matrix import NO_EVIDENCE
from eval.labelling.labels import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """A failure, the framework's first fix, and ours with its evidence."""

    failure: str
    framework_fix: str
    seen: Share | None
    fix: str
    evidence: str


_NOTHING = "nothing to mend"
_MAP: tuple[tuple[str, str, frozenset[Label], str, str], ...] = (
    (
        "Model gives outdated answers",
        "RAG",
        frozenset({Label.STALE_KNOWLEDGE, Label.MISSING_KNOWLEDGE}),
        "",
        "retrieval of current documents, with validity dates",
    ),
    ("Model ignores exact response format", "Fine-tuning", frozenset({Label.BAD_FORMAT}), "", ""),
    (
        "Answer lacks citations or references",
        "RAG",
        frozenset({Label.HALLUCINATION}),
        "citation",
        "supply the sources at run time and check every quote",
    ),
    ("Support tone feels inconsistent", "Fine-tuning", frozenset({Label.WRONG_TONE}), "", ""),
    (
        "Retrieved docs are wrong or noisy",
        "Improve RAG pipeline",
        frozenset({Label.WRONG_RETRIEVAL}),
        "",
        "chunking, filters, reranking, measured by retrieval alone",
    ),
)


def failure_map(found: Diagnosis | None) -> Iterator[MapRow]:
    """Every row of the framework's map, counted in the diagnosed arm."""
    for failure, framework_fix, labels, sub, fix in _MAP:
        if found is None:
            yield MapRow(
                failure=failure, framework_fix=framework_fix, seen=None, fix=fix, evidence=NO_EVIDENCE
            )
            continue
        seen = share_of(
            found.end.decided,
            lambda row, labels=labels, sub=sub: row.label in labels and sub in ("", row.sub),  # type: ignore[misc]
        )
        ours, evidence = fix, f"{found.end.name}: {seen.k} of {seen.n}, clusters: {seen.clusters}"
        if seen.k == 0:
            ours = _NOTHING
        elif not fix:
            ours, behaves = _behaviour_fix(found, labels)
            evidence = f"{evidence}; {behaves}" if behaves else evidence
        yield MapRow(failure=failure, framework_fix=framework_fix, seen=seen, fix=ours, evidence=evidence)
    yield _both(found)


def _behaviour_fix(found: Diagnosis, labels: frozenset[Label]) -> tuple[str, str]:
    """Ours differs from the framework's here: what is cheaper than training comes first."""
    for each in found.eligibility:
        if each.behaviour.partition(".")[0] in labels:
            met = sum(condition.met is True for condition in each.conditions)
            return each.advice, f"{met} of {len(each.conditions)} conditions of training met"
    return _NOTHING, ""


def _both(found: Diagnosis | None) -> MapRow:
    failure, fix = "Need current docs plus strict output policy", "Hybrid"
    if found is None:
        return MapRow(failure=failure, framework_fix=fix, seen=None, fix="", evidence=NO_EVIDENCE)
    information, behaviour = found.groups[Group.INFORMATION], found.groups[Group.BEHAVIOUR]
    both = found.facts.needs_information and behaviour.state is State.SERIOUS
    here = "retrieval first, measure again, then the stable behaviour" if both else "not both are needed"
    return MapRow(
        failure=failure,
        framework_fix=fix,
        seen=None,
        fix="cannot be told yet" if found.facts.thin else here,
        evidence=f"information {information.share.k} of {information.share.n} ({information.state}), "
        f"behaviour {behaviour.share.k} of {behaviour.share.n} ({behaviour.state})",
    )
