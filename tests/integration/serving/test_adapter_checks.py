"""What is refused of an adapter's folder, each time with the reason and what to do."""

from __future__ import annotations

import inspect
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from serving.adapter_checks import ADAPTER_FILE, BaseFacts, check_adapter
from serving.adapter_configs import ADAPTER_CONFIG, MAX_RANK
from serving.digests import digest_folder
from serving.engines import engine_command
from serving.errors import AdapterFileError, WeightsError
from tests.fakes.adapter_folders import (
    NARROW,
    RANK,
    WIDTH,
    lora_tensors,
    tensor_name,
    write_adapter,
    write_base,
)

Q, V = "self_attn.q_proj", "self_attn.v_proj"
FIRST = tensor_name(0, Q, "A")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "adapter"


def test_what_may_be_used_is_described(base: Path, folder: Path) -> None:
    write_adapter(folder)
    found = check_adapter(folder, base=base)
    assert found == check_adapter(folder, base=BaseFacts.of(base))
    assert found.digest == digest_folder(folder)
    assert (found.rank, found.alpha, found.target_modules) == (RANK, 4.0, ("q_proj", "v_proj"))
    assert found.base == digest_folder(base)
    assert (found.tensors, found.bytes) == (8, (folder / ADAPTER_FILE).stat().st_size)


def test_its_own_record_holds_and_what_lies_beside_it_is_left_alone(base: Path, folder: Path) -> None:
    write_adapter(folder)
    record = check_adapter(folder, base=base).record()
    write_adapter(folder, record={**record, "target_modules": ["v_proj", "q_proj"], "losses": [1.0]})
    (folder / "README.md").write_text("trained on Monday", encoding="utf-8")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step-20.pt").write_bytes(b"of the trainer")
    assert check_adapter(folder, base=base).record() == record


def test_ranks_are_those_that_engines_are_started_for() -> None:
    assert inspect.signature(engine_command).parameters["max_lora_rank"].default == MAX_RANK


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "weights.PT", "optimizer.pkl", "modeling.py", "run.sh", "a.bin.md"]
)
def test_what_could_run_code_is_refused_by_name(base: Path, folder: Path, name: str) -> None:
    write_adapter(folder)
    (folder / name).write_bytes(b"anything")
    with pytest.raises(AdapterFileError, match=rf"{name}.*safetensors only.*remove it"):
        check_adapter(folder, base=base)


def test_links_archives_and_second_weights_are_refused(base: Path, folder: Path, tmp_path: Path) -> None:
    write_adapter(folder)
    (tmp_path / "outside.json").write_text("{}", encoding="utf-8")
    (folder / "notes.txt").symlink_to(tmp_path / "outside.json")
    with pytest.raises(AdapterFileError, match=r"notes\.txt: is a link"):
        check_adapter(folder, base=base)
    (folder / "notes.txt").unlink()
    (folder / "new_embeddings.safetensors").write_bytes(b"")
    with pytest.raises(AdapterFileError, match=r"new_embeddings\.safetensors: .* one file of weights"):
        check_adapter(folder, base=base)
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
    with pytest.raises(AdapterFileError, match="is an archive; unpack it"):
        check_adapter(archive, base=base)
    with pytest.raises(AdapterFileError, match="is no folder"):
        check_adapter(tmp_path / "none", base=base)


def test_sizes_are_bounded_before_anything_is_read(base: Path, folder: Path) -> None:
    write_adapter(folder)
    with pytest.raises(AdapterFileError, match="more than the 100 that are allowed"):
        check_adapter(folder, base=base, max_bytes=100)


