"""What an ingest has to change: a source, or some of its documents, compared with what is live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from retrieval.errors import DocumentConflictError, DocumentError, DuplicateDocumentError, MassRemovalError
from retrieval.parsing import ParsedDocument
from retrieval.publishing import LiveDocument
from retrieval.sources import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Documents compared with what is live at the head."""

    #: New, or with other content.
    changed: tuple[ParsedDocument, ...] = ()
    #: Those of `changed` that are not live now.
    added: frozenset[str] = frozenset()
    removed: tuple[str, ...] = ()
    #: Same content, other readers: id -> principals.
    access: Mapping[str, tuple[str, ...]]
    #: Same content, read from another file: id -> file.
    renamed: Mapping[str, str]
    unchanged: int
    #: Documents that cannot be taken in, with the reason; whatever is live of them stays.
    failures: tuple[DocumentError, ...] = ()

    def without(self, refused: Mapping[str, DocumentError]) -> Difference:
        """The same but for some changed documents, which become failures: id -> reason."""
        if not refused:
            return self
        return replace(
            self,
            changed=tuple(parsed for parsed in self.changed if parsed.document.id not in refused),
            added=self.added - refused.keys(),
            failures=(*self.failures, *refused.values()),
        )


def compare_source(reading: Reading, live: Mapping[str, LiveDocument], source: str) -> Difference:
    """A whole source: what it no longer holds goes. While a file cannot be read, its documents stay, and all
    stay where the reading broke off."""
    found = _compare(reading.documents, live, source)
    seen = {parsed.document.id for parsed in reading.documents}
    unreadable = {failure.file.partition(":")[0] for failure in reading.failures}
    removed = tuple(
        known.id
        for known in live.values()
        if reading.complete
        and known.source == source
        and known.content_hash is not None
        and known.id not in seen
        and known.file not in unreadable
    )
    return replace(found, removed=removed, failures=(*reading.failures, *found.failures))


def refuse_mass_removal(found: Difference, source: str) -> None:
    """Raise if more than half of what the source holds would go."""
    held = len(found.changed) - len(found.added) + found.unchanged + len(found.removed)
    if len(found.removed) * 2 > held:
        raise MassRemovalError(
            f"source: would remove {len(found.removed)} of the {held} documents of {source!r} and add "
            f"{len(found.added)}; publish beside them under another --name, or confirm with --replace"
        )


def compare_documents(
    upserts: Sequence[ParsedDocument],
    deletes: Sequence[str],
    live: Mapping[str, LiveDocument],
    source: str,
) -> Difference:
    """Single documents of a source: the rest of it stays. Deleting what is not there changes nothing."""
    named = [parsed.document.id for parsed in upserts] + list(deletes)
    if len(set(named)) != len(named):
        twice = next(each for number, each in enumerate(named) if each in named[:number])
        raise DuplicateDocumentError(f"id: {twice!r} is named twice: send each document once")
    found = _compare(upserts, live, source)
    removed, refused = [], []
    for document_id in deletes:
        known = live.get(document_id)
        if known is None or known.content_hash is None:
            continue
        if known.source == source:
            removed.append(document_id)
        else:
            refused.append(_conflict(document_id, known.source, document_id))
    return replace(found, removed=tuple(removed), failures=(*found.failures, *refused))


def _compare(
    documents: Iterable[ParsedDocument], live: Mapping[str, LiveDocument], source: str
) -> Difference:
    changed, added, access, renamed, failures = [], set(), {}, {}, []
    unchanged = 0
    for parsed in documents:
        document = parsed.document
        known = live.get(document.id)
        if known is None or known.content_hash is None:
            added.add(document.id)
            changed.append(parsed)
        elif known.source != source:
            failures.append(_conflict(parsed.origin, known.source, document.id))
        elif known.content_hash != parsed.content_hash:
            changed.append(parsed)
        else:
            unchanged += 1
            if known.principals != tuple(sorted(document.principals)):
                access[document.id] = document.principals
            if known.file != parsed.file:
                renamed[document.id] = parsed.file
    return Difference(
        changed=tuple(changed),
        added=frozenset(added),
        access=access,
        renamed=renamed,
        unchanged=unchanged,
        failures=tuple(failures),
    )


def _conflict(origin: str, owner: str, document_id: str) -> DocumentConflictError:
    return DocumentConflictError(
        origin,
        "id",
        f"{document_id!r} belongs to source {owner!r} already",
        "rename it, or ingest under that source's name",
    )
