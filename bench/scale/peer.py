"""langchain-postgres as the peer: installed once into an environment of its own, spoken to in JSON lines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from retrieval.embedding import Vector

FOLDER = Path(__file__).parent.parent / "langchain_postgres"
PACKAGE = "langchain-postgres"


class PeerError(Exception):
    """langchain-postgres could not be installed, or failed at what it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSearches:
    """What a run of questions found, in their order."""

    ids: list[list[str]]
    ms: list[float]
    seconds: float


class Peer:
    """A running program of bench/langchain_postgres on one database."""

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self._process = process
        self._scratch = scratch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the program, which ends when its input does."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def create(self) -> None:
        """Make its table anew, without indexes."""
        self._ask({"do": "create"})

    def index(self) -> dict[str, float]:
        """Build its indexes; seconds of each."""
        reply: dict[str, float] = self._ask({"do": "index"})
        return reply

    def add(self, rows: Sequence[dict[str, Any]], vectors: Vector) -> float:
        """Seconds of its `add_embeddings` for rows of id, text and metadata."""
        path = self._scratch / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return float(self._ask({"do": "add", "rows": str(path), "vectors": self._saved(vectors)})["seconds"])

    def search(
        self,
        questions: Sequence[str],
        vectors: Vector,
        tenants: Sequence[str],
        *,
        k: int,
        hybrid: bool,
        ef_search: int | None = None,
        clients: int = 1,
    ) -> PeerSearches:
        """Ask each question as its tenant; `ef_search` None is its default."""
        path = self._scratch / "questions.json"
        path.write_text(json.dumps(list(questions)), encoding="utf-8")
        reply = self._ask({
            "do": "search", "questions": str(path), "vectors": self._saved(vectors), "tenants": list(tenants), "k": k,
            "hybrid": hybrid, "ef_search": ef_search, "clients": clients,
        })  # fmt: skip
        return PeerSearches(ids=reply["ids"], ms=reply["ms"], seconds=reply["seconds"])

    def _saved(self, vectors: Vector) -> str:
        path = self._scratch / "vectors.npy"
        np.save(path, vectors)
        return str(path)

    def _ask(self, request: dict[str, Any]) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise PeerError(f"{PACKAGE}: its program has no pipes")
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{PACKAGE}: its program ended at {request['do']!r}")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(f"{PACKAGE}: {request['do']}: {reply['error']}")
        return reply


@contextmanager
def running_peer(home: Path, database_url: str, *, say: Callable[[str], None] = print) -> Iterator[Peer]:
    """The program on a database that it may make tables in."""
    python = installed(home, say)
    with tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            [
                str(python),
                str(FOLDER / "program.py"),
                database_url.replace("postgresql://", "postgresql+asyncpg://"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        with Peer(process, Path(scratch)) as peer:
            yield peer


def installed(home: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of the environment, made unless it is whole."""
    target = home / PACKAGE
    requirements = (FOLDER / "requirements.txt").read_text(encoding="utf-8")
    mark = target / "installed.txt"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != requirements:
        shutil.rmtree(target, ignore_errors=True)
        say(f"installing {PACKAGE} into {target} (once)")
        python = target / "bin" / "python"
        install = [
            str(python),
            "-m",
            "pip",
            "install",
            "--no-input",
            "--quiet",
            "-r",
            str(FOLDER / "requirements.txt"),
        ]
        for command in ([sys.executable, "-m", "venv", str(target)], install):
            done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise PeerError(f"{PACKAGE}: cannot be installed: {done.stderr.strip()[-500:]}")
        mark.write_text(requirements, encoding="utf-8")
    return target / "bin" / "python"


def _environment() -> dict[str, str]:
    """Without ours: the packages of neither may leak into the other."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
