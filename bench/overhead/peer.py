"""LiteLLM's proxy as the peer: in an environment of its own, never in the project's.

The pin is the newest release that installs from PyPI as it stood when the benchmark was written (the ones after it ask for
a certifi that was not out yet).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.overhead.errors import PeerMissingError

VERSION = "1.106.2"
REQUIREMENT = f"litellm[proxy]=={VERSION}"
INSTALL_TIMEOUT_S = 900.0
SAY_EVERY_S = 10.0
#: Written last: an environment without it was left half-made.
_MARK = "installed.json"
_LAST_LINES = 3


def bench_home() -> Path:
    """Where environments and models of benchmarks are kept between runs; TWINRAIL_BENCH_HOME moves it."""
    given = os.environ.get("TWINRAIL_BENCH_HOME")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "twinrail-bench"


def peer_command(home: Path, *, port: int, config: Path) -> list[str]:
    """The command that starts the proxy with one worker."""
    binary = _environment(home) / "bin" / "litellm"
    return [
        str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1",
    ]  # fmt: skip


def write_config(path: Path, *, upstream: str, model: str, secret: str) -> Path:
    """The proxy's configuration: one model, one key, no database, nothing sent home."""
    config = {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {"model": f"openai/{model}", "api_base": upstream, "api_key": "none"},
            }
        ],
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": secret},
    }
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")  # JSON is YAML
    return path


def peer_environment() -> dict[str, str]:
    """The process's environment: quiet, and without a look at the network for prices."""
    return {**os.environ, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_COLOR": "1"}


def install_peer(home: Path, say: Callable[[str], None]) -> None:
    """Make the environment unless it is there. Raises PeerMissingError with pip's own words."""
    target = _environment(home)
    if (target / _MARK).is_file():
        return
    shutil.rmtree(target, ignore_errors=True)
    say(f"installing {REQUIREMENT} into {target} (once)")
    began = time.monotonic()
    # The project's own packages must not leak into the environment, nor its packages into ours.
    variables = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    commands = (
        [sys.executable, "-m", "venv", str(target)],
        [str(target / "bin" / "python"), "-m", "pip", "install", "--no-input", "--progress-bar", "off", REQUIREMENT],
    )  # fmt: skip
    for command in commands:
        _run(command, variables, began, say)
    (target / _MARK).write_text(json.dumps({"requirement": REQUIREMENT}) + "\n", encoding="utf-8")
    say(f"installed in {time.monotonic() - began:.0f} s")


def _run(command: list[str], variables: dict[str, str], began: float, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        try:
            process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
        except OSError as exc:
            raise PeerMissingError(f"litellm: {command[0]}: {exc.strerror}") from exc
        said = time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(0.2)
                now = time.monotonic()
                if now - began > INSTALL_TIMEOUT_S:
                    raise PeerMissingError(
                        f"litellm: not installed after {INSTALL_TIMEOUT_S:.0f} s; run again, or leave it out with --without-litellm"
                    )
                if now - said > SAY_EVERY_S:
                    said = now
                    say(f"still installing, {now - began:.0f} s")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            output.seek(0)
            lines = [line.strip() for line in output if line.startswith(("ERROR", "error"))] or ["no message"]
            raise PeerMissingError(
                f"litellm: {REQUIREMENT} cannot be installed: {' / '.join(line[:300] for line in lines[-_LAST_LINES:])}; "
                "check the package index, or leave it out with --without-litellm"
            )


def _environment(home: Path) -> Path:
    return home / f"litellm-{VERSION}"
