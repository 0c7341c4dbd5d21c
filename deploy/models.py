"""The models of this machine: which folders hold them, which versions they make, who prepares them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.child import die_with_parent, signal_group
from deploy.errors import DeployError, DiskFullError, ProcessDiedError
from deploy.guard import Guard
from deploy.logfile import open_log
from deploy.placement import EngineWeights
from serving.prompting import PROMPTS, load_prompt
from serving.settings import Form
from serving.versions import SCHEMAS, ModelVersion, load_task_schema

#: The adapter that this release ships, with the manifest of its training.
SHIPPED_ADAPTER = Path(__file__).parent / "demo" / "adapter"
TASK = "support_answer"
#: Rules and two worked examples take 500 tokens: with 700 the base would see one passage, not three.
STRONG_PROMPT_BUDGET_TOKENS = 1000
#: Trained by `python -m retrieval.rerank_training`; its README says on what, and how it was judged.
RERANKER = Path(__file__).parent / "demo" / "reranker"
DISK_IS_FULL_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Where prepared models lie. Weights are named by their digests, so that releases share what is equal."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def embedder(self) -> Path:
        return self.root / "minilm"

    @property
    def tokenizer(self) -> Path:
        return self.base / "tokenizer.json"

    def merged(self, base_digest: str, adapter_digest: str) -> Path:
        """The base with the adapter folded in."""
        return self.root / f"merged-{base_digest[:8]}-{adapter_digest[:8]}"

    def adapter(self, adapter_digest: str) -> Path:
        """The adapter alone, for an engine that runs on the base."""
        return self.root / f"adapter-{adapter_digest[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModels:
    """What is prepared."""

    folders: ModelFolders
    base_digest: str
    #: Of the shipped adapter; None when this release ships none.
    adapter_digest: str | None
    #: How the adapter was made.
    manifest: Mapping[str, Any] = field(default_factory=dict)
    #: How engines serve it.
    form: Form = Form.MERGED

    def weights_of(self, version: ModelVersion) -> EngineWeights | None:
        """What an engine loads for the version, None when it is not on this machine.

        Only the shipped version is prepared in the form that is set: an older one keeps the form it has.
        """
        if version.base_digest != self.base_digest:
            return None
        base, digest = self.folders.base, version.adapter_digest
        if digest is None:
            forms = [EngineWeights(base)]
        else:
            forms = [
                EngineWeights(self.folders.merged(self.base_digest, digest)),
                EngineWeights(base, self.folders.adapter(digest)),
            ]
        if self.form is Form.ADAPTER:
            forms.reverse()
        return next((weights for weights in forms if weights.exist()), None)

    def base_version(self) -> ModelVersion:
        """The base model with a strong prompt: what a tuned model has to beat, and what stands in for it."""
        return self._version("base", None, "support_strong", STRONG_PROMPT_BUDGET_TOKENS)

    def tuned_version(self) -> ModelVersion | None:
        """The base model with the shipped adapter and the prompt that it was trained on."""
        if self.adapter_digest is None:
            return None
        return self._version(
            "support",
            self.adapter_digest,
            str(self.manifest["prompt"]),
            int(self.manifest["prompt_budget_tokens"]),
        )

    def _version(
        self, name: str, adapter_digest: str | None, prompt: str, budget_tokens: int
    ) -> ModelVersion:
        return ModelVersion(
            name=name,
            base_digest=self.base_digest,
            adapter_digest=adapter_digest,
            prompt=load_prompt(PROMPTS / f"{prompt}.yaml"),
            task=TASK,
            schema=load_task_schema(SCHEMAS / f"{TASK}.json"),
            prompt_budget_tokens=budget_tokens,
        )


class Preparation:
    """Prepares all models in a process of its own, which takes the memory of torch with it when it ends.

    The weights are ready first, so that an engine starts on them while the embedder is still being made.
    """

    def __init__(
        self,
        folders: ModelFolders,
        *,
        form: Form,
        guard: Guard,
        log: Path,
        on_step: Callable[[str], None],
    ) -> None:
        self._folders = folders
        self._form = form
        self._guard = guard
        self._log = log
        self._on_step = on_step
        loop = asyncio.get_running_loop()
        self._weights: asyncio.Future[LocalModels] = loop.create_future()
        self._embedder: asyncio.Future[Path] = loop.create_future()
        self._work = asyncio.create_task(self._run(), name="prepare models")

    async def weights(self) -> LocalModels:
        """The language models, once they are prepared."""
        return await asyncio.shield(self._weights)

    async def embedder(self) -> Path:
        """The folder of the embedding model, once it is prepared."""
        return await asyncio.shield(self._embedder)

    async def stop(self) -> None:
        """End the process if it still works; half-made models are removed by it."""
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work

    async def _run(self) -> None:
        error: BaseException = asyncio.CancelledError()
        try:
            said = await self._listen()
            error = _failure(said, self._folders.root, self._log)
        finally:
            for future in (self._weights, self._embedder):
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # seen: nobody may be waiting for it

    async def _listen(self) -> Mapping[str, Any]:
        """Start the process, pass on what it says until it ends, and return the last thing that it said."""
        with open_log(self._log) as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "deploy.prepare",
                str(self._folders.root),
                str(SHIPPED_ADAPTER),
                self._form,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._guard.watch(process.pid)
        said: dict[str, Any] = {}
        try:
            if process.stdout is not None:
                async for line in process.stdout:
                    said = json.loads(line)
                    self._hear(said)
            await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        finally:
            signal_group(process.pid, signal.SIGKILL)
            self._guard.forget(process.pid)
        return said

    def _hear(self, said: Mapping[str, Any]) -> None:
        if "step" in said:
            self._on_step(said["step"])
        elif "base_digest" in said:
            self._weights.set_result(LocalModels(folders=self._folders, form=self._form, **said))
        elif "embedder" in said:
            self._embedder.set_result(self._folders.embedder)


def _failure(said: Mapping[str, Any], folder: Path, log: Path) -> DeployError:
    # Libraries meet a full disk in many ways, some as a file that makes no sense.
    if said.get("error") == "disk full" or shutil.disk_usage(folder).free < DISK_IS_FULL_BYTES:
        return DiskFullError("TWINRAIL_HOME: no space left for the models; free some or choose another disk")
    return ProcessDiedError(f"models: {said.get('error') or 'could not be prepared'}; log: {log}")
