"""A summary as text for a terminal, Markdown for people and JSON for programs, with the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.costing_report import costing_json, costing_rows, costing_title
from eval.judging.judged_report import TITLE, judged_json, judged_lines, judged_rows
from eval.metrics import FIVE, METRICS, Metric, headline
from eval.scorers import Score
from eval.stats import Rate
from eval.summary import ArmResult, Comparison, MetricResult, RankingResult, Summary

_NOT_MEASURED = "not measured"
_NOT_APPLICABLE = "not applicable"
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a header; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def text_report(summary: Summary) -> str:
    """For a terminal."""
    parts = [_question_line(summary), *(as_text(table) for table in _tables(summary))]
    parts.append(bullets("Arms against each other, same questions", _sentences(summary.comparisons)))
    parts.append(bullets("Judges", judged_lines(summary.data.judged)))
    parts.append(bullets("NOT ENOUGH EVIDENCE", summary.thin))
    return "\n\n".join(filter(None, parts)) + "\n"


def markdown_report(summary: Summary) -> str:
    """For a file: the tables, the comparisons with their counts, and failed questions to read."""
    record = summary.data.record
    parts = [f"# Evaluation {record.id}", _question_line(summary)]
    if summary.thin:
        parts.append("**Not enough evidence:** " + "; ".join(summary.thin) + ".")
    parts += [f"## {table.title}\n\n{as_markdown(table)}" for table in _tables(summary)]
    if lines := judged_lines(summary.data.judged):
        parts.append("\n".join(f"- {line}" for line in lines))
    if summary.comparisons:
        sentences = "\n".join(f"- {sentence}" for sentence in _sentences(summary.comparisons))
        table = as_markdown(_comparison_table(summary.comparisons))
        parts.append(f"## Arms against each other, same questions\n\n{table}\n\n{sentences}")
    parts += [f"## Failures to read: {arm.arm.name}\n\n{_examples(arm, summary)}" for arm in summary.arms]
    parts.append(_HOW_TO_READ)
    return "\n\n".join(parts) + "\n"


def json_report(summary: Summary) -> dict[str, Any]:
    """For programs. A metric without a score has `"n": 0` and no value."""
    record = summary.data.record
    return {
        "run": record.id,
        "gateway_url": record.gateway_url,
        "question_set": {
            "name": record.question_set,
            "sha256": record.question_set_sha256,
            "questions": summary.questions,
            "topics": summary.topics,
            "left_out": summary.left_out,
            "selection": dict(record.selection),
        },
        "enough_evidence": not summary.thin,
        "not_enough_because": list(summary.thin),
        "checker": summary.checker,
        "retrieval": [_ranking_json(result) for result in summary.rankings],
        "arms": {arm.arm.name: _arm_json(arm) for arm in summary.arms},
        "costs": costing_json(summary.costing),
        "comparisons": [_comparison_json(comparison) for comparison in summary.comparisons],
        "judged": judged_json(summary.data.judged),
        "repeats": summary.flips.repeats,
        "flips": {
            arm: {metric: rate_json(shown) for metric, shown in rates.items()}
            for arm, rates in summary.flips.rates.items()
        },
        "sessions": [dict(session) for session in record.sessions],
    }


def comparisons_text(comparisons: Sequence[Comparison]) -> str:
    """Two arms against each other, for a terminal."""
    sentences = bullets("", _sentences(comparisons)).strip()
    return f"{as_text(_comparison_table(comparisons))}\n\n{sentences}"


def comparisons_json(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [_comparison_json(comparison) for comparison in comparisons]


# ---- parts -------------------------------------------------------------------------------------


def _question_line(summary: Summary) -> str:
    record = summary.data.record
    left_out = ""
    if summary.left_out_staff:
        left_out += f" Not asked: {summary.left_out_staff} of staff (set EVAL_STAFF_API_KEY)."
    if waiting := summary.left_out - summary.left_out_staff:
        left_out += f" Not asked yet: {waiting} (resume with --run)."
    return (
        f"{summary.questions} questions on {summary.topics} topics from {record.question_set} "
        f"(sha256 {record.question_set_sha256[:12]}), gateway {record.gateway_url}.{left_out} "
        f"Grounding check {summary.checker}."
    )


def _tables(summary: Summary) -> Iterable[Table]:
    arms = summary.arms
    header = ("", *(arm.arm.name for arm in arms))
    yield Table(
        title="Five metrics, k/n and 95 % interval",
        header=header,
        rows=tuple(
            (f"{group}: {headline(group).title}", *(_cell(arm.result(headline(group))) for arm in arms))
            for group in FIVE
        ),
    )
    yield Table(
        title="What stands behind them",
        header=header,
        rows=tuple(
            (metric.title, *(_cell(arm.result(metric)) for arm in arms))
            for metric in _other_metrics(arms)
            if any(arm.result(metric).rate for arm in arms)
        ),
    )
    if summary.rankings:
        yield Table(
            title="Retrieval by knowledge version, whatever model answers",
            header=("", "questions", "nDCG@10", "hit@1", "hit@10"),
            rows=tuple(
                (
                    f"{result.knowledge} {result.kind}".strip(),
                    str(result.hit_at_1.n),
                    f"{result.ndcg_at_10:.3f}",
                    rate(result.hit_at_1),
                    rate(result.hit_at_10),
                )
                for result in summary.rankings
            ),
        )
    yield Table(title="Answers, time and tokens", header=header, rows=tuple(_cost_rows(arms)))
    yield Table(
        title=costing_title(summary.costing), header=header, rows=tuple(costing_rows(summary.costing))
    )
    if summary.flips.rates:
        yield Table(
            title=f"Flips: questions whose score changed when asked {summary.flips.repeats} times",
            header=header,
            rows=tuple(_flip_rows(summary)),
        )
    if judged := summary.data.judged:
        rows = judged_rows(judged, [arm.arm.name for arm in arms])
        yield Table(title=TITLE, header=header, rows=rows)


def _flip_rows(summary: Summary) -> Iterable[tuple[str, ...]]:
    """Metrics that flipped in any arm, and the headlines whether they did or not."""
    leading = {headline(group).name for group in FIVE}
    for metric in METRICS:
        rates = [summary.flips.rate(arm.arm.name, metric.name) for arm in summary.arms]
        if any(shown and (shown.k or metric.name in leading) for shown in rates):
            yield (metric.title, *(rate(shown) if shown else _NOT_MEASURED for shown in rates))


def _other_metrics(arms: Sequence[ArmResult]) -> list[Metric]:
    leading = {headline(group).name for group in FIVE}
    return [result.metric for result in arms[0].metrics if result.metric.name not in leading] if arms else []


def _cost_rows(arms: Sequence[ArmResult]) -> Iterable[tuple[str, ...]]:
    yield ("answered / asked", *(f"{arm.asked - sum(arm.failed.values())} / {arm.asked}" for arm in arms))
    yield ("statuses", *(counts(arm.statuses) for arm in arms))
    yield ("versions on the stamps", *(counts(arm.versions) for arm in arms))
    yield ("drafts repaired", *(str(arm.repaired) for arm in arms))
    if any(arm.degraded for arm in arms):
        yield ("degraded", *(counts(arm.degraded) for arm in arms))
    if any(arm.failed for arm in arms):
        yield ("errors", *(counts(arm.failed) for arm in arms))
    for stage in dict.fromkeys(stage for arm in arms for stage in arm.median_ms):
        yield (f"median ms: {stage}", *(number(arm.median_ms.get(stage)) for arm in arms))
    yield ("median prompt tokens", *(number(arm.median_prompt_tokens) for arm in arms))
    yield ("median completion tokens", *(number(arm.median_completion_tokens) for arm in arms))


def _comparison_table(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        title="Same questions, two arms",
        header=("arms", "metric", "only first", "only second", "exact p", "difference", "95 % by topic"),
        rows=tuple(
            (
                f"{comparison.first}, {comparison.second}",
                comparison.metric.title,
                str(comparison.test.only_first),
                str(comparison.test.only_second),
                f"{comparison.test.p:.3g}",
                f"{comparison.difference * 100:+.1f}",
                f"{comparison.interval.low * 100:+.1f} to {comparison.interval.high * 100:+.1f}"
                if comparison.interval
                else "one topic only",
            )
            for comparison in comparisons
        ),
    )


def _sentences(comparisons: Sequence[Comparison]) -> list[str]:
    return [comparison.sentence() for comparison in comparisons]


def _examples(arm: ArmResult, summary: Summary) -> str:
    """A few questions per headline metric, with the reason, so that somebody reads before deciding."""
    texts = {case.id: case.text for case in summary.data.cases}
    lines = []
    for group in FIVE:
        metric = headline(group)
        bad = [
            (case_id, outcome)
            for (case_id, name), outcomes in sorted(summary.outcomes.items())
            if name == arm.arm.name
            and isinstance(outcome := outcomes[metric.name], Score)
            and (outcome.value > 0.5) != metric.higher_is_better
        ]
        lines += [
            f"- {group}: `{case_id}` {one_line(texts[case_id])}: {one_line(outcome.detail)}"
            for case_id, outcome in bad[:_EXAMPLES]
        ]
    return "\n".join(lines) or "None."


_HOW_TO_READ = """## How to read this

