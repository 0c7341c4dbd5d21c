"""Adapters on disk: an engine loads a copy that nobody changes under it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.adapter_checks import ADAPTER_FILE
from serving.adapter_configs import ADAPTER_CONFIG
from serving.digests import digest_folder
from serving.errors import AdapterFileError
from serving.weights import keep_adapter
from tests.fakes.adapter_folders import CONFIG, write_adapter, write_base


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "shipped", record={"losses": [1.0]})


def test_a_copy_is_made_once_and_made_good_when_its_bytes_are_others(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    target, steps = tmp_path / "models" / "adapter-1", list[str]()
    (adapter / "README.md").write_text("not needed", encoding="utf-8")
    digest = keep_adapter(base, adapter, target, on_step=steps.append)
    assert digest == digest_folder(adapter) == digest_folder(target)
    assert {file.name for file in target.iterdir()} == {ADAPTER_CONFIG, ADAPTER_FILE, "manifest.json"}
    keep_adapter(base, adapter, target, on_step=steps.append)
    assert len(steps) == 1
    for damaged in (ADAPTER_FILE, ADAPTER_CONFIG):
        (target / damaged).write_bytes(b"cut sho")
        keep_adapter(base, adapter, target, on_step=steps.append)
        assert (target / damaged).read_bytes() == (adapter / damaged).read_bytes()
    assert len(steps) == 3


def test_what_is_refused_leaves_nothing_behind(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(AdapterFileError, match="safetensors only"):
        keep_adapter(base, adapter, tmp_path / "models" / "adapter-1")
    (adapter / "adapter_model.bin").unlink()
    (adapter / "manifest.json").write_text(json.dumps({"adapter_digest": "0" * 64}), encoding="utf-8")
    with pytest.raises(AdapterFileError, match="adapter_digest"):
        keep_adapter(base, adapter, tmp_path / "models" / "adapter-1")
    assert not list((tmp_path / "models").iterdir())


def test_the_same_weights_with_another_alpha_do_not_take_the_place_of_those_that_are_there(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    target = tmp_path / "models" / "adapter-1"
    keep_adapter(base, adapter, target)
    louder = write_adapter(tmp_path / "louder", config={"lora_alpha": 400})
    assert digest_folder(louder) == digest_folder(adapter)
    with pytest.raises(AdapterFileError, match=r"holds the same weights with rank 2 and alpha 4,"):
        keep_adapter(base, louder, target)
    assert json.loads((target / ADAPTER_CONFIG).read_text(encoding="utf-8")) == CONFIG
    quiet = write_adapter(tmp_path / "renamed", config={"base_model_name_or_path": "somebody/base"})
    keep_adapter(base, quiet, target)
