r"""Routing tickets to twenty queues: two plain classifiers, a tuned model of 135M parameters, and the same model asked.

    python -m bench.model_routing [--data ../shared/data/support_intents]
    python -m bench.model_routing --base DIR                                  # the untuned model too, by its prompts
    python -m bench.model_routing --base DIR --adapter RUN                    # the tuned one too
    python -m bench.model_routing --base DIR --choose 100                     # the prompts on training tickets only

The adapter is made of the same tickets (the run is a result; nothing of it is shipped):

    python -m bench.model_routing --rows tickets.jsonl
    twinrail tune dataset DATASET tickets.jsonl --recipe bench/routing/recipe.yaml --negatives none --no-redact \
        --shares valid=0.02,test=0.01
    twinrail tune train bench/routing/recipe.yaml DATASET --out RUN

Of 2,000 tickets `tune dataset` leaves near duplicates and contradictions out; with --dataset DATASET the classifiers
learn from those that are left, too. A language model is given each ticket with every label and takes the likeliest, so
none can fail by writing no label at all. Untuned it is asked with every queue explained and three worked examples, and
with the better of two other prompts by --choose. Each prompt counts as it is, and with what it likes by itself divided
out, which is what it makes of empty tickets, or of 100 training tickets. Differences are paired: exact McNemar against
the better classifier. A model that is not run keeps its row of the result file; each row says which run it is of.
OMP_NUM_THREADS=1 where others measure: one thread takes about a second for a ticket and prompt. Needs scikit-learn,
which is no part of the environment: `.venv/bin/python -m pip install scikit-learn==1.9.1`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from bench.routing.models import (
    CONTENT_FREE,
    LabelScorer,
    Routed,
    embedded_regression,
    tfidf_svm,
    training_rows,
)
from bench.routing.tickets import OUT_OF_SCOPE, Ticket, load_queues, load_tickets
from eval.stats import exact_p, wilson
from retrieval.minilm import prepare_minilm
from serving.prompting import load_prompt

REPOSITORY = Path(__file__).parent.parent
PROMPTS = Path(__file__).parent / "routing"
RESULT = Path(__file__).parent / "results" / "model_routing.json"
#: The strong prompt, two other tries, and which of those was right more often on training tickets.
PROMPTED = ("queue_strong", "queue_examples", "queue_words")
CHOSEN = "queue_words"
#: So many training tickets, the last ones, say without their queues what a prompt likes of itself.
PRIOR_TICKETS = 100


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
        "--choose",
        type=int,
        metavar="N",
        help="ask the untuned model N training tickets with every prompt, and stop",
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    machine = describe_machine()
    tickets = load_tickets(args.data)
    queues = list(dict.fromkeys(load_queues().values()))
    if args.rows:
        args.rows.write_text("\n".join(training_rows(tickets.train)) + "\n", encoding="utf-8")
        return 0
    others = tickets.train[-PRIOR_TICKETS:]
    if args.choose:
        some = tickets.train[: args.choose]
        shares = {
            name: sum(queue == ticket.queue for queue, ticket in zip(result.queues, some, strict=True))
            / len(some)
            for prompt in PROMPTED
            for name, result in ask(args.base, prompt, queues, some, others).items()
        }
        print("\n".join(f"{name:28} {share:.3f}" for name, share in shares.items()))
        keep(
            args.out,
            {"prompts_on_training_tickets": {"machine": machine, "tickets": len(some), "right": shares}},
        )
        return 0

    train = tickets.train if args.dataset is None else kept(tickets.train, args.dataset)
    prepare_minilm(args.home / "minilm")
    routed = {
        "TF-IDF, linear SVM": tfidf_svm(train, tickets.test),
        "MiniLM, logistic regression": embedded_regression(args.home / "minilm")(train, tickets.test),
    }
    run = {name: machine[name] for name in ("at", "git", "load_1m")}
    run |= {"train": len(train), "test": len(tickets.test)}

    def write() -> None:
        rows = [{**row, "run": run} for row in table(tickets.test, routed)]
        keep(args.out, {"machine": machine, "models": with_earlier(rows, args.out)})

    write()
    if args.base and args.adapter:
        prompt = load_prompt(PROMPTS / "queue_tuned.yaml")
        tuned = LabelScorer(args.base, prompt, queues, adapter=args.adapter)
        routed["tuned, 135M"] = tuned.score([ticket.text for ticket in tickets.test]).likeliest()
        write()
    if args.base:
        for prompt_name in (PROMPTED[0], CHOSEN):
            routed |= ask(args.base, prompt_name, queues, tickets.test, others)
            write()
    show(json.loads(args.out.read_text())["models"])
    return 0


def ask(
    base: Path, prompt: str, queues: Sequence[str], tickets: Sequence[Ticket], others: Sequence[Ticket]
) -> dict[str, Routed]:
    """The untuned model with a prompt: as it is, and with either prior for the labels divided out."""
    scorer = LabelScorer(base, load_prompt(PROMPTS / f"{prompt}.yaml"), queues)
    scored = scorer.score([ticket.text for ticket in tickets])
    empty = scorer.score(CONTENT_FREE).prior()
    usual = scorer.score([ticket.text for ticket in others]).prior()
    return {
        f"base, {prompt}": scored.likeliest(),
        f"base, {prompt}, prior of empty tickets": scored.likeliest(empty),
        f"base, {prompt}, prior of other tickets": scored.likeliest(usual),
    }


def keep(path: Path, result: dict[str, Any]) -> None:
    """Write what there is so far; what it says nothing of stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(earlier | result, indent=1) + "\n", encoding="utf-8")


def with_earlier(rows: Sequence[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """These rows, and those of the file of models that were not run."""
    earlier = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else []
    run = {row["model"] for row in rows}
    return [*rows, *(row for row in earlier if row["model"] not in run)]


def kept(tickets: Sequence[Ticket], dataset: Path) -> list[Ticket]:
    """The tickets that are training rows of a dataset."""
    rows = (dataset / "train.jsonl").read_text(encoding="utf-8").splitlines()
    ids = {json.loads(row)["id"] for row in rows}
    return [ticket for ticket in tickets if ticket.id in ids]


def table(test: Sequence[Ticket], routed: dict[str, Routed]) -> list[dict[str, Any]]:
    """One row a model, beside the better of the two classifiers."""
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
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print them."""
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['model']:32} {row['accuracy']:.3f} [{low:.3f}, {high:.3f}]  in scope {row['in_scope_accuracy']:.3f}"
            f"  out of scope: recall {row['out_of_scope_recall']:.2f}, precision {row['out_of_scope_precision']:.2f}"
            f"  {row['ms_a_ticket']:.1f} ms  beside {row['against']}: +{row['gained']} -{row['lost']}, p {row['p']:.3g}"
            f"  ({row['run']['at'][:10]}, {row['run']['git']})"
        )


if __name__ == "__main__":
    raise SystemExit(main())
