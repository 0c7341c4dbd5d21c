"""The whole benchmark at its smallest, with our gateway only: that it measures, not what it measures."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.fakes.embeddings_server import FakeEmbeddings

ROOT = Path(__file__).resolve().parents[3]
MOMENTS = {"before the first byte", "in mid-stream", "non-streaming"}


async def test_quick_run_measures_every_call_and_leaves_no_process(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    embeddings = FakeEmbeddings()
    async with embeddings.serving() as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bench.gateway_overhead", "--quick", "--without-litellm", "--without-retrieval"),
            *("--output", str(output)),
            cwd=ROOT,
            env={
                **os.environ,
                "RETRIEVAL_EMBEDDINGS_URL": url,
                "RETRIEVAL_EMBEDDINGS_MODEL": "words",
                "RETRIEVAL_EMBEDDINGS_DIMS": str(embeddings.embedder.dims),
                "TWINRAIL_BENCH_HOME": str(tmp_path / "home"),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        shown, log = await process.communicate()

    assert process.returncode == 0, log.decode()
    assert "twinrail, retrieval off" in shown.decode()
    result = json.loads(output.read_text(encoding="utf-8"))
    rows = {(row["target"], row["call"]): row for row in result["rows"]}
    ours = {call for target, call in rows if target == "twinrail, retrieval off"}
    assert ours == {"chat", "chat, stream", "answers", "answers, stream"}
    assert all(row["added_p50_ms"] is not None for row in rows.values())
    assert set(result["leaving"]["twinrail, retrieval off"]) == MOMENTS
    assert result["span_exports"]["bytes"] > 0
    assert not started_with(str(tmp_path / "home"))


def started_with(text: str) -> list[str]:
    """Processes that have the text in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in environment.read_bytes():
                found.append(environment.parent.name)
        except OSError:
            continue  # it ended, or is not ours to read
    return found
