"""`tune evaluate`: has the candidate earned its place? Evaluation's own program, listed where tuning is."""

from __future__ import annotations

from deploy.commands.context import CommandLine

#: Its name here, and evaluation's name for it.
EVALUATE, PROGRAM = "evaluate", "tuned"


def add(group: CommandLine) -> None:
    """List the command; `deploy.cli` hands its command line over unparsed."""
    group.forwarded(EVALUATE, "Candidate against a strong prompt and the stable version (`evaluate --help`).")
