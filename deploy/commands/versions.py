"""`knowledge versions`, `build`, `retire`: straight to the database, like `ingest`; no gateway need run."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.commands.context import CommandLine, Context
from deploy.database import database, pool
from deploy.errors import UsageError
from deploy.output import table
from deploy.settings import load
from retrieval.chunking import NO_CHUNKERS
from retrieval.confidence import Calibration
from retrieval.pointing import require_retirable
from retrieval.settings import RetrievalSettings
from retrieval.versions import RERANK_WEIGHT, KnowledgeVersion, VersionFacts, VersionState

if TYPE_CHECKING:
    from retrieval.building import BuildProgress
    from retrieval.store import KnowledgeStore

MIB = 1024 * 1024
#: What a gateway rewrites with: by the last turn's words, or by its chat model.
REWRITERS = ("last-turns-1", "model-1")
#: Seconds between two lines of progress.
SAY_EVERY_S = 5.0
#: Options of `build` that say what is to differ from the version it starts from.
PARTS = ("embedder", "chunker", "dense_weight", "reranker", "rerank_weight", "rewriter", "abstain_below")


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    commands.command(
        "versions",
        _versions,
        summary="List the index versions: what they are, what part they play, how much they hold.",
        example="twinrail knowledge versions",
    )

    build = commands.command(
        "build",
        _build,
        summary="Build an index version beside the live one from stored text, or go on with one.",
        example="twinrail knowledge build --name smaller --chunker structure-120",
    )
    build.add_argument("version", nargs="?", help="a version to go on with, or to build again")
    build.add_argument("--name", help="name of a new version; what is not given is as in --from")
    build.add_argument("--from", dest="base", metavar="VERSION", help="default: the stable version")
    build.add_argument("--embedder", help="id of an embedder that the settings name")
    build.add_argument("--chunker", help="structure-<words> or whole-1")
    build.add_argument("--dense-weight", type=float, help="share of the dense leg, 0 to 1")
    build.add_argument("--reranker", help="id of a reranker at hand, '' for none")
    build.add_argument(
        "--rerank-weight", type=float, help=f"share of the reranker (default: {RERANK_WEIGHT:g}, as measured)"
    )
    build.add_argument("--rewriter", help=f"{' or '.join(REWRITERS)}, '' for none")
    build.add_argument("--calibration", type=Path, help="JSON file with `intercept` and `weights`")
    build.add_argument("--abstain-below", type=float, help="confidence under which nothing is answered")
    build.add_argument(
        "--since", type=int, help="first snapshot that it shows (default: where an undo of a publish leads)"
    )
    build.add_argument("--dry-run", action="store_true", help="say what would be built, and build nothing")

    retire = commands.command(
        "retire",
        _retire,
        summary="Give up an index version that no traffic can reach, and free what it holds.",
        example="twinrail knowledge retire k-smaller-1a2b3c4d",
        exit_codes="0 retired, 1 traffic can reach it, now or by an undo",
    )
    retire.add_argument("version", help="a version id, as `twinrail knowledge versions` lists them")
    retire.add_argument("--dry-run", action="store_true", help="say what would be freed, and free nothing")


@asynccontextmanager
async def _store(context: Context) -> AsyncIterator[KnowledgeStore]:
    from retrieval.store import KnowledgeStore  # weighs too much for every other command

    async with database(context.settings, context.home) as url, pool(url) as connections:
        store = KnowledgeStore(connections)
        await store.check()
        yield store


async def _versions(args: argparse.Namespace, context: Context) -> int:
    async with _store(context) as store:
        found = await store.facts()
    header = (
        *("version", "state", "role", "embedder", "chunker", "weight", "reranker"),
        *("chunks", "earliest", "built", "MiB"),
    )
    rows = [_row(facts) for facts in found]
    context.out.result({"versions": [described(facts) for facts in found]}, table(header, rows))
    return 0


def described(facts: VersionFacts) -> dict[str, Any]:
    """A version and its facts as JSON."""
    version = facts.version
    return {
        **version.row(),
        "calibration": version.calibration.definition(),
        "roles": list(facts.roles),
        "size_bytes": facts.size_bytes,
        "progress": facts.progress,
        "tenants": {
            name: {"chunks": each.chunks, "earliest_snapshot": each.earliest}
            for name, each in facts.tenants.items()
        },
    }


def _row(facts: VersionFacts) -> tuple[str, ...]:
    version = facts.version
    retired = version.state is VersionState.RETIRED
    chunks = (f"{name}:{each.chunks}" for name, each in facts.tenants.items())
    earliest = (f"{name}:{each.earliest}" for name, each in facts.tenants.items() if each.earliest)
    progress = facts.progress
    return (
        version.id,
        str(version.state),
        "+".join(facts.roles) or "-",
        version.embedder,
        version.chunker,
        f"{version.dense_weight:g}",
        version.reranker or "-",
        "-" if retired else ",".join(chunks) or "0",
        "-" if retired else ",".join(earliest) or "all",
        "-" if progress is None else f"{progress:.0%}",
        f"{facts.size_bytes / MIB:.1f}",
    )


async def _build(args: argparse.Namespace, context: Context) -> int:
    from deploy.knowledge import embedders, rerankers
    from retrieval.building import build, require_parts

    if (args.version is None) == (args.name is None):
        raise UsageError("--name: give a name for a new version, or the id of one to go on with")
    settings = load(RetrievalSettings)
    async with _store(context) as store, embedders(settings, context.models.embedder) as at_hand:
        version = await _wanted(args, store, {each.id: each.dims for each in at_hand.values()})
        require_parts(version, at_hand, NO_CHUNKERS)
        async with rerankers(settings) as orders:
            if version.reranker and version.reranker not in orders:
                raise UsageError(
                    f"--reranker: {version.reranker} is not at hand; at hand: {', '.join(orders) or 'none'}; "
                    "name its folder in RETRIEVAL_RERANKER_DIR or its service in RETRIEVAL_RERANK_URL"
                )
        if version.rewriter not in ("", *REWRITERS):
            raise UsageError(
                f"--rewriter: there is no rewriter {version.rewriter}; choose {' or '.join(REWRITERS)}, "
                "or '' for none"
            )
        if args.dry_run:
            plan = await _plan(store, version)
            definition = {**version.row(), "calibration": version.calibration.definition()}
            context.out.result({"dry_run": True, "plan": plan, "definition": definition}, plan)
            return 0
        await store.register(version)
        report = await build(
            store,
            at_hand,
            version.id,
            since=args.since,
            resources=settings.index_resources,
            on_progress=_Narrator(context.out.note),
        )
    context.out.result(
        {"dry_run": False, **asdict(report)},
        f"{version.id} is built: {report.releases} document versions, {report.chunks} passages, "
        f"{report.embedded} embedded; `twinrail knowledge promote {version.id}` makes it stable",
    )
    return 0


class _Narrator:
    """Says how far a build is, every few seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._last = clock()

    def __call__(self, progress: BuildProgress) -> None:
        if progress.stage == "index":
            self._say("making the indexes")
        elif progress.total and self._clock() - self._last >= SAY_EVERY_S:
            self._last = self._clock()
            self._say(f"{progress.done} of {progress.total} document versions")


