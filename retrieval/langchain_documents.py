"""LangChain documents to ours and back: what comes back is equal to what was given, or was refused."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from langchain_core.documents import Document as LangchainDocument

from retrieval.chunking import plain_blocks
from retrieval.documents import LONGEST_ID, Document, MetadataValue, is_storable
from retrieval.errors import RequestError
from retrieval.parsing import LARGEST_NUMBER, ParsedDocument

#: From here on JSON's numbers are written like whole ones, and come back as such.
_LARGEST_FLOAT = 1e16


def documents_of(
    texts: Iterable[str], metadatas: Sequence[Mapping[str, Any]] | None, ids: Sequence[str | None] | None
) -> list[LangchainDocument]:
    """Texts as documents. ValueError where there are more or fewer metadatas or ids, as LangChain has it."""
    listed = list(texts)
    for name, given in (("metadatas", metadatas), ("ids", ids)):
        if given is not None and len(given) != len(listed):
            raise ValueError(f"{name}: got {len(given)} for {len(listed)} texts; give one each")
    return [
        LangchainDocument(page_content=text, metadata=dict(metadata), id=key)
        for text, metadata, key in zip(listed, metadatas or repeat({}), ids or repeat(None), strict=False)
    ]


def identified(documents: Sequence[LangchainDocument], ids: Sequence[str | None] | None) -> list[str]:
    """The ids to store documents under: those given, else their own, else new ones."""
    if ids is not None and len(ids) != len(documents):
        raise ValueError(f"ids: got {len(ids)} for {len(documents)} documents; give one each")
    own = ids if ids is not None else [document.id for document in documents]
    return [str(uuid.uuid4()) if key is None else key for key in own]


def stored_form(
    document: LangchainDocument, document_id: str, *, source: str, readers: Sequence[str]
) -> ParsedDocument:
    """A document as the rail takes it in: its text as it stands, and no title, which would be embedded too.

    A text in `metadata["language"]` is the document's language for filters, as in front matter; all other
    metadata have no meaning here.
    """
    if not 1 <= len(document_id) <= LONGEST_ID or not document_id.isprintable():
        raise RequestError(f"id: {document_id!r:.60}: an id has 1 to {LONGEST_ID} printable characters")
    text = document.page_content
    if not text:
        raise RequestError(f"page_content: of document {document_id!r} is empty; leave it out")
    if not is_storable(text):
        raise RequestError(
            f"page_content: of document {document_id!r} contains a NUL character or half of a character "
            "pair; remove it"
        )
    language = document.metadata.get("language")
    return ParsedDocument(
        document=Document(
            id=document_id,
            title="",
            text=text,
            principals=tuple(sorted(set(readers))),
            language=language if isinstance(language, str) and language else "en",
            metadata={key: _value(document_id, key, value) for key, value in document.metadata.items()},
        ),
        blocks=plain_blocks(text),
        origin=source,
    )


def given_form(document_id: str, text: str, metadata: Mapping[str, Any]) -> LangchainDocument:
    """A stored document as it was given."""
    return LangchainDocument(id=document_id, page_content=text, metadata=dict(metadata))


def _value(document_id: str, key: object, value: object) -> MetadataValue:
    where = f"metadata: {key!r:.60} of document {document_id!r}"
    if not isinstance(key, str) or not is_storable(key):
        raise RequestError(f"{where} is no name; names are texts without NUL characters")
    match value:
        case str():
            if not is_storable(value):
                raise RequestError(f"{where} contains a NUL character or half of a character pair; remove it")
            return value
        case bool():
            return value
        case int() if abs(value) < LARGEST_NUMBER:
            return value
        case float() if abs(value) < _LARGEST_FLOAT:
            return value
        case int() | float():
            problem = "too large a number" if math.isfinite(value) else "not a finite number"
            raise RequestError(f"{where} is {problem}; write it as a text")
        case list() if all(isinstance(item, str) and is_storable(item) for item in value):
            return tuple(value)
        case _:
            raise RequestError(
                f"{where} holds {_kind(value)}; a value is a text, a number, true, false or a list of texts: "
                "give each nested value a key of its own"
            )


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing (None)"
        case dict():
            return "a nested object"
        case list():
            return "a list of other things than texts"
        case _:
            return f"a {type(value).__name__}"
