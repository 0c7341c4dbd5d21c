"""What an evaluation measures, from its command line: candidate, arms, questions and rules."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from eval.cases import CaseSet, spread
from eval.client import GatewayClient
from eval.errors import ArmError, RunError
from eval.gating.rules import GateRules
from eval.record import RunData, RunFolder
from eval.scorers import Scoring
from eval.scoring import scoring_of
from eval.settings import EvalSettings
from eval.tuning.content import Trained
from eval.tuning.contest import Contest, Strong, arrange
from eval.tuning.deciding import rules_for
from eval.tuning.questions import Asked, Sources, collect, unseen
from serving.errors import ServingError
from serving.examples import Row
from serving.manifests import RUN_RECORD
from serving.prompting import load_prompt
from serving.tuning.dataset_folder import read_dataset
from serving.versions import SCHEMAS

#: Runs of an evaluation: as customers are answered, and with nothing that holds a model to the schema.
SERVED, FREE = "served", "free"
_PROMPT_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be measured."""

    version: str
    contest: Contest
    asked: Asked
    trained: Trained
    scoring: Scoring
    rules: GateRules
    folder: Path
    url: str
    #: Questions of the run without constrained decoding.
    free: CaseSet | None


def version_of(named: str) -> str:
    """The version itself, or the one that a training run was registered as."""
    folder = Path(named)
    if not folder.is_dir():
        return named
    file = folder / RUN_RECORD
    try:
        version = orjson.loads(file.read_bytes()).get("version")
    except (OSError, ValueError, AttributeError) as exc:
        raise RunError(f"{file}: not the record of a training run ({exc}); name a version's id") from exc
    if not isinstance(version, str):
        raise RunError(
            f"{file}: names no version, so it is not registered yet; register it as a candidate first "
            "(`twinrail tune register`)"
        )
    return version


async def order_of(
    version: str, options: argparse.Namespace, settings: EvalSettings, client: GatewayClient, url: str
) -> Order:
    known = {str(row["id"]): row.get("details") or {} for row in await client.versions("model")}
    if version not in known:
        raise ArmError(f"{version}: no such version on the model rail; register it as a candidate first")
    scoring = scoring_of(settings, options.schema or _task_schema(known[version]))
    trained, rows = _trained(version, known[version], options.dataset, scoring)
    asked = collect(
        Sources(
            questions=options.questions or [settings.questions],
            splits=options.split or (),
            limit=options.limit,
            regression=options.regression or (),
            policy=options.policy or (),
        ),
        rows,
        seed=settings.seed,
    )
    folder = options.out or settings.runs / f"tuned-{version}"
    tasks = {other: str(details.get("task", "")) for other, details in known.items()}
    contest = arrange(version, _strong(options.strong), await client.pointers(), tasks)
    began = RunFolder(folder / SERVED)
    if began.exists:
        contest = _same(folder, began.read(), contest, asked, options.repeats)
    sample = unseen(asked.cases.cases)
    free = len(sample) if options.free is None else options.free
    return Order(
        version=version,
        contest=contest,
        asked=asked,
        trained=trained,
        scoring=scoring,
        rules=GateRules.load(options.rules) if options.rules else rules_for(scoring),
        folder=folder,
        url=url,
        free=CaseSet.of(asked.cases.name, spread(list(sample), free, settings.seed)[:free])
        if free > 0 and sample
        else None,
    )


def _task_schema(details: Mapping[str, Any]) -> Path | None:
    """The packaged schema of the version's task; the settings' where it is somebody's own."""
    packaged = SCHEMAS / f"{details.get('task')}.json"
    return packaged if packaged.is_file() else None


def _strong(named: str | None) -> Strong:
    if named is None:
        return Strong()
    if not named.endswith(_PROMPT_SUFFIXES):
        return Strong(version=named)
    try:
        return Strong(prompt=load_prompt(Path(named)))
    except ServingError as exc:
        raise ArmError(f"--strong: {exc}") from exc


def _trained(
    version: str, details: Mapping[str, Any], folder: Path | None, scoring: Scoring
) -> tuple[Trained, Sequence[Row]]:
    """The rows that it learnt from and stopped by, if the dataset is the one that its manifest names."""
    wanted = (details.get("manifest") or {}).get("dataset_sha256")
    if folder is None:
        return Trained(sha256=wanted), ()
    try:
        dataset = read_dataset(folder, scoring.schema)
    except ServingError as exc:
        raise RunError(f"--dataset: {exc}") from exc
    if wanted is not None and dataset.manifest.sha256 != wanted:
        raise RunError(
            f"--dataset {folder}: is dataset {dataset.manifest.sha256[:12]}, and {version} was trained on "
            f"{str(wanted)[:12]}; name the one that it was trained on"
        )
    rows = (*dataset.train, *dataset.valid)
    return Trained(sha256=dataset.manifest.sha256, rows=len(rows)), rows


def _same(folder: Path, data: RunData, contest: Contest, asked: Asked, repeats: int) -> Contest:
    """The arms of the evaluation that began here: a rail that moved since changes nothing."""
    record = data.record
    if record.question_set_sha256 != asked.cases.sha256:
        raise RunError(
            f"--out {folder}: was begun with other questions; repeat its options, or name a new folder"
        )
    mine = {arm.name: arm for arm in record.arms}
    for arm in contest.arms[:2]:
        before = mine.get(arm.name)
        if before is None or (before.pin.model, before.pin.prompt) != (arm.pin.model, arm.pin.prompt):
            raise RunError(f"--out {folder}: was begun with another {arm.name}; name a new folder")
    if record.repeats > repeats:
        raise RunError(
            f"--out {folder}: asks {record.repeats} times already; repeat --repeats {record.repeats}"
        )
    return replace(contest, arms=record.arms)
