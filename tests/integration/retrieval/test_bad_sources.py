"""Bad input, the real thing: each is one clear line, the rest goes in, and what was live of it stays."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import docx
import pytest

from retrieval.documents import Access
from retrieval.errors import DuplicateDocumentError
from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from retrieval.stored import DocumentStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.pdf import pdf

ACCESS = Access(tenant="acme", principals=("public",))
WHOLE_PDF = pdf([[(12, "Old text.")]])


def word(text: str) -> bytes:
    document = docx.Document()
    document.add_paragraph(text)
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


def bomb() -> bytes:
    """A Word document whose text unpacks to more than it may."""
    content = io.BytesIO(word("Old text."))
    with (
        zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/more.xml", "w", force_zip64=True) as member,
    ):
        for _ in range(128):
            member.write(bytes(1 << 20))
    return content.getvalue()


def sparse(size: int) -> Callable[[Path], object]:
    """Writes a file that is as long as that, and takes no room."""

    def write(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(size)

    return write


def bytes_of(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content())


@pytest.mark.parametrize(
    ("name", "good", "spoil", "told"),
    [
        ("a.pdf", WHOLE_PDF, bytes_of(WHOLE_PDF[:300]), "content: is a damaged PDF, or cut short; export"),
        ("a.pdf", WHOLE_PDF, bytes_of(bytes(5_000)), "content: is no PDF; give it the suffix of its kind"),
        (
            "a.pdf",
            WHOLE_PDF,
            bytes_of(WHOLE_PDF.replace(b"/Type /Page ", b"/Type /Nope ").replace(b"/Kids [4", b"/Kids [9")),
            "content: holds no text on|content: is a damaged PDF|page: 1 of 1 is damaged",
        ),
        ("a.pdf", WHOLE_PDF, bytes_of(pdf([[]])), "content: holds no text on 1 pages.*run OCR first"),
        (
            "a.docx",
            word("Old text."),
            bytes_of(bomb),
            r"unpacked size: is 13\d.\d MB, more than 104.9 MB; split",
        ),
        ("a.docx", word("Old text."), bytes_of(word("x")[:5_000]), "content: is a damaged archive"),
        ("a.docx", word("Old text."), bytes_of(word(" ")), "content: is empty; write the text"),
        ("a.html", b"Old text.", sparse(200_000_000), "size: is 200.0 MB, more than 21.0 MB; split it, or"),
        # More than the process may have, and than there is: it is not read at all.
        ("a.html", b"Old text.", sparse(1 << 40), "size: is 1099511.6 MB, more than 21.0 MB; split it, or"),
        (
            "a.jsonl",
            b'{"id": "a", "text": "Old text."}',
            sparse(200_000_000),
            "size: is .* more than 21.0 MB",
        ),
        ("a.csv", b"id,text\na,Old text.", sparse(200_000_000), "size: is .* more than 21.0 MB"),
        ("a.html", b"Old text.", bytes_of(b"<p> <!-- nothing --></p>"), "content: is empty; write the text"),
        ("a.md", b"Old text.", bytes_of(b""), "content: is empty; write the text or remove the document"),
        (
            "a.md",
            b"Old text.",
            bytes_of("caf\xe9".encode("latin-1")),
            r"content: is not UTF-8 text \(byte 3\)",
        ),
        ("a.md", b"Old text.", bytes_of("text".encode("utf-16-le")), "content: is binary; remove the file"),
        ("a.md", b"Old text.", bytes_of(b"\xff\xfe\x00"), "content: is not UTF-16 text"),
        ("a.txt", b"Old text.", bytes_of("Stra\xdfe".encode("cp1252")), "content: is not UTF-8 text"),
    ],
)
async def test_a_bad_file_is_one_line_and_its_document_stays(
    store: KnowledgeStore,
    embedder: WordEmbedder,
    tmp_path: Path,
    name: str,
    good: bytes,
    spoil: Callable[[Path], object],
    told: str,
) -> None:
    bad, other = tmp_path / name, tmp_path / "other.md"
    bad.write_bytes(good)
    other.write_text("one")
    assert (await ingest(store, embedder, tmp_path, tenant="acme")).documents == 2
    spoil(bad)
    other.write_text("two")
    report = await ingest(store, embedder, tmp_path, tenant="acme")
    (line,) = map(str, report.failures)
    assert re.match(rf"{re.escape(name)}(:\d+)?: ({told})", line), line
    assert "\n" not in line
    assert (report.changed, report.removed, report.snapshot) == (1, 0, 2)
    documents = DocumentStore(store)
    assert (await documents.document(ACCESS, "a")).text == "Old text."
    assert (await documents.document(ACCESS, "other")).text == "two"


async def test_two_documents_with_one_id_change_nothing(
    store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    page = tmp_path / "a.md"
    page.write_text("Old text.")
    await ingest(store, embedder, tmp_path, tenant="acme")
    page.write_text("New text.")
    (tmp_path / "b.docx").write_bytes(word("Another."))
    (tmp_path / "b.docx.yaml").write_text("id: a")
    with pytest.raises(DuplicateDocumentError, match=r"^id: 'a' is in both a\.md and b\.docx: rename one$"):
        await ingest(store, embedder, tmp_path, tenant="acme")
    assert (await DocumentStore(store).document(ACCESS, "a")).text == "Old text."
    assert await store.snapshot("acme") == 1
