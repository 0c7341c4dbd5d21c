"""Calls `twinrail eval` and `twinrail advise` as the program of that name does, and reads what they print."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.cli import main
from eval.settings import EvalSettings

_ROOT = Path(__file__).parents[2]
#: Done, or done with too little evidence; everything else is a mistake of ours.
_DONE, _THIN = 0, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command said."""

    thin: bool
    content: Any


@dataclass(slots=True, kw_only=True)
class Commands:
    """The commands with the address and keys of a gateway, in a folder of runs."""

    folder: Path
    settings: EvalSettings
    #: Each command as a person would type it.
    typed: list[str] = field(default_factory=list)

    async def ask(self, run: str, questions: Sequence[str], arms: Sequence[str]) -> Said:
        """`eval run`."""
        return await self._call(
            "run", "--run", self._path(run), *questions, *(f"--arm={arm}" for arm in arms)
        )

    async def label(self, run: str, *, offline: bool = False) -> Said:
        """`eval label`."""
        return await self._call("label", self._path(run), *(["--offline"] if offline else []))

    async def advise(self, run: str, team: Path) -> Said:
        """`twinrail advise`."""
        return await self._call("advise", self._path(run), "--team", str(team))

    async def compare(self, first: tuple[str, str], second: tuple[str, str]) -> Said:
        """`eval compare`, of RUN and arm each."""
        return await self._call("compare", *(f"{self._path(run)}:{arm}" for run, arm in (first, second)))

    async def score(self, run: str) -> Said:
        """`eval score`."""
        return await self._call("score", self._path(run))

    def _path(self, run: str) -> str:
        return str(self.folder / run)

    async def _call(self, *words: str) -> Said:
        program = " ".join(["twinrail", *([] if words[0] == "advise" else ["eval"]), *words])
        self.typed.append(program.replace(f"{self.folder}/", "").replace(f"{_ROOT}/", ""))
        out, err = io.StringIO(), io.StringIO()

        def called() -> int:
            # Nothing else of this process prints meanwhile; the commands run their own event loop.
            with redirect_stdout(out), redirect_stderr(err):
                return main([*words, "--json"], settings=self.settings)

        code = await asyncio.to_thread(called)
        if code not in (_DONE, _THIN):
            raise RuntimeError(f"{program} ended with {code}: {err.getvalue()[-2000:]}")
        return Said(thin=code == _THIN, content=json.loads(out.getvalue()))