@pytest.mark.parametrize("name", [ADAPTER_FILE, ADAPTER_CONFIG])
def test_both_files_must_be_there(base: Path, folder: Path, name: str) -> None:
    write_adapter(folder)
    (folder / name).unlink()
    with pytest.raises(AdapterFileError, match=rf"{name} is missing"):
        check_adapter(folder, base=base)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type: is 'IA3'"),
        ({"task_type": "SEQ_CLS"}, "task_type: is 'SEQ_CLS'"),
        ({"use_dora": True}, "use_dora: .*without it"),
        ({"use_rslora": True}, r"use_rslora: .*sqrt\(rank\)"),
        ({"bias": "all"}, "bias: engines add no biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: whole layers"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices: .*embeddings"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern: engines take one alpha"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern: engines take one rank"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa' changes the base"),
        ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping: it names classes to import"),
        ({"layers_to_transform": [0]}, "layers_to_transform: merging would leave out layers"),
        ({"exclude_modules": ["v_proj"]}, "exclude_modules: merging would leave out layers"),
        ({"megatron_core": "../../etc/passwd"}, "megatron_core: .*outside the adapter"),
        ({"revision": "/etc/passwd"}, "revision: .*outside the adapter"),
        ({"r": 64}, r"r: 64 is not a rank that engines take \(1 to 16\)"),
        ({"r": True}, "r: True is not a rank"),
        ({"r": 0}, "r: 0 is not a rank"),
        ({"lora_alpha": 0}, "lora_alpha: 0 is not a number above 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha: nan is not"),
        ({"target_modules": "all-linear"}, "target_modules: must be a list"),
        ({"target_modules": []}, "target_modules: must be a list"),
        ({"target_modules": ["q_proj"]}, "v_proj is not among target_modules"),
        ({"target_modules": ["q_proj", "v_proj", "up_proj"]}, "target_modules: up_proj has no weights"),
        ({"r": 4}, "says rank 4, and the weights have 2"),
    ],
)
def test_settings_that_are_not_served_are_named(
    base: Path, folder: Path, change: dict[str, Any], says: str
) -> None:
    write_adapter(folder, config=change)
    with pytest.raises(AdapterFileError, match=says):
        check_adapter(folder, base=base)


@pytest.mark.parametrize("text", ["{", "[]", "\xff", "[" * 100_000])
def test_a_configuration_that_is_none_is_refused(base: Path, folder: Path, text: str) -> None:
    write_adapter(folder)
    (folder / ADAPTER_CONFIG).write_text(text, encoding="latin-1")
    with pytest.raises(AdapterFileError, match=r"adapter_config\.json: .*save the adapter again"):
        check_adapter(folder, base=base)


def changed(**changes: Any) -> dict[str, Any]:
    """Tensors of a right adapter with some replaced, added, or taken out with None."""
    tensors = {**lora_tensors(), **{name.replace("/", "."): value for name, value in changes.items()}}
    return {name: value for name, value in tensors.items() if value is not None}


HALF = np.float16
TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "a side is missing": (changed(**{FIRST: None}), r"lora_B\.weight: has no lora_A\.weight beside it"),
    "an embedding": (
        changed(**{"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((2, 10), HALF)}),
        "is an embedding layer",
    ),
    "the output layer": (
        changed(
            **{
                "base_model.model.lm_head.lora_A.weight": np.ones((RANK, WIDTH), HALF),
                "base_model.model.lm_head.lora_B.weight": np.ones((10, RANK), HALF),
            }
        ),
        "changes the output layer",
    ),
    "a magnitude": (
        changed(
            **{tensor_name(0, Q, "A").replace("lora_A.weight", "lora_magnitude_vector"): np.ones(WIDTH, HALF)}
        ),
        "is a DoRA magnitude",
    ),
    "a whole layer": (
        changed(**{"base_model.model.model.norm.weight": np.ones(WIDTH, HALF)}),
        "is no LoRA matrix",
    ),
    "a layer that the base lacks": (
        changed(
            **{
                tensor_name(7, Q, "A"): np.ones((RANK, WIDTH), HALF),
                tensor_name(7, Q, "B"): np.ones((WIDTH, RANK), HALF),
            }
        ),
        r"the base has no layer model\.layers\.7\.self_attn\.q_proj; .*another base",
    ),
    "a wider base": (
        changed(**{FIRST: np.ones((RANK, 2 * WIDTH), HALF)}),
        r"has the shape \[2, 16\], and the base wants \[2, 8\]: .*another base",
    ),
    "another rank": (
        changed(**{tensor_name(0, V, "B"): np.ones((NARROW, 3), HALF)}),
        "says rank 2, and the weights have 3",
    ),
    "not a number": (
        changed(**{FIRST: np.full((RANK, WIDTH), np.nan, HALF)}),
        "holds values that are no numbers",
    ),
    "infinite": (
        changed(**{FIRST: np.full((RANK, WIDTH), np.inf, np.float32)}),
        "holds values that are no numbers",
    ),
    "whole numbers": (changed(**{FIRST: np.ones((RANK, WIDTH), np.int8)}), "is I8; save the adapter as F32"),
    "untrained": (
        {name: value * (0 if ".lora_B." in name else 1) for name, value in lora_tensors().items()},
        "changes nothing: .*train it",
    ),
    "zeros on the other side of each layer": (
        {
            name: value * (0 if (".lora_B." in name) == (".layers.0." in name) else 1)
            for name, value in lora_tensors().items()
        },
        "changes nothing",
    ),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_weights_that_are_not_pairs_on_this_base_are_refused(base: Path, folder: Path, kind: str) -> None:
    tensors, says = TENSORS[kind]
    write_adapter(folder, tensors=tensors)
    with pytest.raises(AdapterFileError, match=says):
        check_adapter(folder, base=base)


@pytest.mark.parametrize(
    ("bits", "says"),
    [(0x7FC0, "no numbers"), (0x7F80, "no numbers"), (0x8000, "changes nothing")],
)
def test_bfloat16_is_read_too(base: Path, folder: Path, bits: int, says: str) -> None:
    """numpy has no such type: not a number, infinite, and minus zero are told by their bits."""
    right = {
        name: (value.astype("<f4").view("<u4") >> 16).astype("<u2") for name, value in lora_tensors().items()
    }
    write_adapter(folder)
    write_as_bf16(folder / ADAPTER_FILE, right)
    check_adapter(folder, base=base)
    write_as_bf16(folder / ADAPTER_FILE, {name: np.full_like(value, bits) for name, value in right.items()})
    with pytest.raises(AdapterFileError, match=says):
        check_adapter(folder, base=base)


def write_as_bf16(path: Path, tensors: dict[str, Any]) -> None:
    save_file(tensors, path)
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = raw[8 : 8 + length].replace(b'"U16"', b'"BF16"')
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("adapter_digest", "0" * 64, "restore the file that was changed"),
        ("base_digest", "0" * 64, "trained on another base: register it where that base is served"),
        ("rank", 8, "rank: its manifest says 8, and it is 2"),
        ("alpha", 64, r"alpha: its manifest says 64, and it is 4\.0"),
        ("target_modules", ["q_proj"], "target_modules: its manifest says"),
    ],
)
def test_a_record_that_says_something_else_is_refused_by_field(
    base: Path, folder: Path, name: str, value: object, says: str
) -> None:
    write_adapter(folder)
    record = check_adapter(folder, base=base).record()
    write_adapter(folder, record={**record, name: value})
    with pytest.raises(AdapterFileError, match=rf"{name}: .*{says}|{says}"):
        check_adapter(folder, base=base)


