r"""Routing tickets to twenty queues: two plain classifiers, a tuned model of 135M parameters, and the same model asked.

    python -m bench.model_routing [--data ../shared/data/support_intents]
    python -m bench.model_routing --base DIR --adapter RUN --dataset DATASET          # the language models too

The adapter is made of the same tickets (the run is a result; nothing of it is shipped):

    python -m bench.model_routing --rows tickets.jsonl
    twinrail tune dataset DATASET tickets.jsonl --recipe bench/routing/recipe.yaml --negatives none --no-redact \
        --shares valid=0.02,test=0.01
    twinrail tune train bench/routing/recipe.yaml DATASET --out RUN

Of 2,000 tickets `tune dataset` leaves near duplicates and contradictions out; with --dataset the classifiers learn from
those that are left, too. The untuned model gets every queue explained and three worked examples instead. A language
model is given each ticket with every label and takes the likeliest, so none can fail by writing no label at all.
Differences are paired: exact McNemar against the better classifier. Needs scikit-learn, which is no part of the
environment: `.venv/bin/python -m pip install scikit-learn==1.9.1`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from bench.routing.models import LabelScorer, Routed, embedded_regression, tfidf_svm, training_rows
from bench.routing.tickets import OUT_OF_SCOPE, Ticket, load_queues, load_tickets
from eval.stats import exact_p, wilson
from retrieval.minilm import prepare_minilm
from serving.prompting import load_prompt

REPOSITORY = Path(__file__).parent.parent
PROMPTS = Path(__file__).parent / "routing"
RESULT = Path(__file__).parent / "results" / "model_routing.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write bench/results/model_routing.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/support_intents")
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench")
    parser.add_argument("--rows", type=Path, help="write the training rows there and stop")
    parser.add_argument("--base", type=Path, help="folder of the base model")
    parser.add_argument("--adapter", type=Path, help="folder of a run of `twinrail tune train` on those rows")
    parser.add_argument(
        "--dataset", type=Path, help="folder of `twinrail tune dataset`: train on its rows only"
    )
    parser.add_argument(
        "--prompted", type=int, default=100, help="test tickets that the untuned model is asked"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    machine = describe_machine()
    tickets = load_tickets(args.data)
    if args.rows:
        args.rows.write_text("\n".join(training_rows(tickets.train)) + "\n", encoding="utf-8")
        return 0
    train = tickets.train if args.dataset is None else kept(tickets.train, args.dataset)
    prepare_minilm(args.home / "minilm")
    routed = {
        "TF-IDF, linear SVM": tfidf_svm(train, tickets.test),
        "MiniLM, logistic regression": embedded_regression(args.home / "minilm")(train, tickets.test),
    }
    queues = list(dict.fromkeys(load_queues().values()))
    if args.base and args.adapter:
        tuned = LabelScorer(
            args.base, load_prompt(PROMPTS / "queue_tuned.yaml"), queues, adapter=args.adapter
        )
        routed["tuned, 135M"] = tuned.choose(tickets.test)
    rows = table(tickets.test, routed)
    result = {"machine": machine, "train": len(train), "test": len(tickets.test), "models": rows}
    keep(args.out, result)
    if args.base:
        sample = list(range(0, len(tickets.test), max(1, len(tickets.test) // args.prompted)))
        some = [tickets.test[n] for n in sample]
        beside = {
            name: replace(result, queues=tuple(result.queues[n] for n in sample))
            for name, result in routed.items()
        }
        strong = LabelScorer(args.base, load_prompt(PROMPTS / "queue_strong.yaml"), queues)
        print(f"of these, {len(some)} tickets that the untuned model was asked too:")
        prompted = table(some, beside | {"base, strong prompt": strong.choose(some)})
        keep(args.out, {**result, "prompted": prompted})
    return 0


def keep(path: Path, result: dict[str, Any]) -> None:
    """Write what there is so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def kept(tickets: Sequence[Ticket], dataset: Path) -> list[Ticket]:
    """The tickets that are training rows of a dataset."""
    rows = (dataset / "train.jsonl").read_text(encoding="utf-8").splitlines()
    ids = {json.loads(row)["id"] for row in rows}
    return [ticket for ticket in tickets if ticket.id in ids]


def table(test: Sequence[Ticket], routed: dict[str, Routed]) -> list[dict[str, Any]]:
    """One row a model, beside the better of the two classifiers; printed and returned."""
    right = {
        name: [queue == ticket.queue for queue, ticket in zip(result.queues, test, strict=True)]
        for name, result in routed.items()
    }
    best = max(list(routed)[:2], key=lambda name: sum(right[name]))
    rows = []
    for name, result in routed.items():
        out = [ticket.queue == OUT_OF_SCOPE for ticket in test]
        said_out = [queue == OUT_OF_SCOPE for queue in result.queues]
        caught = sum(is_out and said for is_out, said in zip(out, said_out, strict=True))
        inside = sum(ok and not is_out for ok, is_out in zip(right[name], out, strict=True))
        gained = sum(a and not b for a, b in zip(right[name], right[best], strict=True))
        lost = sum(b and not a for a, b in zip(right[name], right[best], strict=True))
        accuracy = wilson(sum(right[name]), len(test))
        rows.append(
            {
                "model": name,
                "accuracy": sum(right[name]) / len(test),
                "interval": [accuracy.low, accuracy.high],
                "in_scope_accuracy": inside / max(1, len(test) - sum(out)),
                "out_of_scope_recall": caught / max(1, sum(out)),
                "out_of_scope_precision": caught / max(1, sum(said_out)),
                "against": best,
                "gained": gained,
                "lost": lost,
                "p": exact_p(gained, lost),
                "training_s": round(result.training_s, 2),
                "ms_a_ticket": round(result.seconds_each * 1000, 2),
                "prompt_tokens": round(result.prompt_tokens),
            }
        )
        row = rows[-1]
        print(
            f"{name:28} {row['accuracy']:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]"
            f"  in scope {row['in_scope_accuracy']:.3f}"
            f"  out of scope: recall {row['out_of_scope_recall']:.2f}, precision {row['out_of_scope_precision']:.2f}"
            f"  {row['ms_a_ticket']:.1f} ms  x{row['accuracy'] / (sum(right[best]) / len(test)):.2f} of {best}"
            f" (+{gained} -{lost}, p {row['p']:.3g})"
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
