"""`python -m deploy.prepare MODELS ADAPTER [FORM]`: make a machine's models, once; tells in JSON lines.

A process of its own because it needs torch, whose memory the long-lived processes should not carry.
"""

from __future__ import annotations

import errno
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.models import ModelFolders
from retrieval.errors import RetrievalError
from retrieval.minilm import prepare_minilm
from serving.digests import digest_folder
from serving.errors import ServingError, WeightsError
from serving.settings import Form
from serving.weights import keep_adapter, merge_adapter, prepare_base


def main(argv: Sequence[str]) -> int:
    """Exit code 0 done, 1 not."""
    signal.signal(signal.SIGTERM, _leave)
    folders, adapter = ModelFolders(Path(argv[0])), Path(argv[1])
    form = Form(argv[2]) if len(argv) > 2 else Form.MERGED
    try:
        prepare(folders, adapter, form)
    except (RetrievalError, ServingError, OSError) as exc:
        full = any(getattr(each, "errno", None) == errno.ENOSPC for each in (exc, exc.__cause__))
        _say(error="disk full" if full else " ".join(str(exc).split()))
        return 1
    return 0


def prepare(folders: ModelFolders, adapter: Path, form: Form) -> None:
    """Base model, tuned model, embedder, in this order; each is skipped when it is there."""
    base = prepare_base(folders.base, on_step=_step)
    adapter_digest, manifest = None, {}
    if (adapter / "manifest.json").exists():
        manifest = json.loads((adapter / "manifest.json").read_text(encoding="utf-8"))
        adapter_digest = digest_folder(adapter)
        _check(manifest, base.digest, adapter_digest, adapter)
        if form is Form.ADAPTER:
            keep_adapter(base.path, adapter, folders.adapter(adapter_digest), on_step=_step)
        else:
            merge_adapter(base.path, adapter, folders.merged(base.digest, adapter_digest), on_step=_step)
    _say(base_digest=base.digest, adapter_digest=adapter_digest, manifest=manifest)
    if not folders.embedder.exists():
        _step("converting the embedding model")
    prepare_minilm(folders.embedder)
    _say(embedder=True)


def _check(manifest: dict[str, Any], base_digest: str, adapter_digest: str, adapter: Path) -> None:
    """An adapter belongs to the base that it was trained on, and its bytes to its manifest."""
    for name, found in (("base_digest", base_digest), ("adapter_digest", adapter_digest)):
        if manifest.get(name) != found:
            raise WeightsError(
                f"{adapter}: {name} is {found[:8]}, its manifest says {str(manifest.get(name))[:8]}; "
                "restore the adapter or train it again"
            )


def _leave(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that half-made folders are removed on the way out."""
    raise SystemExit(128 + number)


def _step(text: str) -> None:
    _say(step=text)


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
