"""Routing benchmark: tickets are split without repeats, and the table says what it says of each model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.model_routing import CHOSEN, PROMPTED, keep, table, with_earlier
from bench.routing.models import Routed, Scored, tfidf_svm, training_rows
from bench.routing.tickets import OUT_OF_SCOPE, Ticket, load_queues, load_tickets
from serving.prompting import load_prompt

SUBJECTS = ("visa", "giro", "cheque", "euro", "dollar", "savings", "joint", "student")
VERBS = ("where", "when", "why", "how", "who pays", "explain", "help with", "no news of")


def texts(intent: str) -> list[str]:
    return [f"{verb} {intent.lower()} {subject} {n}" for n, verb in enumerate(VERBS) for subject in SUBJECTS]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Some requests of every intent, each once more with another number."""
    files: dict[str, list[dict[str, str]]] = {name: [] for name in FILES.values()}
    for source, intent in load_queues():
        field = "category" if source == "bitext" else "intent"
        for n, text in enumerate([*texts(intent), *texts(intent)[:9]]):
            files[FILES[source]].append({"id": f"{source}-{intent}-{n}", "text": f"{text}{n}", field: intent})
    files["banking77_test"] = [
        {**row, "id": f"test-{row['id']}"}
        for row in files["banking77_train"]
        if int(row["id"].rsplit("-", 1)[1]) < 3
    ]
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path


FILES = {"banking77": "banking77_train", "bitext": "bitext_requests", "clinc": "clinc_finance_oos"}


def test_every_intent_has_one_of_twenty_queues() -> None:
    queues = load_queues()
    assert len(set(queues.values())) == 20
    assert sum(source == "banking77" for source, _ in queues) == 77
    assert queues["clinc", "oos"] == OUT_OF_SCOPE


def test_the_schema_the_prompt_and_the_mapping_name_the_same_queues() -> None:
    folder = Path(__file__).parents[3] / "bench/routing"
    queues = sorted(set(load_queues().values()))
    schema = json.loads((folder / "queue.json").read_text())
    assert sorted(schema["properties"]["queue"]["enum"]) == queues
    assert CHOSEN in PROMPTED
    for name in PROMPTED:
        prompt = load_prompt(folder / f"{name}.yaml")
        shown = prompt.system + "".join(shot.answer for shot in prompt.shots)
        assert all(f"- {queue}: " in shown or f'{{"queue":"{queue}"}}' in shown for queue in queues), name


def test_no_test_ticket_is_a_training_ticket_with_another_number(data: Path) -> None:
    tickets = load_tickets(data)

    def bare(ticket: Ticket) -> str:
        return ticket.text.rstrip("0123456789 ")

    assert len(tickets.train) == 2000
    assert len(tickets.test) > 100
    assert not {bare(ticket) for ticket in tickets.train} & {bare(ticket) for ticket in tickets.test}
    assert any(ticket.id.startswith("test-") for ticket in tickets.test)


def test_a_training_row_is_a_ticket_without_passages() -> None:
    (row,) = training_rows([Ticket("a", "my card is gone", "lost_or_stolen")])
    assert json.loads(row) == {
        "id": "a", "question": "my card is gone", "passages": [], "wanted": {"queue": "lost_or_stolen"}
    }  # fmt: skip


def test_the_classifier_learns_a_plain_difference() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is installed by who runs bench.model_routing")
    train = [Ticket(str(n), f"card {n}", "cards") for n in range(9)]
    train += [Ticket(f"f{n}", f"fees {n}", "fees") for n in range(9)]
    found = tfidf_svm(train, [Ticket("x", "a card", "cards"), Ticket("y", "fees?", "fees")])
    assert found.queues == ("cards", "fees")


def routed(*queues: str) -> Routed:
    return Routed(queues=queues, training_s=1, seconds_each=0.002)


def test_the_table_counts_out_of_scope_by_itself() -> None:
    test = [Ticket("a", "", "cards"), Ticket("b", "", OUT_OF_SCOPE), Ticket("c", "", OUT_OF_SCOPE)]
    rows = table(test, {"first": routed("cards", OUT_OF_SCOPE, "cards"), "second": routed(*["cards"] * 3)})
    first, second = rows
    assert (first["accuracy"], second["accuracy"]) == (2 / 3, 1 / 3)
    assert (first["out_of_scope_recall"], first["out_of_scope_precision"]) == (0.5, 1.0)
    assert (second["against"], second["gained"], second["lost"], second["p"]) == ("first", 0, 1, 1.0)


def test_a_model_that_was_not_run_keeps_its_row_and_its_run(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    old = [{"model": "tuned", "run": "old"}, {"model": "asked", "run": "old"}]
    keep(file, {"models": old, "prompts_on_training_tickets": 3})
    keep(file, {"models": with_earlier([{"model": "asked", "run": "new"}], file)})
    assert json.loads(file.read_text()) == {
        "models": [{"model": "asked", "run": "new"}, {"model": "tuned", "run": "old"}],
        "prompts_on_training_tickets": 3,
    }


def test_a_prior_is_divided_out() -> None:
    def scored(*shares: list[float]) -> Scored:
        scores = np.log(shares) - 7.0
        return Scored(queues=("cards", "fees"), scores=scores, seconds_each=1, prompt_tokens=1)

    asked, prior = scored([0.9, 0.1], [0.7, 0.3]), scored([0.9, 0.1], [0.7, 0.3]).prior()
    assert np.exp(prior) == pytest.approx([0.8, 0.2])
    assert asked.likeliest().queues == ("cards", "cards")
    assert asked.likeliest(prior).queues == ("cards", "fees")
