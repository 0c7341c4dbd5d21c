"""How much of a machine one document may take while it is read."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.errors import UnparsableDocumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What a document may cost. Whatever costs more is listed and left out."""

    #: A file, or one row of a corpus, as it lies on disk.
    max_document_bytes: int = 20 * 1024 * 1024
    #: The same after decompression, and the text that comes out.
    max_unpacked_bytes: int = 100 * 1024 * 1024
    max_pages: int = 5000
    #: By the clock. More than CPU time, for a machine that is busy with other things.
    timeout_s: float = 120.0
    #: CPU time, in whole seconds upwards. It also ends a process that has lost its owner.
    cpu_s: float = 60.0
    #: Memory of the process that reads.
    memory_mb: int = 2048

    def check_size(self, name: str, size: int) -> None:
        """Refuse a document by its size on disk."""
        if size > self.max_document_bytes:
            raise self._too_large(name, "size", size, self.max_document_bytes, "RETRIEVAL_MAX_DOCUMENT_BYTES")

    def check_unpacked(self, name: str, size: int) -> None:
        """Refuse a document by its size after decompression."""
        if size > self.max_unpacked_bytes:
            raise self._too_large(
                name, "unpacked size", size, self.max_unpacked_bytes, "RETRIEVAL_MAX_UNPACKED_BYTES"
            )

    def check_pages(self, name: str, pages: int) -> None:
        """Refuse a document by its number of pages."""
        if pages > self.max_pages:
            problem = f"are {pages}, more than {self.max_pages}"
            raise UnparsableDocumentError(name, "pages", problem, "split it, or raise RETRIEVAL_MAX_PAGES")

    @staticmethod
    def _too_large(name: str, field: str, size: int, limit: int, setting: str) -> UnparsableDocumentError:
        problem = f"is {size / 1e6:.1f} MB, more than {limit / 1e6:.1f} MB"
        return UnparsableDocumentError(name, field, problem, f"split it, or raise {setting}")


DEFAULT_LIMITS = ReadLimits()
