"""The two servers that the wire contract is checked against: the fake always, real vLLM under the marker
`e2e`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from deploy.models import ModelFolders
from deploy.ports import free_port
from serving.adapter_checks import ADAPTER_FILE
from serving.adapter_configs import ADAPTER_CONFIG
from serving.engines import EnginePool, engine_command, engine_environment
from serving.weights import prepare_base
from tests.fakes.vllm_server import FakeVllm
from tests.prepared import MODELS

NAMES = ("m-contract-00000001", "m-contract-00000002")
BOOT_TIMEOUT_S = 400.0
#: Of one test on a real engine, its boot and the conversion of the model left aside.
TEST_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Wire:
    """One server under test."""

    url: str
    session: aiohttp.ClientSession
    pool: EnginePool
    name: str
    #: Folder of an adapter for it, or None where it cannot load any.
    adapter: Path | None
    #: Its copy with a weights file that was cut off.
    broken: Path | None

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    async def running(self) -> float:
        """Generations that run now, as the server's own metrics say."""
        async with self.session.get(f"{self.root}/metrics") as response:
            text = await response.text()
        lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def settles_at(self, running: float, *, timeout_s: float = 120.0) -> None:
        """Wait until that many generations run."""
        async with asyncio.timeout(timeout_s):
            while await self.running() != running:  # noqa: ASYNC110 (the state is another process's)
                await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The base model, the same that the end-to-end tests serve."""
    return prepare_base(ModelFolders(MODELS).base).path


@pytest.fixture(scope="session")
def adapter_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of random weights for the base model: enough to be loaded, and to change what is written."""
    return write_random_adapter(model_folder, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="session")
def broken_folder(adapter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter as a full disk leaves it."""
    folder = tmp_path_factory.mktemp("broken")
    weights = (adapter_folder / ADAPTER_FILE).read_bytes()
    (folder / ADAPTER_FILE).write_bytes(weights[: len(weights) // 2])
    (folder / ADAPTER_CONFIG).write_bytes((adapter_folder / ADAPTER_CONFIG).read_bytes())
    return folder


@pytest.fixture(scope="session")
def real_url(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """TWINRAIL_TEST_ENGINE_URL, else a vLLM process of our own for the session."""
    given = os.environ.get("TWINRAIL_TEST_ENGINE_URL")
    if given:
        yield f"{given.rstrip('/').removesuffix('/v1')}/v1"
        return
    model = request.getfixturevalue("model_folder")
    port = free_port()
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            engine_command(model=model, served_names=NAMES, port=port, runtime_adapters=True),
            env=engine_environment(os.environ, runtime_adapters=True),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop_group(process)


@pytest.fixture(
    params=[
        "fake",
        pytest.param("real", marks=[pytest.mark.e2e, pytest.mark.timeout(BOOT_TIMEOUT_S + TEST_TIMEOUT_S)]),
    ]
)
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    """Each contract test runs against both."""
    async with aiohttp.ClientSession() as session:
        if request.param == "fake":
            adapter, broken = tmp_path / "adapter", tmp_path / "broken"
            fake = FakeVllm(
                adapter_paths=frozenset({str(adapter), str(broken)}), broken_paths=frozenset({str(broken)})
            )
            for name in NAMES:
                fake.program(name)
            del fake.models["m-fake"]
            # As slow as a real one, so that there is something to abort.
            fake.program(NAMES[1], first_token_s=0.2, between_tokens_s=0.05)
            async with fake.serving() as url:
                yield Wire(url, session, EnginePool([url], session), NAMES[0], adapter, broken)
            return
        url = request.getfixturevalue("real_url")
        pool = EnginePool([url], session)
        (health,) = await pool.health()
        own = "TWINRAIL_TEST_ENGINE_URL" not in os.environ
        folders = [
            request.getfixturevalue(f"{each}_folder") if own else None for each in ("adapter", "broken")
        ]
        yield Wire(url, session, pool, health.served[0], *folders)


def write_random_adapter(base: Path, folder: Path) -> Path:
    """Attention LoRA of rank 4 in the layout that peft writes."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    hidden, rank = config["hidden_size"], 4
    key_value = config["num_key_value_heads"] * config["head_dim"]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module, out in (("q_proj", hidden), ("v_proj", key_value)):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, hidden, generator=generator) * 0.1
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, rank, generator=generator) * 0.1
    save_file(tensors, str(folder / ADAPTER_FILE), metadata={"format": "pt"})
    lora = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    lora |= {"bias": "none", "task_type": "CAUSAL_LM", "base_model_name_or_path": None}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(lora), encoding="utf-8")
    return folder


def wait_until_ready(root: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{root}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail("vLLM did not become ready: " + " / ".join(log.read_text(errors="replace").splitlines()[-5:]))


def stop_group(process: subprocess.Popen[bytes]) -> None:
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            continue
