"""What `twinrail up` says when everything runs: how to ask, and where to look."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

DEMO_QUESTION = "How much is Sync Plus a month?"
ANY_QUESTION = "How do I change my email address?"


def welcome(*, url: str, keys: Mapping[str, str] | None, keys_file: Path, question: str, opening: str) -> str:
    """A request to copy, the same as a command, and the console with a key that may see everything.

    Without `keys`, for what is not a terminal: logs are copied and mailed, so they get the place of the keys.
    """
    body = json.dumps({"question": question})
    if keys:
        authorization = f"'authorization: Bearer {keys['customer']}'"
        note, address = "this address holds the admin key", f"{url}/console#key={keys['admin']}"
    else:
        authorization = '"authorization: Bearer $CUSTOMER_KEY"'
        note, address = f"keys are in {keys_file}", f"{url}/console"
    return "\n".join(
        [
            "",
            opening,
            "",
            "Ask over HTTP:",
            f"  curl -s {url}/v1/answers \\",
            f"    -H {authorization} \\",
            f"    -H 'content-type: application/json' -d {shlex.quote(body)}",
            "",
            "Ask in another terminal:",
            f'  {command()} ask "{question}"',
            "",
            f"Look inside ({note}):",
            f"  {address}",
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
