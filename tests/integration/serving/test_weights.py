"""Adapters on disk: an engine loads a copy that nobody changes under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import WeightsError
from serving.weights import ADAPTER_CONFIG, ADAPTER_FILE, digest_folder, keep_adapter


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / ADAPTER_CONFIG).write_text('{"peft_type": "LORA"}', encoding="utf-8")
    (folder / ADAPTER_FILE).write_bytes(b"weights")
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_copy_is_made_once_and_made_good_when_its_bytes_are_others(adapter: Path, tmp_path: Path) -> None:
    target, steps = tmp_path / "models" / "adapter-1", list[str]()
    digest = keep_adapter(adapter, target, on_step=steps.append)
    assert digest == digest_folder(adapter) == digest_folder(target)
    assert sorted(file.name for file in target.iterdir()) == [ADAPTER_CONFIG, ADAPTER_FILE]
    keep_adapter(adapter, target, on_step=steps.append)
    assert len(steps) == 1
    for damaged in (ADAPTER_FILE, ADAPTER_CONFIG):
        (target / damaged).write_bytes(b"cut sho")
        keep_adapter(adapter, target, on_step=steps.append)
        assert (target / damaged).read_bytes() == (adapter / damaged).read_bytes()
    assert len(steps) == 3


def test_what_could_run_code_is_not_copied(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(WeightsError, match="safetensors only"):
        keep_adapter(adapter, tmp_path / "target")
    assert not (tmp_path / "target").exists()
