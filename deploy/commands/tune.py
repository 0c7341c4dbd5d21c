"""`tune`: from labelled rows to a tuned version that has earned its place, one short program per step.

Each step reads files and writes files, so that two runs can be compared with `diff`. A step is a module of
its own beside this one and adds itself here, in the order in which the steps are run.
"""

from __future__ import annotations

from deploy.commands import tune_dataset, tune_evaluate, tune_register, tune_train
from deploy.commands.context import CommandLine

SUMMARY = "Tune the model: rows, training, evaluation, registration."


def add(commands: CommandLine) -> None:
    """Declare the group and its steps."""
    tuning = commands.group("tune", SUMMARY)
    for step in (tune_dataset, tune_train, tune_evaluate, tune_register):
        step.add(tuning)
