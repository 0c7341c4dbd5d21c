"""`twinrail tune train` killed (SIGKILL) at random moments until it is done, beside the same run left alone.

A tiny model with a checkpoint after every step, so that most kills fall into the writing of one. Each process is a fork
of one that has loaded the libraries. Asked is whether the adapter is the same, whether any kill left something that the
next process could not go on from, and what the kills cost.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.machine import describe_machine
from serving.tuning.recipe import load_recipe
from serving.tuning.training import MANIFEST, TrainingOrder, train
from tests.fakes.tiny_dataset import write_tiny_dataset, write_tiny_recipe
from tests.fakes.tiny_model import write_tiny_model

RESULT = Path(__file__).parent / "results" / "tuning_kills.json"
KILLS, SEED = 20, 5
#: A process lives so long at most: the shortest ends before its first step, the longest makes several.
LIFE_S = (0.5, 6.0)


def run(order: TrainingOrder, *, life_s: float | None) -> bool:
    """One process; False when it was killed."""
    child = os.fork()
    if not child:
        try:
            train(order, lambda _line: None)
            os._exit(0)
        finally:
            os._exit(1)
    ends = time.monotonic() + (life_s or 3600.0)
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status):
                raise SystemExit("a process could not go on from what a kill left")
            return True
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def digest(out: Path) -> str:
    return str(json.loads((out / MANIFEST).read_text(encoding="utf-8"))["adapter_digest"])


def main() -> None:
    machine, dice = describe_machine(), random.Random(SEED)
    # Threads do not survive a fork.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, data = write_tiny_model(folder / "base"), write_tiny_dataset(folder / "data")
        blocks = {"training": {"epochs": 8.0}, "validation": {"every_steps": 10, "patience": 100}}
        recipe = load_recipe(write_tiny_recipe(folder, **blocks))
        recipe = type(recipe)(
            file=recipe.file.model_copy(update={"checkpoint_every_steps": 1}),
            task=recipe.task,
            schema=recipe.schema,
            prompt=recipe.prompt,
        )

        def order(out: str) -> TrainingOrder:
            return TrainingOrder(recipe=recipe, dataset=data, base=base, out=folder / out, threads=1)

        began = time.monotonic()
        run(order("whole"), life_s=None)
        whole_s = time.monotonic() - began
        kills, began = 0, time.monotonic()
        while not run(order("killed"), life_s=dice.uniform(*LIFE_S) if kills < KILLS else None):
            kills += 1
        killed_s = time.monotonic() - began
        same = digest(folder / "whole") == digest(folder / "killed")
        steps = json.loads((folder / "whole" / MANIFEST).read_text(encoding="utf-8"))["steps"]
    figures = {
        "steps": steps,
        "kills": kills,
        "same_adapter": same,
        "whole_s": round(whole_s, 1),
        "killed_s": round(killed_s, 1),
        "ratio": round(killed_s / whole_s, 2),
    }
    print("run         kills  seconds  ratio")
    print(f"left alone      0  {whole_s:7.1f}   1.00")
    print(f"killed      {kills:5d}  {killed_s:7.1f}  {figures['ratio']:5.2f}")
    print(f"same adapter: {'yes' if same else 'NO'}")
    RESULT.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n", encoding="utf-8")
    sys.exit(not same)


if __name__ == "__main__":
    main()
