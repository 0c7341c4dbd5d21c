"""Puts every fault in, asks, labels, and counts: the questions are those that are answered right without any."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench.faults.articles import WORLDS, Articles
from bench.faults.live import Complete, LiveResponder
from bench.faults.seeds import HITS, NO_FAULT, PLAIN, SOUND, STABLE, Seed
from bench.faults.stack import Stack, World, running_stack
from bench.faults.writing import FINISH_REASONS, WRITINGS, both, leak
from eval.arms import Arm, Pin
from eval.cases import Case, CaseSet, load_cases
from eval.labelling.asking import add_documents, add_reruns
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import RerunFile, Reruns
from eval.labelling.labels import LabelRecord
from eval.labelling.records import label_run
from eval.observations import Observation
from eval.record import RunData, RunFolder
from eval.run import measure, plan
from eval.scorers import Outcome, Score, Scoring
from eval.scoring import build_scoring
from eval.summary import score_all
from retrieval.embedding import Embedder
from serving.versions import SCHEMAS
from serving.wording import load_wording
from tests.fakes.digest_embedding import DigestEmbedder
from tests.fakes.responder import AnswerKey, Responder, Writing

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
#: The arm that every fault is seen in, and the one beside it whose model has none.
ARM, BESIDE = "faulty", "beside"
#: What a right answer scores, by metrics that know nothing of labels.
_RIGHT = {
    "answer_vital": 1,
    "format_valid": 1,
    "hallucination_draft": 0,
    "tone_kept": 1,
    "citations_valid": 1,
}
_SMALL_CHUNK_WORDS = 6
_CITED = re.compile(r'"citations": \[[\d, ]*\]')


Scores = Mapping[tuple[str, str], Mapping[str, Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A seed on one question, as it was answered."""

    seed: Seed
    case: Case
    seen: Observation
    scores: Mapping[str, Outcome]
    #: A fault may meet a question that it cannot harm, such as one whose answer stands elsewhere too.
    taken: bool


@dataclass(slots=True, kw_only=True)
class Suite:
    """A running stack, and what was seen on it."""

    stack: Stack
    folder: Path
    articles: Articles
    scoring: Scoring
    sound: World
    cases: Mapping[str, Case]
    concurrency: int
    #: By name, and where each seed was put in.
    made: dict[str, World] = field(default_factory=dict)
    worlds: dict[str, World] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    #: Without a fault, by case.
    baseline: dict[str, Observation] = field(default_factory=dict)
    #: World -> the questions of all seeds that are put into it.
    audience: dict[str, list[Case]] = field(default_factory=dict)

    async def passing(self, cases: Sequence[Case]) -> list[Case]:
        """Those that are answered right on the sound articles, by a model without a fault."""
        data = await self._ask(NO_FAULT, self.sound, cases)
        scores = score_all(data, self.scoring)
        self.baseline = {case_id: seen for (case_id, _), seen in data.observations.items()}
        return [case for case in data.cases if is_right(scores.get((case.id, ARM), {}))]

    def expect(self, seed: Seed, cases: Sequence[Case]) -> None:
        """Seeds of one world share it, so that all their questions must be known when it is made."""
        self.audience.setdefault(seed.world, []).extend(cases)

    async def put_in(self, seed: Seed, cases: Sequence[Case]) -> list[Fault]:
        """One seed on its questions."""
        world = await self._world(seed.world)
        self.worlds[seed.name] = world
        data = await self._ask(seed, world, cases)
        scores = score_all(data, self.scoring)
        return [
            Fault(
                seed=seed,
                case=case,
                seen=data.observations[case.id, ARM],
                scores=scores.get((case.id, ARM), {}),
                taken=self._taken(seed, case, data, scores),
            )
            for case in data.cases
        ]

    async def label(self, seed: Seed, *, rerun: bool = True) -> dict[str, LabelRecord]:
        """The labels of a seed's answers by case, as `twinrail eval label --rerun` gives them."""
        folder = self._run_folder(seed.name)
        data = folder.read()
        client = self.stack.client(self.worlds[seed.name], hits=seed.hits)
        await add_documents(folder, data, self.scoring, client, at_once=self.concurrency)
        if rerun:
            await add_reruns(folder, data, self.scoring, client, at_once=self.concurrency, out=io.StringIO())
        return self.relabel(seed)

    def relabel(self, seed: Seed) -> dict[str, LabelRecord]:
        """The same from what the run's folder holds, without a gateway."""
        folder = self._run_folder(seed.name)
        data = folder.read()
        records = label_run(
            data,
            self.scoring,
            CorpusFile(folder.path).read(),
            Reruns.of(data, RerunFile(folder.path).read()),
            at="",
        )
        return {record.case_id: record for record in records if record.arm == ARM}

    def _run_folder(self, name: str) -> RunFolder:
        return RunFolder(self.folder / "runs" / name)

    async def retire_indexes(self) -> None:
        """Later worlds need not be written into faulty index versions."""
        for version in self.indexes.values():
            await self.stack.retire(version)
        self.indexes.clear()

    def _taken(self, seed: Seed, case: Case, data: RunData, scores: Scores) -> bool:
        """Whether it did harm, as far as what knows nothing of labels can tell. A fault of the ground did if a model
        without a fault is no longer right; one of the model if it wrote something else than that model; of two
        faults each must."""
        if seed.is_grounded and (seed.contributing or not seed.is_written):
            beside = BESIDE if seed.is_written else ARM
            if is_right(scores.get((case.id, beside), {})):
                return False
        if not seed.is_written:
            return True
        without = data.observations.get((case.id, BESIDE)) or self.baseline[case.id]
        return _draft(data.observations[case.id, ARM]) != _draft(without)

    async def _ask(self, seed: Seed, world: World, cases: Sequence[Case]) -> RunData:
        client = self.stack.client(world, hits=seed.hits)
        stable = (await client.pointers())["knowledge"]["stable"]
        assert stable is not None
        version, _, live = stable.partition("@")
        if seed.index != STABLE:
            version = await self._index(seed.index)
        knowledge = f"{version}@{seed.snapshot or live}"
        arms = [Arm(name=ARM, pin=Pin(knowledge=knowledge, model=await self._model(seed.writing)))]
        if seed.contributing and seed.is_grounded:
            arms.append(Arm(name=BESIDE, pin=Pin(knowledge=knowledge, model=self.stack.plain)))
        chosen = CaseSet.of(seed.name, cases)
        record = plan(
            run_id=seed.name,
            gateway_url="",
            cases=chosen,
            selection={},
            requested=arms,
            arms=arms,
            stable_knowledge=knowledge,
        )
        folder = self._run_folder(seed.name)
        folder.create(record, chosen)
        return await measure(folder, client, concurrency=self.concurrency, out=io.StringIO())

    async def _world(self, name: str) -> World:
        """A tenant with the articles of a world, made when it is needed first."""
        if name == SOUND:
            return self.sound
        if name not in self.made:
            cases = list({case.id: case for case in self.audience[name]}.values())
            publishes = [
                edit(self.articles, cases).write(self.folder / "worlds" / f"{name}-{number}")
                for number, edit in enumerate(WORLDS[name], 1)
            ]
            self.made[name] = await self.stack.add_world(name, publishes)
        return self.made[name]

    async def _model(self, writing: str) -> str:
        if writing not in self.models:
            self.models[writing] = await self.stack.add_model(
                writing.replace("+", "-"),
                self._writing(writing),
                finish_reason=FINISH_REASONS.get(writing, "stop"),
            )
        return self.models[writing]

    def _writing(self, name: str) -> Writing:
        if name == "leak":
            return leak(self.articles.internal_sentences())
        first, plus, second = name.partition("+")
        return both(first, second) if plus else WRITINGS[first]

    async def _index(self, name: str) -> str:
        if name not in self.indexes:
            noise = self.stack.embedders[1]
            changes: dict[str, dict[str, Any]] = {
                "noise-vectors": {"embedder": noise.id, "dims": noise.dims, "dense_weight": 1.0},
                "small-chunks": {"chunker": f"structure-{_SMALL_CHUNK_WORDS}"},
                "words-alone": {"dense_weight": 0.0},
            }
            self.indexes[name] = await self.stack.add_index(name, **changes[name])
        return self.indexes[name]


