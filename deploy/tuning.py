"""Training rows of the demo: its questions, the passages that retrieval shows for them, the wanted JSON.

    python -m deploy.tuning --database-url URL --embedder DIR --tokenizer FILE --out rows.jsonl

Every row is packed exactly as the gateway packs a live question. Three kinds of row teach three behaviours:
`served` (what retrieval found), `moved` (the same in another order, so that the model reads instead of
citing the first) and `removed` (the answer taken out of the passages, so that it must say that it does not
know). A row whose facts are not in its passages gets the passage that holds them put in; no fact is ever
taught from memory.

The wanted answer is, unless `--answers written` says otherwise, the fewest sentences of the articles that
hold the facts, word for word: a model of 135M parameters learns to choose and copy from some hundred rows,
and invents when it is taught to rephrase from as few (docs/experiments.md).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from deploy.errors import DeployError
from eval.matching import missing_facts
from retrieval.documents import Access
from retrieval.embedding import OnnxEmbedder
from retrieval.hits import Hit, SearchRequest
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from serving.prompting import PROMPTS, Passage, PromptTemplate, fit, load_prompt
from serving.sentences import content_stems, sentences
from serving.wording import load_wording

QUESTIONS = Path(__file__).parent / "demo" / "questions"
#: Share of the answered questions that are also shown without their answer. Abstaining is one sentence that
#: is always the same, so a small model falls back on it as soon as it sees it often.
REMOVED_SHARE = 0.05
#: Share of the answered questions that are shown a second time, in another order.
MOVED_SHARE = 0.5
_NUMBERED = re.compile(r"^\d+\.\s+")
WANTED_FIELDS = ("answer", "citations", "intent", "escalate", "escalation_reason", "follow_up")


class Answers(StrEnum):
    """Where the wanted answers come from."""

    QUOTED = "quoted"
    WRITTEN = "written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """Sentences of passages that hold all facts of a question, and the passages' numbers."""

    text: str
    cited: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Passages as the prompt shows them, and the document each comes from."""

    passages: tuple[Passage, ...]
    documents: tuple[str, ...]


def read_questions(folder: Path, split: str) -> list[dict[str, Any]]:
    """The demo questions of one split, in file order."""
    rows = [
        json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    return [row for row in rows if row["split"] == split]


def quote(question: Mapping[str, Any], passages: Sequence[Passage]) -> Quoted | None:
    """The fewest sentences and table rows of `passages` that hold the question's facts, None if some are
    nowhere.

    Of sentences that hold as many facts, the one closest to the written answer is taken.
    """
    aim = set(content_stems(f"{question['text']} {question['answer']}"))
    units = [
        (passage.n, passage.text[span.start : span.end].lstrip("-*\u2022 ").strip())
        for passage in passages
        for span in sentences(passage.text)
    ]
    units = [(n, _NUMBERED.sub("", unit)) for n, unit in units if len(content_stems(unit)) > 1]
    taken: list[tuple[int, str]] = []
    open_facts = list(question["facts"])
    while open_facts and units:
        best = max(
            units,
            key=lambda unit: (
                -len(missing_facts(unit[1], open_facts)),
                len(aim & set(content_stems(unit[1]))),
                -len(unit[1]),
            ),
        )
        left = [fact for fact in open_facts if missing_facts(best[1], [fact])]
        if len(left) == len(open_facts):
            return None
        taken.append(best)
        open_facts = left
    if not taken:
        return None
    text = " ".join(unit if unit[-1] in ".!?" else f"{unit}." for _, unit in taken)
    return Quoted(text=text, cited=tuple(sorted({n for n, _ in taken})))


def _holds_any(facts: Sequence[Sequence[str]], text: str) -> bool:
    return len(missing_facts(text, facts)) < len(facts)


class RowBuilder:
    """Turns one question and its hits into training rows."""

    def __init__(
        self,
        template: PromptTemplate,
        count_tokens: Callable[[str], int],
        *,
        budget_tokens: int,
        seed: int,
        answers: Answers = Answers.QUOTED,
    ) -> None:
        self._answers = answers
        self._template = template
        self._count_tokens = count_tokens
        self._budget_tokens = budget_tokens
        self._seed = seed
        self._wording = load_wording()

    def rows(self, question: dict[str, Any], hits: Sequence[Hit]) -> list[dict[str, Any]]:
        """All rows of one question; the draws depend on the seed and its id alone."""
        draw = random.Random(f"{self._seed}:{question['id']}")
        gold = set(question["gold"])
        served = self._show(question, hits)
        if gold and not self._holds(question, served):
            served = self._show(question, self._with_gold(question, hits, gold, draw))
        if gold and not self._holds(question, served):
            return []
        rows = self._row(question, served, "served")
        front = list(hits[: len(served.passages)])
        if gold:
            front = [hit for document in served.documents for hit in hits if hit.document_id == document][:3]
        if len(front) > 1 and question["status"] != "abstained" and draw.random() < MOVED_SHARE:
            draw.shuffle(front)
            moved = self._show(question, front)
            if not gold or self._holds(question, moved):
                rows += self._row(question, moved, "moved")
        if gold and question["status"] == "answered" and question["facts"] and draw.random() < REMOVED_SHARE:
            others = [
                hit
                for hit in hits
                if hit.document_id not in gold and not _holds_any(question["facts"], hit.text)
            ]
            if others:
                rows += self._row(self._unanswerable(question), self._show(question, others), "removed")
        return rows

    def _show(self, question: dict[str, Any], hits: Sequence[Hit]) -> Shown:
        candidates = [
            Passage(
                n=n,
                title=hit.title,
                text=hit.text,
                start=hit.start,
                end=hit.end,
                effective_from=hit.effective_from.isoformat() if hit.effective_from else "",
            )
            for n, hit in enumerate(hits, 1)
        ]
        packed = fit(
            self._template,
            candidates,
            question["text"],
            prompt_budget_tokens=self._budget_tokens,
            count_tokens=self._count_tokens,
        )
        return Shown(passages=packed, documents=tuple(hits[passage.n - 1].document_id for passage in packed))

    def _holds(self, question: dict[str, Any], shown: Shown) -> bool:
        text = "\n".join(f"{passage.title}\n{passage.text}" for passage in shown.passages)
        return bool(set(shown.documents) & set(question["gold"])) and not missing_facts(
            text, question["facts"]
        )

    def _with_gold(
        self, question: dict[str, Any], hits: Sequence[Hit], gold: set[str], draw: random.Random
    ) -> list[Hit]:
        """The hits with gold chunks that hold a fact moved among the first three."""
        holding = [
            hit for hit in hits if hit.document_id in gold and _holds_any(question["facts"], hit.text)
        ][:2] or [hit for hit in hits if hit.document_id in gold][:1]
        rest = [hit for hit in hits if hit not in holding]
        front = [*holding, *rest[: 3 - len(holding)]]
        draw.shuffle(front)
        return [*front, *rest[3 - len(holding) :]]

    def _row(self, question: dict[str, Any], shown: Shown, kind: str) -> list[dict[str, Any]]:
        """The row, or none where the facts stand in no sentence."""
        wanted = {name: question[name] for name in WANTED_FIELDS if name != "citations"}
        if question["facts"] and self._answers is Answers.QUOTED:
            gold = [
                passage
                for passage, document in zip(shown.passages, shown.documents, strict=True)
                if document in question["gold"]
            ]
            quoted = quote(question, gold)
            if quoted is None:
                return []
            passed_on = f" {self._wording.passing_on}" if question["status"] == "escalated" else ""
            wanted |= {"answer": quoted.text + passed_on, "citations": list(quoted.cited), "follow_up": ""}
        else:
            wanted["citations"] = self._cited(question, shown)
        return [
            {
                "id": f"{question['id']}/{kind}",
                "question": question["text"],
                "passages": [asdict(passage) for passage in shown.passages],
                "wanted": {name: wanted[name] for name in WANTED_FIELDS},
            }
        ]

    @staticmethod
    def _cited(question: dict[str, Any], shown: Shown) -> list[int]:
        """The fewest gold passages that hold all facts: a citation that adds nothing teaches noise."""
        gold = {
            passage.n: f"{passage.title}\n{passage.text}"
            for passage, document in zip(shown.passages, shown.documents, strict=True)
            if document in question["gold"]
        }
        open_facts = list(question["facts"])
        cited: list[int] = []
        while open_facts and gold:
            best = min(gold, key=lambda n: len(missing_facts(gold[n], open_facts)))
            text = gold.pop(best)
            left = [fact for fact in open_facts if missing_facts(text, [fact])]
            if len(left) == len(open_facts):
                break
            cited.append(best)
            open_facts = left
        return sorted(cited) or list(gold)[:1]

    def _unanswerable(self, question: dict[str, Any]) -> dict[str, Any]:
        return question | {
            "gold": [], "facts": [], "answer": self._wording.not_in_help_centre, "escalate": True,
            "escalation_reason": "not_in_help_centre", "follow_up": "",
        }  # fmt: skip


async def build(arguments: argparse.Namespace) -> int:
    """Write the rows; returns how many."""
    from serving.prompting import token_counter

    builder = RowBuilder(
        load_prompt(PROMPTS / "support_short.yaml"),
        token_counter(arguments.tokenizer),
        budget_tokens=arguments.budget_tokens,
        seed=arguments.seed,
        answers=arguments.answers,
    )
    embedder = OnnxEmbedder(arguments.embedder)
    questions = read_questions(arguments.questions, arguments.split)
    written = 0
    async with AsyncConnectionPool(arguments.database_url, min_size=1, max_size=2, open=False) as pool:
        store = KnowledgeStore(pool)
        stable = (await store.pointer()).stable
        if stable is None:
            raise DeployError("database: nothing is ingested; run `twinrail ingest` first")
        retriever = Retriever(store=store, embedders={embedder.id: embedder})
        with arguments.out.open("w", encoding="utf-8") as out:
            for done, question in enumerate(questions, 1):
                principals = ("public", "staff") if question["asker"] == "staff" else ("public",)
                request = SearchRequest(
                    question=question["text"],
                    access=Access(tenant=arguments.tenant, principals=principals),
                    version=stable,
                    k=40,
                    timeout_s=30,
                )
                hits = (await retriever.search(request)).hits
                for row in builder.rows(question, hits):
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                    written += 1
                if done % 20 == 0 or done == len(questions):
                    print(f"{done}/{len(questions)} questions, {written} rows", file=sys.stderr, flush=True)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--embedder", type=Path, required=True, help="folder of the prepared MiniLM")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of the base model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=Path, default=QUESTIONS)
    parser.add_argument("--split", default="train")
    parser.add_argument("--tenant", default="demo")
    parser.add_argument(
        "--budget-tokens", type=int, default=560, help="whole prompt; smaller trains and answers faster"
    )
    parser.add_argument(
        "--answers", type=Answers, choices=list(Answers), default=Answers.QUOTED, help="wanted answers"
    )
    parser.add_argument("--seed", type=int, default=7)
    return 0 if asyncio.run(build(parser.parse_args(argv))) else 2


if __name__ == "__main__":
    raise SystemExit(main())
