"""The environment that `make setup` makes is the one that the code needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OURS = {"retrieval", "serving", "gateway", "eval", "deploy", "bench", "tests"}
#: Installed only beside a benchmark, never with the product.
BENCH_ONLY = {"langchain_postgres", "litellm", "sklearn", "sqlalchemy"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonical(name): version for name, version in pairs}


def project() -> dict[str, list[str]]:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": data["dependencies"], **data["optional-dependencies"]}


def imported(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                yield name.partition(".")[0], path


@pytest.mark.parametrize("folder", sorted(OURS))
def test_every_import_comes_from_a_pinned_distribution(folder: str) -> None:
    known, owners = pins(), packages_distributions()
    foreign = {
        (name, path.relative_to(ROOT).as_posix())
        for name, path in imported(ROOT / folder)
        if name not in OURS | BENCH_ONLY and name not in sys.stdlib_module_names
    }
    missing = {
        (name, path)
        for name, path in foreign
        if not any(canonical(owner) in known for owner in owners.get(name, []))
    }
    assert missing == set(), "pin these in constraints.txt, with all that they need"


def test_every_requirement_of_the_project_is_pinned() -> None:
    known = pins()
    wanted = {
        canonical(re.split(r"[\[<>=! ]", line)[0])
        for extra, lines in project().items()
        for line in lines
        if extra != "cuda"
    }
    assert wanted - set(known) == set()


def test_what_breaks_or_compiles_for_minutes_stays_out() -> None:
    unwanted = {"torchvision", "torchaudio", "torchcodec", "llama-cpp-python", "sentence-transformers"}
    assert unwanted & set(pins()) == set()


def test_pins_hold_no_label_of_a_private_build() -> None:
    assert [version for version in pins().values() if "+" in version] == []