def test_without_a_base_nothing_is_checked(folder: Path, tmp_path: Path) -> None:
    write_adapter(folder)
    with pytest.raises(WeightsError, match="holds no base model; run `twinrail up` once"):
        check_adapter(folder, base=tmp_path / "nowhere")


def test_a_header_that_claims_more_than_there_is_allocates_nothing(base: Path, folder: Path) -> None:
    write_adapter(folder)
    raw = (folder / ADAPTER_FILE).read_bytes()
    for length in (2**64 - 1, 2**40, len(raw)):
        (folder / ADAPTER_FILE).write_bytes(struct.pack("<Q", length) + raw[8:])
        with pytest.raises(AdapterFileError, match=rf"its header claims {length} bytes"):
            check_adapter(folder, base=base)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(cut=st.integers(min_value=0))
def test_a_file_that_is_cut_short_is_always_refused(base: Path, folder: Path, cut: int) -> None:
    write_adapter(folder)
    raw = (folder / ADAPTER_FILE).read_bytes()
    (folder / ADAPTER_FILE).write_bytes(raw[: cut % len(raw)])
    with pytest.raises(AdapterFileError):
        check_adapter(folder, base=base)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(where=st.integers(min_value=0), byte=st.integers(0, 255))
def test_any_changed_byte_is_refused_or_another_digest(
    base: Path, folder: Path, where: int, byte: int
) -> None:
    """Nothing that a file can hold ends in another error, and no two contents have one digest."""
    write_adapter(folder)
    path = folder / ADAPTER_FILE
    before, raw = digest_folder(folder), bytearray(path.read_bytes())
    place = where % len(raw)
    same = raw[place] == byte
    raw[place] = byte
    path.write_bytes(bytes(raw))
    try:
        found = check_adapter(folder, base=base)
    except AdapterFileError:
        return
    assert (found.digest == before) == same
    assert len(load_file(path)) == found.tensors


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "target_modules",
    "bias",
    "init_lora_weights",
    "modules_to_save",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(key=st.sampled_from(KEYS), value=json_values)
def test_any_setting_is_taken_or_refused_by_name(base: Path, folder: Path, key: str, value: object) -> None:
    write_adapter(folder, config={key: value})
    try:
        found = check_adapter(folder, base=base)
    except AdapterFileError as exc:
        refused = str(exc)
    else:
        refused = ""
        assert found.rank == RANK
    # What is taken is what was right before, or says nothing that engines act on.
    assert not refused or key in refused or "rank" in refused