async def _plan(store: KnowledgeStore, version: KnowledgeVersion) -> str:
    """What `build` would do."""
    known = {facts.version.id: facts for facts in await store.facts()}.get(version.id)
    if known is None or known.version.state is VersionState.RETIRED:
        return f"would build {version.id}"
    if known.version.state is VersionState.BUILDING:
        return f"would go on with {version.id}, of which {known.progress:.0%} is there"
    return f"{version.id} is built; with --since it would get earlier snapshots too"


async def _wanted(
    args: argparse.Namespace, store: KnowledgeStore, embedders: Mapping[str, int]
) -> KnowledgeVersion:
    """The version that the command line describes."""
    given = {part: getattr(args, part) for part in PARTS}
    if args.version is not None:
        named = [f"--{part.replace('_', '-')}" for part, value in given.items() if value is not None]
        if named or args.calibration or args.base:
            raise UsageError(
                f"{(named or ['--from'])[0]}: {args.version} is what it is; give --name for a new version"
            )
        return await _known(store, args.version)
    base = await _known(store, args.base or (await store.pointer()).stable)
    if args.embedder and args.embedder not in embedders:
        raise UsageError(
            f"--embedder: {args.embedder} is not at hand; at hand: {', '.join(embedders)}; "
            "name its service in RETRIEVAL_EMBEDDERS"
        )
    return base.derived(
        name=args.name,
        dims=embedders[args.embedder] if args.embedder else None,
        calibration=_calibration(args.calibration),
        **given,
    )


async def _known(store: KnowledgeStore, version_id: str) -> KnowledgeVersion:
    """A version by id, also a retired one: its definition is all that a build needs."""
    known = {version.id: version for version in await store.versions()}
    if version_id not in known:
        raise UsageError(f"version: no index version {version_id}; known: {', '.join(known) or 'none'}")
    return known[version_id]


def _calibration(file: Path | None) -> Calibration | None:
    if file is None:
        return None
    try:
        definition = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise UsageError(f"--calibration: {file} cannot be read as JSON ({exc})") from exc
    if not isinstance(definition, dict):
        raise UsageError(f"--calibration: {file} holds no object; it needs `intercept` and `weights`")
    # What `knowledge fit` writes holds more than the calibration.
    return Calibration.given(definition.get("calibration", definition))


async def _retire(args: argparse.Namespace, context: Context) -> int:
    async with _store(context) as store:
        if args.dry_run:
            await store.version(args.version)
            (known,) = [facts for facts in await store.facts() if facts.version.id == args.version]
            require_retirable(args.version, known.roles)
            freed = known.size_bytes
        else:
            freed = (await store.retire(args.version)).freed_bytes
    verb = "would free" if args.dry_run else "freed"
    context.out.result(
        {"version": args.version, "freed_bytes": freed, "dry_run": args.dry_run},
        f"{args.version}: {verb} {freed / MIB:.1f} MiB",
    )
    return 0
