"""What `twinrail up` says when everything runs: how to ask, and where to look."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

DEMO_QUESTION = "How much is Sync Plus, and how long is the trial?"
ANY_QUESTION = "How do I change my email address?"


def welcome(*, url: str, keys: Mapping[str, str], question: str, seconds: float) -> str:
    """A request to copy, the same as a command, and the console with a key that may see everything."""
    body = json.dumps({"question": question})
    return "\n".join(
        [
            "",
            f"Ready in {seconds:.1f} s. Ctrl-C stops everything.",
            "",
            "Ask over HTTP:",
            f"  curl -s {url}/v1/answers \\",
            f"    -H 'authorization: Bearer {keys['customer']}' \\",
            f"    -H 'content-type: application/json' -d {shlex.quote(body)}",
            "",
            "Ask in another terminal:",
            f'  {command()} ask "{question}"',
            "",
            "Look inside (this address holds the admin key):",
            f"  {url}/console#key={keys['admin']}",
            "",
        ]
    )


def command() -> str:
    """How to call `twinrail` from here: its name if the shell finds it, else its path."""
    if shutil.which("twinrail"):
        return "twinrail"
    path = Path(sys.executable).parent / "twinrail"
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
