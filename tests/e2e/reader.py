"""A reader who copies an example from a page into a terminal, on a machine where the stack runs elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tests.unit.docs.pages import ROOT, Block

#: What the pages call the gateway, and the programs of `make setup`.
_NAMES = re.compile(r"http://127\.0\.0\.1:8080|\.venv/bin/twinrail|\.venv/bin/python")
#: Done, and answered with "not enough evidence": which of the two is the model's business, not the page's.
_PASSED = {"sh": (0, 4), "python": (0,)}
#: A reply that is a problem, not a turn that holds one.
_PROBLEM = re.compile(r'^\{"type": ?"urn:twinrail:problem:', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Runs examples against one stack."""

    url: str
    #: What the reader's shell holds; the keys under the names of the pages come on top.
    environment: Mapping[str, str]
    #: The keys of `keys.json`, by name.
    keys: Mapping[str, str]
    timeout_s: float = 300.0

    def complaint(self, block: Block) -> str | None:
        """Run the example as it stands; None if it did what the page says."""
        real = {".venv/bin/twinrail": f"{sys.executable} -m deploy", ".venv/bin/python": sys.executable}
        text = _NAMES.sub(lambda shown: real.get(shown[0], self.url), block.text)
        command = ["bash", "-euo", "pipefail"] if block.language == "sh" else [sys.executable, "-"]
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**self.environment, **{f"{name.upper()}_KEY": key for name, key in self.keys.items()}},
            timeout=self.timeout_s,
        )
        said = f"{block} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        if done.returncode not in _PASSED[block.language]:
            return said
        return said if bool(_PROBLEM.search(done.stdout)) != block.shows_problem else None
