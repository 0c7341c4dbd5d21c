"""Two index versions against each other: text for a terminal, JSON for programs, the same numbers in both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from eval.differences import HIT, Change, Found, Move, Paired, Side, VersionComparison
from eval.report import Table, as_text, bullets, counts, number, one_line, rate, rate_json
from eval.stats import Interval, smallest_visible_gain

T = TypeVar("T")

#: Questions of each direction that the text shows; JSON has all.
_SHOWN = 10


def versions_text(report: Found) -> str:
    """For a terminal."""
    found = report.comparison
    a, b = found.sides.first, found.sides.second
    parts = [
        f"A = {a}\nB = {b}\n{found.n} of {found.asked} questions from {report.source} have both replies."
        + (f" Not asked: {report.left_out}." if report.left_out else "")
    ]
    if found.quality is None:
        parts.append("No gold documents: the figures say how much the versions differ, not which is better.")
    else:
        parts.append(
            as_text(
                Table(
                    title=f"What they find, {found.quality.n} questions with gold documents",
                    header=("", "A", "B", "B - A", "95 % by topic", "B better", "B worse", "exact p"),
                    rows=tuple(_figure(figure.name, figure) for figure in found.quality.figures),
                )
            )
        )
        if found.quality.kinds:
            parts.append(
                as_text(
                    Table(
                        title=f"{found.quality.figures[0].name} by kind",
                        header=("", "A", "B", "B - A", "95 % by topic", "B better", "B worse", "exact p"),
                        rows=tuple(
                            _figure(f"{kind} ({figure.n})", figure)
                            for kind, figure in found.quality.kinds.items()
                        ),
                    )
                )
            )
        parts.append(bullets("Read as", [sentence(figure) for figure in found.quality.figures]))
    parts.append(as_text(Table(title="The replies", header=("", "A", "B"), rows=tuple(_side_rows(found)))))
    parts.append(bullets(f"How much they differ, first {found.k} documents", list(_agreement(found))))
    if found.quality is None:
        parts.append(_listed("Most moved", found.agreement.moved, _move))
    else:
        worse = [change for change in found.quality.changes if change.difference < 0]
        better = [change for change in reversed(found.quality.changes) if change.difference > 0]
        parts += [
            _listed("B is worse", worse, _change, ", nDCG@10"),
            _listed("B is better", better, _change, ", nDCG@10"),
        ]
    if found.thin:
        parts.append(bullets("NOT ENOUGH EVIDENCE", [found.thin]))
    return "\n\n".join(filter(None, parts))


def versions_json(report: Found) -> dict[str, Any]:
    """For programs. A figure that nothing stands behind is null."""
    found = report.comparison
    quality, agreement = found.quality, found.agreement
    return {
        "first": found.sides.first,
        "second": found.sides.second,
        "source": report.source,
        "left_out": report.left_out,
        "k": found.k,
        "asked": found.asked,
        "n": found.n,
        "enough_evidence": not found.thin,
        "not_enough_because": found.thin or None,
        "quality": quality
        and {
            "n": quality.n,
            "figures": {figure.name: _figure_json(figure) for figure in quality.figures},
            "kinds": {kind: _figure_json(figure) for kind, figure in quality.kinds.items()},
            "changes": [
                {
                    "id": change.case.id,
                    "kind": change.case.kind,
                    "question": change.case.text,
                    "gold": list(change.case.gold),
                    "first_rank": change.first_rank,
                    "second_rank": change.second_rank,
                    "difference": change.difference,
                }
                for change in quality.changes
            ],
        },
        "agreement": {
            "overlap": agreement.overlap,
            "top_changed": rate_json(agreement.top_changed),
            "displacement": agreement.displacement,
            "same": agreement.same,
            "confidence": agreement.confidence and _figure_json(agreement.confidence),
            "moved": [
                {
                    "id": move.case.id,
                    "question": move.case.text,
                    "distance": move.distance,
                    "shared": move.shared,
                    "first": list(move.first),
                    "second": list(move.second),
                }
                for move in agreement.moved
            ],
        },
        "sides": {"first": _side_json(found.first), "second": _side_json(found.second)},
    }


def sentence(figure: Paired) -> str:
    """The comparison in plain words."""
    counted = f"{figure.wins} questions better, {figure.losses} worse"
    if figure.resolved:
        way = "better" if figure.difference > 0 else "worse"
        return f"B is {way} than A in {figure.name}: {figure.difference:+.3f} ({counted})."
    # What that many questions show is known of right or wrong, not of a place in an order.
    gain = smallest_visible_gain(figure.n) if figure.name == HIT else None
    visible = f"; {figure.n} questions usually show {gain:.0%} or more" if gain else ""
    return f"No difference shown in {figure.name} ({counted}{visible})."


def _figure(name: str, figure: Paired) -> tuple[str, ...]:
    return (
        name,
        f"{figure.first:.3f} {_interval(figure.first_interval)}".strip(),
        f"{figure.second:.3f} {_interval(figure.second_interval)}".strip(),
        f"{figure.difference:+.3f}",
        _interval(figure.interval, signed=True) or "one topic only",
        str(figure.wins),
        str(figure.losses),
        f"{figure.p:.3g}",
    )


def _interval(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    sign = "+" if signed else ""
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _side_rows(found: VersionComparison) -> Iterable[tuple[str, ...]]:
    first, second = found.first, found.second
    yield ("no hit at all", f"{first.empty}/{found.n}", f"{second.empty}/{found.n}")
    if first.abstained and second.abstained:
        yield ("confidence below the threshold", rate(first.abstained), rate(second.abstained))
    confidences = (first.median_confidence, second.median_confidence)
    yield ("median confidence", *("-" if value is None else f"{value:.3f}" for value in confidences))
    yield ("median ms: the gateway's stages", number(first.median_ms), number(second.median_ms))
    yield ("median ms: as seen", number(first.median_wall_ms), number(second.median_wall_ms))
    if first.degraded or second.degraded:
        yield ("degraded", counts(first.degraded), counts(second.degraded))
    if first.failures or second.failures:
        yield ("no reply, in no figure", counts(first.failures), counts(second.failures))


def _agreement(found: VersionComparison) -> Iterable[str]:
    agreement = found.agreement
    if agreement.overlap is not None:
        yield f"overlap: {agreement.overlap:.1%} of the documents"
        yield f"the same documents in the same order: {agreement.same}/{found.n}"
    if agreement.top_changed is not None:
        yield f"another first document: {rate(agreement.top_changed)}"
    if agreement.displacement is not None:
        yield f"a document that both have moves {agreement.displacement:.2f} places on average"
    if agreement.confidence is not None:
        shift = agreement.confidence
        interval = _interval(shift.interval, signed=True)
        yield f"confidence shifts by {shift.difference:+.3f} {interval}".rstrip()


def _listed(title: str, found: Sequence[T], line: Callable[[T], str], figure: str = "") -> str:
    if not found:
        return ""
    lines = [line(each) for each in found[:_SHOWN]]
    more = len(found) - len(lines)
    return bullets(
        f"{title}: {len(found)} questions{figure}",
        [*lines, *([f"{more} more: --json has all"] if more else [])],
    )


def _change(change: Change) -> str:
    ranks = f"gold at {change.first_rank or '-'} in A, at {change.second_rank or '-'} in B"
    return f"{change.difference:+.2f}, {ranks}: {change.case.id} {one_line(change.case.text)}"


def _move(move: Move) -> str:
    first, second = (documents[0] if documents else "-" for documents in (move.first, move.second))
    top = f"{first} first in A, {second} in B" if first != second else f"{first} first in both"
    share = f"{move.shared} of {max(len(move.first), len(move.second))} shared"
    return f"{move.distance:.2f}, {share}, {top}: {move.case.id} {one_line(move.case.text)}"


def _figure_json(figure: Paired) -> dict[str, Any]:
    plain = asdict(figure)
    for name in ("first_interval", "second_interval", "interval"):
        plain[name] = plain[name] and [plain[name]["low"], plain[name]["high"]]
    return {**plain, "resolved": figure.resolved}


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "knowledge": side.knowledge,
        "empty": side.empty,
        "median_confidence": side.median_confidence,
        "abstained": rate_json(side.abstained),
        "median_ms": side.median_ms,
        "median_wall_ms": side.median_wall_ms,
        "degraded": dict(side.degraded),
        "failures": dict(side.failures),
    }
