"""`knowledge fit`: weight, calibration and threshold from labelled questions, or from the documents alone."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from deploy.commands.context import CommandLine, Context
from deploy.database import database, pool
from deploy.errors import UsageError
from deploy.fitting import GENERATED, Fit, FitOrder, fit
from deploy.settings import load
from deploy.tenants import require_tenant
from retrieval.calibrating import drop_calibration, save_calibration
from retrieval.errors import UnknownVersionError
from retrieval.rewriting import LastTurns
from retrieval.search import Retriever
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion

THIN = 4
#: A fit waits for every reranking: a search without its logits would count as another kind.
RERANK_S = 30.0
_SAY_EVERY_S = 5.0


def add(group: CommandLine) -> None:
    """Declare the command."""
    command = group.command(
        "fit",
        _fit,
        summary="Fit the weight of the words, confidence and the threshold of abstaining.",
        example="twinrail knowledge fit --questions labelled.jsonl --risk 0.1 --save",
        exit_codes="0 fitted, 4 too few questions, or no threshold keeps the stated risk (nothing is saved)",
    )
    command.add_argument(
        "--questions",
        default=GENERATED,
        help="JSONL file with `text` and `gold` (document ids; none: unanswerable), or `generated` (default)",
    )
    command.add_argument("--version", help="index version (default: the stable one)")
    command.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    command.add_argument(
        "--as", dest="principals", default="public", help="who asks, by commas (default: public)"
    )
    command.add_argument(
        "--risk",
        type=_share,
        default=0.1,
        help="share of the answered that may lack an answer in what was found (default: 0.1)",
    )
    command.add_argument(
        "--unanswerable",
        type=_share,
        default=0.2,
        help="share of questions that the help centre cannot answer, as you expect it (default: 0.2)",
    )
    command.add_argument("--limit", type=int, default=400, help="most questions that are generated")
    command.add_argument("--out", type=Path, help="write the definition to this file")
    change = command.add_mutually_exclusive_group()
    change.add_argument(
        "--save", action="store_true", help="judge this tenant's searches by the fit from now on"
    )
    change.add_argument(
        "--drop", action="store_true", help="fit nothing: go back to the version's own calibration"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="with --save or --drop: change nothing, say what would be"
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


async def _fit(args: argparse.Namespace, context: Context) -> int:
    from deploy.knowledge import embedders, rerankers  # weighs too much for every other command

    if args.questions != GENERATED and not Path(args.questions).is_file():
        raise UsageError(f"questions: no file {args.questions}; give a JSONL file, or `{GENERATED}`")
    if args.save and args.questions == GENERATED:
        raise UsageError(
            "--save: generated questions are too near to the texts, so what is fitted on them is too sure; "
            "give a file of labelled ones with --questions"
        )
    settings = load(RetrievalSettings)
    tenant = args.tenant or context.settings.tenant
    async with (
        database(context.settings, context.home) as url,
        pool(url) as connections,
        embedders(settings, context.models.embedder) as at_hand,
        rerankers(settings) as orders,
    ):
        store = KnowledgeStore(connections)
        await store.check()
        await require_tenant(connections, tenant)
        version = await _version(store, args.version)
        if args.drop:
            dropped = await drop_calibration(store, tenant=tenant, version=version.id, dry_run=args.dry_run)
            verb = "would be" if args.dry_run else "is"
            told = f"{verb} judged by its own calibration again" if dropped else "has no other calibration"
            context.out.result(
                {"dropped": dropped, "version": version.id, "dry_run": args.dry_run}, f"{version.id} {told}"
            )
            return 0
        retriever = Retriever(
            store=store,
            embedders=at_hand,
            rerankers=orders,
            rerank_timeout_s=RERANK_S,
            rewriters={LastTurns.id: LastTurns()},
        )
        fitted = await fit(
            store,
            retriever,
            FitOrder(
                tenant=tenant,
                principals=tuple(name.strip() for name in args.principals.split(",") if name.strip()),
                version=version,
                questions=args.questions,
                limit=args.limit,
                risk=args.risk,
                unanswerable=args.unanswerable,
            ),
            on_progress=_narrator(context.out.note),
        )
        if args.save and fitted.fitted and not args.dry_run:
            await save_calibration(
                store, fitted.fitted, tenant=tenant, version=version.id, evidence=fitted.evidence
            )
    definition = fitted.definition(version)
    if args.out:
        args.out.write_text(json.dumps(definition, indent=1) + "\n", encoding="utf-8")
    context.out.result(definition, summary(fitted, version, saved=args.save and not args.dry_run))
    return 0 if fitted.fitted else THIN


async def _version(store: KnowledgeStore, wanted: str | None) -> KnowledgeVersion:
    version_id = wanted or (await store.pointer()).stable
    known = {version.id: version for version in await store.versions()}
    if version_id not in known:
        raise UnknownVersionError(f"version: no index version {version_id}; known: {', '.join(known)}")
    return known[version_id]


def _narrator(say: Callable[[str], None]) -> Callable[[int, int], None]:
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SAY_EVERY_S:
            last = time.monotonic()
            say(f"searched {done} of {total} questions")

    return tell


def summary(found: Fit, version: KnowledgeVersion, *, saved: bool) -> str:
    """What was fitted, in a few lines."""
    weight, quality, threshold = found.weight, found.confidence.quality, found.confidence.threshold
    risk, cosine = found.evidence["risk"], found.evidence["auroc_of_cosine_alone"]
    best = f"best less current {weight.gain:+.3f} nDCG@10 {list(weight.interval)}"
    error = f"calibration error {quality.ece}, Brier {quality.brier}"
    lines = [
        f"{version.id}: {weight.pairs} questions with an answer in {weight.groups} groups",
        f"dense weight {weight.dense_weight} (now {weight.current}): {weight.reason}; {best}",
        f"confidence on unseen groups: AUROC {quality.auroc} (best cosine alone {cosine}), {error}",
    ]
    if threshold is None:
        lines.append(
            f"no threshold keeps the risk under {risk}: state a higher one, add questions, or use a reranker"
        )
        return "\n".join(lines)
    bound = f"risk at most {threshold.risk_bound:.1%} (stated: {risk:.0%})"
    precision, recall = _percent(threshold.abstention_precision), _percent(threshold.abstention_recall)
    lines += [
        f"abstain below {threshold.abstain_below}: {bound}",
        f"answered: {threshold.answered_of_sufficient:.0%} of the questions whose answer is found",
        f"abstention precision {precision}, recall {recall}",
    ]
    if weight.dense_weight != weight.current:
        lines.append(
            "a weight is part of a version: "
            f"`twinrail knowledge build --from {version.id} --dense-weight {weight.dense_weight}`"
        )
    lines.append("saved for this tenant" if saved else "not saved; add --save to use it")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
