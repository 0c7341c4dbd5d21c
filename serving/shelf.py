"""Adapters on this machine's disk, each in a folder that is named by its digest.

The bytes are read again each time before an engine gets them: a folder whose bytes have changed is refused,
because its name, and the version's, would go on saying what it no longer is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from serving.adapter_checks import BaseFacts, check_adapter, check_files
from serving.digests import digest_folder
from serving.errors import AdapterError, AdapterNotFoundError, WeightsError
from serving.versions import ModelVersion


def inspect(folder: Path, *, base: Path) -> str:
    """Digest of an adapter that may be loaded; raises WeightsError. Without the base on this disk its shapes
    are not compared: the engine that has the base does that."""
    if base.is_dir():
        return check_adapter(folder, base=BaseFacts.of(base)).digest
    check_files(folder)
    return digest_folder(folder)


class AdapterShelf:
    """A folder of `adapter-<digest8>` folders, which engines see under the same path; `base`, where it is
    there too, is what they are checked against."""

    def __init__(self, root: Path, *, digest_of: Callable[[Path], str] | None = None) -> None:
        self._root = root
        self._digest_of = digest_of or partial(inspect, base=root / "base")

    def folder(self, version: ModelVersion) -> Path:
        """Where the version's adapter lies, if it is here."""
        return self._root / f"adapter-{(version.adapter_digest or '')[:8]}"

    async def checked(self, version: ModelVersion) -> Path:
        """The folder, after its bytes were found to be the version's; raises AdapterError with the reason."""
        folder = self.folder(version)
        if not folder.is_dir():
            raise AdapterNotFoundError(
                f"{folder} does not exist; `twinrail model register --adapter` with the adapter puts it there"
            )
        await self._require(version, folder)
        return folder

    async def require_same(self, version: ModelVersion, root: str) -> None:
        """Refuse what an engine lists under the version's name but loaded from other bytes.

        A path that is not on this machine says nothing; then only the probe decides.
        """
        folder = Path(root)
        if root and folder.is_absolute() and folder != self.folder(version) and folder.is_dir():
            await self._require(version, folder)

    async def _require(self, version: ModelVersion, folder: Path) -> None:
        try:
            found = await asyncio.to_thread(self._digest_of, folder)
        except (WeightsError, OSError) as exc:
            raise AdapterError(f"{folder}: {exc}") from exc
        if found != version.adapter_digest:
            raise AdapterError(
                f"{folder}: its bytes have the digest {found[:8]}, {version.id} is made of "
                f"{(version.adapter_digest or 'none')[:8]}; restore them, and start engines that "
                "have loaded others again"
            )
