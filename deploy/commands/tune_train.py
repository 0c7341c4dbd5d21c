"""`tune train`: an adapter from a recipe and a dataset."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from deploy.commands.context import CommandLine, Context, person
from serving.errors import TrainingStoppedError
from serving.tuning.recipe import Device, load_recipe

STOPPED = 128 + signal.SIGINT


def add(group: CommandLine) -> None:
    """Declare the command."""
    command = group.command(
        "train",
        _train,
        summary="Train an adapter. Stopped or killed, the same command goes on from its last checkpoint.",
        example="twinrail tune train recipe.yaml dataset --out run",
        exit_codes=f"0 trained, or trained before; 2 recipe, dataset, base or disk cannot be used; "
        f"{STOPPED} stopped, a checkpoint is left",
    )
    command.add_argument("recipe", type=Path, help="YAML file; docs/tuning.md lists its settings")
    command.add_argument("dataset", type=Path, help="folder that `twinrail tune dataset` wrote")
    command.add_argument(
        "--out", type=Path, required=True, help="folder of the run: the adapter and its record"
    )
    command.add_argument("--base", type=Path, help="folder of the base model (default: this release's)")
    command.add_argument(
        "--device", type=Device, choices=list(Device), help="default: cuda where there is one"
    )
    command.add_argument("--threads", type=int, help="cores to use (default: all)")
    command.add_argument("--parent", metavar="VERSION", help="the model version that this one follows")
    command.add_argument(
        "--restart", action="store_true", help="begin anew, also where another run lies in --out"
    )


async def _train(args: argparse.Namespace, context: Context) -> int:
    recipe = load_recipe(args.recipe)  # before torch is loaded: a mistake is said at once

    from serving.tuning.training import TrainingOrder, train
    from serving.weights import prepare_base

    base = args.base or prepare_base(context.models.base, on_step=context.out.note).path
    order = TrainingOrder(
        recipe=recipe,
        dataset=args.dataset,
        base=base,
        out=args.out,
        device=args.device,
        threads=args.threads,
        parent=args.parent,
        restart=args.restart,
        author=person(),
    )
    try:
        record = train(order, context.out.note)
    except TrainingStoppedError as exc:
        context.out.note(f"twinrail: {exc}")
        return STOPPED
    context.out.result(record, str(args.out))
    return 0