Each number is k of n with a Wilson interval. Questions to which a metric does not apply, and scores that are
missing, are not in n. Differences are paired: an arm is called better only if McNemar's exact test over
questions and a bootstrap over topics both say so.

`would_be_corrected (proxy)` is not a reviewer: it counts answers that fail the answer key or the house tone.
Hallucination is the model rail's simple grounding check, held against the passages in the prompt. An arm
without retrieval is held against the ten best hits of the same question's search, which forgives what the
model happens to know. docs/evaluation.md says more."""


# ---- cells -------------------------------------------------------------------------------------


def _cell(result: MetricResult) -> str:
    if result.rate is not None:
        missing = sum(result.failures.values())
        return rate(result.rate) + (f" ({missing} missing)" if missing else "")
    return _NOT_MEASURED if result.failures else _NOT_APPLICABLE


def rate(shown: Rate) -> str:
    interval = shown.interval
    return f"{shown.k}/{shown.n} {shown.value:.0%} [{interval.low * 100:.0f}-{interval.high * 100:.0f}]"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{one_line(name)} {count}" for name, count in sorted(counted.items())) or "-"


def one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 160 else flat[:157] + "..."


def as_text(table: Table) -> str:
    rows = [table.header, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([table.title, *lines])


def as_markdown(table: Table) -> str:
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def bullets(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"- {line}" for line in lines)]) if lines else ""


# ---- json --------------------------------------------------------------------------------------


def rate_json(shown: Rate | None) -> dict[str, Any]:
    if shown is None:
        return {"k": 0, "n": 0}
    return {
        "k": shown.k,
        "n": shown.n,
        "value": shown.value,
        "low": shown.interval.low,
        "high": shown.interval.high,
    }


def _ranking_json(result: RankingResult) -> dict[str, Any]:
    return {
        "knowledge": result.knowledge,
        "kind": result.kind or "all",
        "ndcg_at_10": result.ndcg_at_10,
        "hit_at_1": rate_json(result.hit_at_1),
        "hit_at_10": rate_json(result.hit_at_10),
        "failures": result.failures,
    }


def _arm_json(arm: ArmResult) -> dict[str, Any]:
    return {
        "pin": arm.arm.pin.as_body(),
        "asked": arm.asked,
        "failed": dict(arm.failed),
        "statuses": dict(arm.statuses),
        "versions": dict(arm.versions),
        "degraded": dict(arm.degraded),
        "repaired": arm.repaired,
        "median_ms": dict(arm.median_ms),
        "median_prompt_tokens": arm.median_prompt_tokens,
        "median_completion_tokens": arm.median_completion_tokens,
        "metrics": {
            result.metric.name: {
                **rate_json(result.rate),
                "title": result.metric.title,
                "group": result.metric.group.value,
                "higher_is_better": result.metric.higher_is_better,
                "not_applicable": result.not_applicable,
                "failures": dict(result.failures),
            }
            for result in arm.metrics
        },
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "metric": comparison.metric.name,
        "first": comparison.first,
        "second": comparison.second,
        "only_first": comparison.test.only_first,
        "only_second": comparison.test.only_second,
        "p": comparison.test.p,
        "difference": comparison.difference,
        "interval": [comparison.interval.low, comparison.interval.high] if comparison.interval else None,
        "clusters": comparison.clusters,
        "resolved": comparison.resolved,
        "sentence": comparison.sentence(),
    }
