"""Adapters on this machine's disk, each in a folder that is named by its digest.

The bytes are read again each time before an engine gets them: a folder whose bytes have changed is refused,
because its name, and the version's, would go on saying what it no longer is.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.adapter_checks import BaseFacts, check_adapter, check_files
from serving.adapter_configs import ADAPTER_CONFIG, read_config
from serving.digests import digest_folder
from serving.errors import AdapterError, AdapterNotFoundError, WeightsError
from serving.manifests import other_use
from serving.versions import ModelVersion, RegisteredVersion


def inspect(folder: Path, *, base: Path) -> dict[str, Any]:
    """What an adapter that may be loaded is, as a manifest says it; raises WeightsError. Without the base on
    this disk its shapes are not compared: the engine that has the base does that."""
    if base.is_dir():
        return check_adapter(folder, base=BaseFacts.of(base)).record()
    check_files(folder)
    return {"adapter_digest": digest_folder(folder), **asdict(read_config(folder / ADAPTER_CONFIG))}


class AdapterShelf:
    """A folder of `adapter-<digest8>` folders, which engines see under the same path; `base`, where it is
    there too, is what they are checked against."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, version: ModelVersion) -> Path:
        """Where the version's adapter lies, if it is here."""
        return self._root / f"adapter-{(version.adapter_digest or '')[:8]}"

    async def checked(self, version: RegisteredVersion) -> Path:
        """The folder, after its bytes and its configuration were found to be those that the version's
        manifest recorded; raises AdapterError with the reason."""
        folder = self.folder(version.version)
        if not folder.is_dir():
            raise AdapterNotFoundError(
                f"{folder} does not exist; `twinrail model register --adapter` with the adapter puts it there"
            )
        await self._require(version, folder)
        return folder

    async def require_same(self, version: RegisteredVersion, root: str) -> None:
        """Refuse what an engine lists under the version's name but loaded from other bytes.

        A path that is not on this machine says nothing; then only the probe decides.
        """
        folder = Path(root)
        if root and folder.is_absolute() and folder != self.folder(version.version) and folder.is_dir():
            await self._require(version, folder)

    async def _require(self, version: RegisteredVersion, folder: Path) -> None:
        try:
            found = await asyncio.to_thread(inspect, folder, base=self._root / "base")
        except (WeightsError, OSError) as exc:
            raise AdapterError(f"{folder}: {exc}") from exc
        wanted = version.version.adapter_digest
        if found["adapter_digest"] != wanted:
            raise AdapterError(
                f"{folder}: its bytes have the digest {found['adapter_digest'][:8]}, {version.id} is made of "
                f"{(wanted or 'none')[:8]}; restore them, and start engines that have loaded others again"
            )
        if (other := other_use(found, version.manifest)) is not None:
            raise AdapterError(
                f"{folder / ADAPTER_CONFIG}: {other.field}: is {other.given}, and the manifest of "
                f"{version.id} recorded {other.recorded}; restore the file, and start engines "
                "that have loaded it again"
            )