@asynccontextmanager
async def open_suite(
    database_url: str,
    folder: Path,
    embedder: Embedder,
    *,
    documents: Sequence[str] = (),
    hits: Sequence[int] = (HITS, 1),
    concurrency: int = 4,
    complete: Complete | None = None,
    answer_timeout_s: float = 30.0,
) -> AsyncIterator[Suite]:
    """Start the stack and take in the demo's articles as they are, or only some `documents`. With `complete` a real
    model writes."""
    whole = Articles.read(DEMO / "articles")
    articles = whole.only(documents) if documents else whole
    responder = Responder(answer_keys(DEMO / "questions", whole), load_wording())
    async with running_stack(
        database_url,
        folder,
        embedders=(embedder, DigestEmbedder(name="noise", dims=32)),
        responder=LiveResponder(responder, complete) if complete else responder,
        hits=hits,
        answer_timeout_s=answer_timeout_s,
    ) as stack:
        sound = await stack.add_world(SOUND, [articles.write(folder / "worlds" / SOUND)])
        yield Suite(
            stack=stack,
            folder=folder,
            articles=articles,
            scoring=build_scoring(schema=SCHEMAS / "support_answer.json"),
            sound=sound,
            cases={case.id: case for case in load_cases(DEMO / "questions")},
            concurrency=concurrency,
            worlds={NO_FAULT.name: sound},
            models={PLAIN: stack.plain},
        )


def is_right(scores: Mapping[str, Outcome]) -> bool:
    """Whether every metric that applies is as it should be."""
    return bool(scores) and all(
        not isinstance(score := scores.get(name), Score) or score.value == right
        for name, right in _RIGHT.items()
    )


def _draft(seen: Observation) -> str | None:
    """What the model wrote. Numbers of its passages are left out: in another world the same passages come in
    another order."""
    return _CITED.sub("", seen.draft.text) if seen.draft else None


def answer_keys(questions: Path, articles: Articles) -> list[AnswerKey]:
    """The demo's questions with their wanted answers."""
    rows = [
        orjson.loads(line)
        for file in sorted(questions.glob("*.jsonl"))
        for line in file.read_bytes().splitlines()
        if line.strip()
    ]
    return [
        AnswerKey(
            question=row["text"],
            facts=tuple(tuple(fact) for fact in row["facts"] if fact[0] not in row.get("side_facts", ())),
            stale_values=tuple(row["stale_values"]),
            superseded=articles.superseded(row["gold"]),
            status=row["status"],
            answer=row["answer"],
            intent=row["intent"],
            escalate=row["escalate"],
            escalation_reason=row["escalation_reason"],
        )
        for row in rows
    ]
