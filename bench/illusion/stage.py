"""Where a case is played: the real gateway and knowledge rail of `bench.faults.stack`, with one help centre in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from pydantic import SecretStr

from bench.faults.articles import Articles, remove
from bench.faults.seeds import HITS
from bench.faults.stack import Stack, World, running_stack
from bench.faults.suite import DEMO, answer_keys, is_right
from bench.illusion.bank import CORPUS, bank_questions
from bench.illusion.cases import Ask, Setting
from bench.illusion.commands import Commands
from bench.illusion.stand_ins import MODELS
from eval.cases import Case, load_cases
from eval.record import RunFolder
from eval.scoring import build_scoring
from eval.sets.questions import write_questions
from eval.settings import EvalSettings
from eval.summary import score_all
from retrieval.embedding import Embedder
from serving.versions import SCHEMAS
from serving.wording import load_wording
from tests.fakes.responder import Responder

#: What an index version has other than the first one.
INDEXES: Mapping[str, Mapping[str, Any]] = {
    "finely-cut": {"chunker": "structure-20"},
    "half-sized": {"chunker": "structure-100"},
    "vectors-alone": {"dense_weight": 1.0},
}
#: Questions that are tried to find sound ones; the holdout is for release decisions.
POOL = 170
_SPLITS = ("--split", "train", "--split", "dev")
_AT_ONCE = 4
_SOUND = "sound"


@dataclass(slots=True, kw_only=True)
class Stage:
    """A stack with what was put on it; everything is made when a case needs it first."""

    stack: Stack
    folder: Path
    #: Name of a world -> writes its articles and says where they are.
    articles: Mapping[str, Callable[[], Path]]
    #: The options of `eval run` that ask all there are.
    every: tuple[str, ...]
    #: How many questions are tried for sound ones.
    pool: int = POOL
    worlds: dict[str, World] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    chosen: dict[Ask, tuple[str, ...]] = field(default_factory=dict)
    #: Questions, arm and world -> the run that has asked them already.
    asked: dict[tuple[tuple[str, ...], str, str], str] = field(default_factory=dict)

    async def commands(self, world: str) -> Commands:
        """The commands with the keys of a world."""
        keys = (await self._world(world)).keys
        return Commands(
            folder=self.folder,
            settings=EvalSettings(
                gateway_url=self.stack.gateways[HITS],
                api_key=SecretStr(keys["customer"]),
                staff_api_key=SecretStr(keys["staff"]),
                concurrency=_AT_ONCE,
            ),
        )

    async def publish(self, world: str, articles: str) -> None:
        """Publish the articles of one world in another."""
        await self.stack.publish((await self._world(world)).name, self.articles[articles]())

    async def arm(self, name: str, setting: Setting, *, oracle: bool = False) -> str:
        """An arm as `--arm` takes it. The world must be there before an index version is built."""
        await self._world(setting.world)
        pin = f"knowledge:{await self._index(setting.index)},model:{await self._model(setting.model)}"
        return f"{name}={pin},{'context:gold' if oracle else 'kind:rag'}"

    async def questions(self, ask: Ask, limit: int) -> tuple[str, ...]:
        """The options of `eval run` that ask them."""
        if ask not in self.chosen:
            self.chosen[ask] = await self._choose(ask)
        return (*self.chosen[ask], "--limit", str(limit))

    async def _choose(self, ask: Ask) -> tuple[str, ...]:
        if ask is Ask.ANY:
            return self.every
        run = self.folder / "sound-questions"
        if not RunFolder(run).exists:
            commands = await self.commands(_SOUND)
            pool = await self.questions(Ask.ANY, self.pool)
            await commands.ask(run.name, pool, [await self.arm("live", Setting())])
        wanted = {case.id for case in _answered_right(RunFolder(run))}
        chosen = self.folder / f"questions-{ask}"
        _copy_questions(DEMO / "questions", chosen, wanted)
        return "--questions", str(chosen), "--split", "all"

    async def _world(self, name: str) -> World:
        if name not in self.worlds:
            self.worlds[name] = await self.stack.add_world(name, [self.articles[name]()])
        return self.worlds[name]

    async def _index(self, name: str) -> str:
        if name not in self.indexes:
            changes = INDEXES.get(name)
            self.indexes[name] = (
                await self.stack.add_index(name, **changes)
                if changes
                else (await self.stack.store.pointer()).stable
            )
        return self.indexes[name]

    async def _model(self, name: str) -> str:
        if name not in self.models:
            stand_in = MODELS[name]
            self.models[name] = await self.stack.add_version(
                stand_in.version(name), stand_in.answer(self.stack.responder)
            )
        return self.models[name]


@asynccontextmanager
async def demo_stage(
    database_url: str, folder: Path, embedder: Embedder, *, pool: int = POOL
) -> AsyncIterator[Stage]:
    """The demo's help centre; in the world `gaps` the articles of every fourth topic were never written."""
    whole = Articles.read(DEMO / "articles")
    cases = [case for case in load_cases(DEMO / "questions") if crc32(case.topic.encode()) % 4 == 0]

    def with_gaps() -> Path:
        return remove(whole, cases).write(folder / "articles-gaps")

    responder = Responder(answer_keys(DEMO / "questions", whole), load_wording())
    async with _open(database_url, folder, embedder, responder) as stack:
        yield Stage(
            stack=stack,
            folder=folder,
            articles={_SOUND: lambda: DEMO / "articles", "gaps": with_gaps},
            every=("--questions", str(DEMO / "questions"), *_SPLITS),
            pool=pool,
        )


@asynccontextmanager
async def bank_stage(database_url: str, folder: Path, embedder: Embedder) -> AsyncIterator[Stage]:
    """The bank's help centre."""
    questions = bank_questions()
    write_questions(folder / "bank", [each.question for each in questions])
    responder = Responder((each.key for each in questions), load_wording())
    async with _open(database_url, folder, embedder, responder) as stack:
        yield Stage(
            stack=stack,
            folder=folder,
            articles={_SOUND: lambda: CORPUS},
            every=("--questions", str(folder / "bank"), "--split", "all"),
        )


def _open(database_url: str, folder: Path, embedder: Embedder, responder: Responder) -> Any:
    return running_stack(database_url, folder, embedders=(embedder,), responder=responder, hits=(HITS,))


def _answered_right(run: RunFolder) -> Sequence[Case]:
    data = run.read()
    scores = score_all(data, build_scoring(schema=SCHEMAS / "support_answer.json"))
    return [case for case in data.cases if is_right(scores.get((case.id, "live"), {}))]


def _copy_questions(source: Path, target: Path, wanted: set[str]) -> None:
    """The files of a demo folder with some of their questions."""
    target.mkdir()
    for file in sorted(source.glob("*.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["id"] in wanted]
        if kept:
            (target / file.name).write_text("\n".join(kept) + "\n", encoding="utf-8")
