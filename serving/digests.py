"""What weights on disk are called: sha256 over their safetensors files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from serving.errors import WeightsError

STAMP = "twinrail-base.json"


def base_digest(folder: Path) -> str:
    """What a base folder's weights are called: its stamp, or the digest of its safetensors if we did not
    make it."""
    stamp = folder / STAMP
    if stamp.exists():
        return str(json.loads(stamp.read_text(encoding="utf-8"))["base_digest"])
    return digest_folder(folder)


def digest_folder(folder: Path) -> str:
    """sha256 over the safetensors files of a folder: their names and contents, in the order of the names."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WeightsError(f"{folder}: holds no .safetensors file (no other format is loaded)")
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name}\0{digest_file(file)}\n".encode())
    return whole.hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
