"""How long it takes to label answers from what a run's folder holds, and whether labelling again changes any.

    python -m bench.eval_labelling [--turns 400] [--rounds 5]

Answers to the demo's questions, made here: each question with its gold articles and one other in the prompt; of
every five, one is right, one states a number that no passage has, one abstains, one broke the schema and one is
right in the wrong tone. Timed: labels from the stored observations (all checks), and from the stored checks alone
(rules only). Beside them, on the same answers: the metrics of `twinrail eval score`. No gateway takes part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.machine import describe_machine
from eval.arms import Arm, Pin
from eval.cases import Case, load_cases
from eval.documents import DocumentHistory, PastVersion, Release
from eval.labelling.corpus import Corpus
from eval.labelling.counterfactuals import Reruns
from eval.labelling.records import label_run
from eval.labelling.rules import decide
from eval.observations import Citation, Draft, Evidence, Observation, Ranking
from eval.record import RunData, RunRecord
from eval.scoring import scoring_of
from eval.settings import EvalSettings
from eval.summary import score_all
from retrieval.documents import Document
from retrieval.sources import read_source
from serving.prompting import Passage

REPOSITORY = Path(__file__).parent.parent
DEMO = REPOSITORY / "deploy/demo"
KNOWLEDGE = "k-bench-00000001@1"
ARM = Arm(name="rag_tuned", pin=Pin(knowledge=KNOWLEDGE, model="m-bench-00000001"), stated="hybrid")
#: Characters of an article that a prompt of the demo holds, about.
PASSAGE = 1_500


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write bench/results/eval_labelling.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/eval_labelling.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    articles = {each.document.id: each.document for each in read_source(DEMO / "articles").documents}
    data = _run(list(_observations(articles, args.turns)), articles)
    corpus = Corpus(documents={each.id: _history(each) for each in articles.values()})
    scoring = scoring_of(EvalSettings())
    reruns = Reruns.of(data)
    first = label_run(data, scoring, corpus, reruns, at="then")
    again = label_run(data, scoring, corpus, reruns, before=first, at="now")
    from_checks = [decide(record.checks) for record in first]
    changed = {
        "labelled again": sum(one != two for one, two in zip(first, again, strict=True)),
        "from stored checks": sum(
            (record.outcome, record.primary, record.contributing) != tuple(decision)
            for record, decision in zip(first, from_checks, strict=True)
        ),
    }
    timed = {
        "labels, all checks": _times(lambda: label_run(data, scoring, corpus, reruns, at="now"), args.rounds),
        "labels, from stored checks": _times(
            lambda: [decide(record.checks) for record in first], args.rounds
        ),
        "metrics (twinrail eval score)": _times(lambda: score_all(data, scoring), args.rounds),
    }
    n = len(first)
    metrics = statistics.median(timed["metrics (twinrail eval score)"])
    print(
        f"{n} answers, {args.rounds} rounds\n{'':32} {'s per 100, median':>18} {'min':>7} {'beside metrics':>15}"
    )
    for name, seconds in timed.items():
        middle = statistics.median(seconds)
        print(f"{name:32} {middle / n * 100:18.3f} {min(seconds) / n * 100:7.3f} {middle / metrics:14.2f}x")
    labels = Counter(
        record.primary.label.value if record.primary else record.outcome.value for record in first
    )
    print(f"changed rows: {changed}\nlabels: {dict(labels)}")
    result = {
        "machine": machine,
        "turns": n,
        "rounds": args.rounds,
        "s_per_100_turns": {
            name: {"median": statistics.median(seconds) / n * 100, "min": min(seconds) / n * 100}
            for name, seconds in timed.items()
        },
        "changed_rows": changed,
        "labels": dict(labels),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _times(work: Callable[[], object], rounds: int) -> list[float]:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def _run(answers: Sequence[tuple[Case, Observation, Ranking]], articles: dict[str, Document]) -> RunData:
    record = RunRecord(
        id="bench",
        gateway_url="",
        question_set=str(DEMO / "questions"),
        question_set_sha256="",
        selection={},
        requested_arms=(ARM,),
        arms=(ARM,),
        knowledge=(KNOWLEDGE,),
    )
    return RunData(
        record=record,
        cases=tuple(case for case, _, _ in answers),
        observations={(case.id, ARM.name): seen for case, seen, _ in answers},
        rankings={(case.id, KNOWLEDGE): ranking for case, _, ranking in answers},
    )


def _observations(articles: dict[str, Document], turns: int) -> Iterator[tuple[Case, Observation, Ranking]]:
    wanted = {
        row["id"]: row["answer"]
        for file in sorted((DEMO / "questions").glob("*.jsonl"))
        for row in map(orjson.loads, file.read_bytes().splitlines())
    }
    order = list(articles.values())
    for place, case in enumerate(load_cases(DEMO / "questions")[:turns]):
        shown = [articles[document] for document in case.gold] + [order[place % len(order)]]
        packed = tuple(_evidence(each, n) for n, each in enumerate(shown, start=1))
        yield (
            case,
            _spoiled(case, wanted[case.id], packed, place % 5),
            Ranking(case_id=case.id, knowledge=KNOWLEDGE, hits=packed),
        )


def _spoiled(case: Case, answer: str, packed: tuple[Evidence, ...], fault: int) -> Observation:
    status, failure = case.status or "answered", ""
    if fault == 1:
        answer = f"{answer} That takes 77 working days."
    elif fault == 2:
        status = "abstained"
    elif fault == 3:
        status, failure = "fallback", "schema"
    elif fault == 4:
        answer = f"Unfortunately, {answer}"
    draft = {"answer": answer, "citations": [1], "intent": case.intent, "escalate": bool(case.escalate)}
    fields: dict[str, Any] = {"intent": case.intent, "escalate": bool(case.escalate)}
    quote = packed[0].passage.text[:60]
    return Observation(
        case_id=case.id,
        arm=ARM.name,
        turn_id=case.id,
        status=status,
        answer="" if failure else answer,
        fields=fields,
        citations=(Citation(n=1, document_id=packed[0].document_id, quote=quote, start=0, end=60),),
        retrieved=tuple(item.document_id for item in packed),
        packed=packed,
        draft=Draft(
            text=json.dumps(draft | {"escalation_reason": case.escalation_reason, "follow_up": ""})[
                : -bool(failure) or None
            ],
            failure=failure,
            finish_reason="stop",
        ),
        knowledge_version=KNOWLEDGE,
        model_version=ARM.pin.model or "",
        asked_at="2026-11-20T10:00:00+00:00",
    )


def _evidence(article: Document, n: int) -> Evidence:
    text = article.text[:PASSAGE]
    return Evidence(
        document_id=article.id,
        passage=Passage(n=n, title=article.title, text=text, start=0, end=len(text)),
    )


def _history(article: Document) -> DocumentHistory:
    return DocumentHistory(
        id=article.id,
        head=1,
        readers=("customer", "staff") if "public" in article.principals else ("staff",),
        versions=(
            PastVersion(
                version=1,
                title=article.title,
                text=article.text,
                effective_from=str(article.effective_from or ""),
                effective_to=str(article.effective_to or ""),
                releases=(Release(born=1, died=None),),
            ),
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main())
