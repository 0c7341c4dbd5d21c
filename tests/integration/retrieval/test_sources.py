"""Folders and corpora, read in a process that may die of them."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import threading
from pathlib import Path

import docx
import pytest

from retrieval.errors import (
    DuplicateDocumentError,
    EmptySourceError,
    ParsingProcessError,
    UnparsableDocumentError,
)
from retrieval.limits import ReadLimits
from retrieval.parsing import ParsedDocument, parse_content, parse_file
from retrieval.parsing_process import MOST_DEATHS, ParsingPool, ParsingProcess
from retrieval.reading import OnRead, ReadProgress, read_apart
from retrieval.remembering import KnownFiles
from retrieval.sources import Reading, read_source
from tests.fakes.pdf import encrypted_pdf, pdf

HASTY = ReadLimits(timeout_s=2.0, memory_mb=1024)


def ids(reading: Reading) -> list[str]:
    """What was read."""
    return [parsed.document.id for parsed in reading.documents]


def read_misbehaving(folder: Path, limits: ReadLimits = HASTY) -> Reading:
    """Read with a parser that does what the texts say."""
    with ParsingProcess(limits, reader="tests.fakes.readers:misbehaving") as process:
        return read_source(folder, process=process)


def test_folder_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.md").write_text("a")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b.md").write_text("b")
    (tmp_path / "manual.pdf").write_bytes(pdf([[(12, "From a PDF.")]]))
    (tmp_path / "manual.pdf.yaml").write_text("id: handbook\naudience: internal\nversion: 3\ntags: [x, y]")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "photo.png.yaml").write_text("title: not read")
    (tmp_path / "~$plans.docx").write_bytes(b"lock")
    document = docx.Document()
    document.add_paragraph("From Word.")
    document.save(str(tmp_path / "plans.docx"))
    (tmp_path / "faq.csv").write_text(
        "ID,Text,product,principals,effective_from\nq1,**Yes**,sync,staff; vip,2026-01-01\nq2,No,,,\nq3,x\n"
    )
    (tmp_path / "table.tsv").write_text("Plan\tPrice\nPlus\t9\n")
    (tmp_path / "rows.jsonl").write_text('{"id": "r1", "text": "x"}\n\nnot json\n{"id": "r2", "text": "y"}\n')
    (tmp_path / "wide.jsonl").write_text('{"id": "w1", "text": "\u00e9"}\n', encoding="utf-16")
    (tmp_path / "rows.jsonl.yaml").write_text("audience: internal\nlanguage: de")
    seen: list[ReadProgress] = []
    reading = read_source(tmp_path, on_progress=seen.append)
    assert ids(reading) == ["q1", "q2", "handbook", "plans", "r1", "r2", "table", "w1", "deep/er/a"]
    assert [str(failure) for failure in reading.failures] == [
        "faq.csv:4: row: has 2 cells under 5 columns; quote cells that hold a separator",
        "rows.jsonl:3: row: is not JSON in UTF-8; write one JSON object a line",
    ]
    assert reading.skipped == ("photo.png", "photo.png.yaml")
    assert {(each.files, each.total) for each in seen} == {(done, 7) for done in range(8)}
    # Also between the rows of one file, which may be all there is.
    assert [each.documents for each in seen if each.files == 0] == [0, 0, 1, 2]
    assert seen[-1].documents == len(reading.documents)
    found = {parsed.document.id: parsed.document for parsed in reading.documents}
    assert found["handbook"].principals == ("staff",)
    assert found["handbook"].metadata == {"version": 3, "tags": ("x", "y"), "audience": "internal"}
    assert found["q1"].principals == ("staff", "vip")
    assert (found["q1"].text, str(found["q1"].effective_from)) == ("Yes", "2026-01-01")
    assert found["q1"].metadata == {"product": "sync"}
    assert (found["r1"].principals, found["r1"].language) == (("staff",), "de")
    assert found["w1"].text == "\u00e9"
    assert (found["table"].text, found["plans"].text) == ("Plus \u2014 Price: 9", "From Word.")


def test_what_comes_through_the_process_is_what_was_parsed(tmp_path: Path) -> None:
    text = (
        "---\nlevel: 2\nbeta: true\ntags: [a]\neffective_from: 2026-01-01\n---\n# H\n\n- a\n\n```\nx\n```\n"
    )
    (tmp_path / "a.md").write_text(text)
    (parsed,) = read_source(tmp_path).documents
    direct = parse_file("a.md", text.encode())
    assert (parsed.document, parsed.blocks, parsed.origin) == (direct.document, direct.blocks, direct.origin)
    assert parsed.content_hash == direct.content_hash


def test_one_bad_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(encrypted_pdf())
    (tmp_path / "b.docx").write_bytes(b"PK\x03\x04 not whole")
    (tmp_path / "c.html").write_bytes(b"x" * 3_000_000)
    (tmp_path / "d.md").write_bytes(b"caf\xe9")
    (tmp_path / "e.html").write_text("<div>" * 3000)
    (tmp_path / "f.md").write_text("fine")
    (tmp_path / "f.md.yaml").write_text("audience: vip")
    (tmp_path / "g.md").write_text("fine")
    (tmp_path / "g.md.yaml").write_text("- no\n- fields")
    (tmp_path / "h.jsonl").write_bytes(b"\x1f\x8b")
    (tmp_path / "i.md").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "j.md")
    (tmp_path / "k.md").write_text("good")
    (tmp_path / os.fsdecode(b"l\xff.md")).write_text("x")
    reading = read_source(tmp_path, limits=ReadLimits(max_document_bytes=2_000_000))
    assert ids(reading) == ["k"]
    assert [(failure.file[0], failure.field) for failure in reading.failures] == [
        ("a", "content"),
        ("b", "content"),
        ("c", "size"),
        ("d", "content"),
        ("e", "content"),
        ("f", "audience"),
        ("g", "sidecar"),
        ("h", "content"),
        ("i", "file"),
        ("j", "file"),
        ("l", "name"),
    ]
    assert all(failure.fix for failure in reading.failures)


def test_files_that_end_their_reader(tmp_path: Path) -> None:
    for text in ("bug", "crash", "eat", "exit", "hang", "print", "spin"):
        (tmp_path / f"{text}.md").write_text(text)
        (tmp_path / f"{text} and on.md").write_text("fine")
    (tmp_path / "hang before the first.md").write_text("fine")
    reading = read_misbehaving(tmp_path)
    assert [(failure.file, failure.field) for failure in reading.failures] == [
        ("bug.md", "content"),
        ("crash.md", "content"),
        ("eat.md", "memory"),
        ("exit.md", "content"),
        ("hang before the first.md", "time"),
        ("hang.md", "time"),
        ("spin.md", "time"),
    ]
    problems = {failure.file: failure.problem for failure in reading.failures}
    assert problems["bug.md"] == "cannot be read (LookupError: never seen)"
    assert problems["crash.md"] == "crashed its reader (SIGSEGV)"
    assert problems["eat.md"] == "needs more than 1024 MB to be read"
    assert problems["exit.md"] == "crashed its reader (status 3)"
    assert problems["hang.md"] == "took longer than 2 s to read"
    assert len(reading.documents) == 8


def test_rows_after_one_that_ends_the_reader_are_read(tmp_path: Path) -> None:
    texts = ["one", "crash", "two", "exit", "refuse", "three"]
    rows = [json.dumps({"id": text, "text": text}) for text in texts]
    (tmp_path / "c.jsonl").write_text("\n\n".join(rows))
    reading = read_misbehaving(tmp_path)
    assert ids(reading) == ["one", "two", "three"]
    assert [failure.file for failure in reading.failures] == ["c.jsonl:3", "c.jsonl:7", "c.jsonl:9"]


def test_a_corpus_that_only_ends_its_reader_is_given_up(tmp_path: Path) -> None:
    rows = [json.dumps({"id": str(number), "text": "exit"}) for number in range(MOST_DEATHS + 5)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    (tmp_path / "b.md").write_text("fine")
    reading = read_misbehaving(tmp_path)
    assert ids(reading) == ["b"]
    assert len(reading.failures) == MOST_DEATHS + 1
    assert reading.failures[-1].file == "a.jsonl"


def test_one_process_reads_many_sources_and_is_gone_after(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    with ParsingProcess() as process:
        for _ in range(2):
            assert ids(read_source(tmp_path, process=process)) == ["a"]
        # Somebody who stops in the middle of a file gets the next one whole.
        next(process.read(tmp_path / "a.md", "a.md"))
        assert ids(read_source(tmp_path, process=process)) == ["a"]


def test_process_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    with (
        ParsingProcess(reader="retrieval.files:missing") as process,
        pytest.raises(ParsingProcessError, match=r"does not start: AttributeError: .*missing"),
    ):
        read_source(tmp_path, process=process)


def test_a_document_that_takes_too_much_cpu_names_the_limit_and_its_setting(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("fine")
    (tmp_path / "brackets.md").write_text("![" * 1_000_000)
    (tmp_path / "z.md").write_text("fine")
    reading = read_source(tmp_path, limits=ReadLimits(cpu_s=1.0, timeout_s=100.0))
    assert ids(reading) == ["a", "z"]
    assert [str(failure) for failure in reading.failures] == [
        "brackets.md: cpu: took more than 1 s of CPU time to read; split it, or raise RETRIEVAL_PARSE_CPU_S"
    ]


def test_the_cpu_time_of_earlier_documents_counts_for_none() -> None:
    limits = ReadLimits(cpu_s=1.0, timeout_s=100.0)
    with ParsingProcess(limits, reader="tests.fakes.readers:misbehaving") as process:
        # Each far below the limit: where processes compete, the kernel counts more than the clock says.
        for number in range(8):
            assert isinstance(process.read_content(str(number), {"text": "burn"}), ParsedDocument)


def test_content_that_is_sent_is_read_like_a_file_is() -> None:
    content = {
        "text": "<h1>Gates</h1><p>Green.</p>",
        "content_type": "text/html",
        "metadata": {"tags": ["a"], "level": 2},
        "modified_at": "2026-01-02T03:04:05Z",
    }
    with ParsingProcess() as process:
        assert process.read_content("gates", content) == parse_content("gates", content)


@pytest.mark.parametrize(
    ("content", "field", "told"),
    [
        ({"text": "![" * 1_000_000}, "cpu", "more than 1 s of CPU time"),
        ({"text": "<table><tr><td>" * 20_000, "content_type": "text/html"}, "content", "nested too deeply"),
        ({"text": "x" * 2_000_001}, "size", "more than 2.0 MB.*RETRIEVAL_MAX_DOCUMENT_BYTES"),
        ({"text": "\u00e9" * 1_500_000}, "size", "is 3.0 MB"),
        ({"text": "x", "metadata": {"a": 2**70}}, "a", "too large a number"),
        ({"text": "half \ud800"}, "text", "half of a character pair"),
        ({"text": "x", "modified_at": "2026-01-02T03:04:05"}, "modified_at", "has no zone"),
        ({"text": "x", "modified_at": "soon"}, "modified_at", "is not a time"),
        ({"text": 7}, "text", "not a string"),
    ],
)
def test_content_that_cannot_be_read(content: dict[str, object], field: str, told: str) -> None:
    limits = ReadLimits(cpu_s=1.0, timeout_s=100.0, max_document_bytes=2_000_000)
    with ParsingProcess(limits) as process:
        failure = process.read_content("bad", content)
        after = process.read_content("good", {"text": "fine"})
    assert isinstance(failure, UnparsableDocumentError)
    assert (failure.file, failure.field, "\n" in str(failure)) == ("bad", field, False)
    assert re.search(told, str(failure))
    assert isinstance(after, ParsedDocument)


@pytest.mark.parametrize("text", ["hang", "crash", "eat", "exit", "bug"])
def test_content_that_ends_its_reader(text: str) -> None:
    with ParsingProcess(HASTY, reader="tests.fakes.readers:misbehaving") as process:
        failure = process.read_content("bad", {"text": text})
        assert isinstance(failure, UnparsableDocumentError)
        assert failure.file == "bad"
        assert isinstance(process.read_content("good", {"text": "fine"}), ParsedDocument)


def test_processes_are_kept_for_the_next_and_end_with_their_pool() -> None:
    pool = ParsingPool()
    with pool.lent() as one, pool.lent() as other:
        assert one is not other
    with pool.lent() as again:
        assert again in (one, other)
        assert isinstance(again.read_content("a", {"text": "x"}), ParsedDocument)
        pool.close()
        assert again.is_running  # whoever reads at this moment may end
    assert not again.is_running


async def test_a_reading_that_nobody_waits_for_gives_up_its_document(tmp_path: Path) -> None:
    for name in ("a", "hang", "z"):
        (tmp_path / f"{name}.md").write_text(name)
    begun = asyncio.Event()
    ended = threading.Event()
    loop = asyncio.get_running_loop()

    def say(progress: ReadProgress) -> None:
        if progress.files == 1:
            loop.call_soon_threadsafe(begun.set)

    def read(process: ParsingProcess, on_progress: OnRead) -> Reading:
        try:
            return read_source(tmp_path, process=process, on_progress=on_progress)
        finally:
            ended.set()

    pool = ParsingPool(ReadLimits(timeout_s=3600.0), reader="tests.fakes.readers:misbehaving")
    task = asyncio.create_task(read_apart(read, parsers=pool, on_progress=say))
    await begun.wait()
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 60)
    pool.close()


def test_gzip_corpus(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    whole = gzip.compress(b'{"id": "a", "text": "x"}\n')
    path.write_bytes(whole)
    assert ids(read_source(path)) == ["a"]
    path.write_bytes(whole[:-9])
    assert "corpus.jsonl.gz: file: is not whole gzip" in str(read_source(path).failures[0])
    path.write_bytes(gzip.compress(b"x" * 5_000_000) + whole)
    reading = read_source(path, limits=ReadLimits(max_document_bytes=1000))
    assert [(failure.file, failure.field) for failure in reading.failures] == [("corpus.jsonl.gz:1", "size")]


def test_size_limit(tmp_path: Path) -> None:
    (tmp_path / "big.md").write_text("x" * 2000)
    (tmp_path / "c.jsonl").write_text(
        json.dumps({"id": "big", "text": "x" * 5000}) + '\n{"id": "ok", "text": "y"}\n'
    )
    reading = read_source(tmp_path, limits=ReadLimits(max_document_bytes=1000))
    assert [failure.field for failure in reading.failures] == ["size", "size"]
    assert ids(reading) == ["ok"]


def test_duplicates_name_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "1"}\n{"id": "x", "text": "2"}\n')
    with pytest.raises(DuplicateDocumentError, match=r"'x' is in both a\.jsonl:1 and a\.jsonl:2"):
        read_source(tmp_path)


def test_sources_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(EmptySourceError, match="no such file"):
        read_source(tmp_path / "missing")
    with pytest.raises(EmptySourceError, match=r"no document found; known kinds: .*docx"):
        read_source(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(EmptySourceError, match="no document found in 1 files"):
        read_source(tmp_path)


def read_again(folder: Path, known: KnownFiles) -> tuple[dict[str, str], bool]:
    """Texts by id, and whether a parser was needed."""
    with ParsingProcess(known=known) as process:
        reading = read_source(folder, process=process)
        return {each.document.id: each.document.text for each in reading.documents}, process.is_running


def test_files_that_look_as_they_did_are_not_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "b.md").write_text("two")
    (tmp_path / "b.md.yaml").write_text("id: second")
    known = KnownFiles(settled_ns=0)
    before = ({"a": "one", "second": "two"}, True)
    assert read_again(tmp_path, known) == before
    assert read_again(tmp_path, known) == (before[0], False)
    (tmp_path / "a.md").write_text("ONE")  # as long as before
    assert read_again(tmp_path, known) == ({"a": "ONE", "second": "two"}, True)
    (tmp_path / "b.md.yaml").write_text("id: renamed")
    assert read_again(tmp_path, known) == ({"a": "ONE", "renamed": "two"}, True)
    (tmp_path / "b.md.yaml").unlink()
    assert read_again(tmp_path, known) == ({"a": "ONE", "b": "two"}, True)
    (tmp_path / "a.md").unlink()
    assert read_again(tmp_path, known) == ({"b": "two"}, False)


def test_a_time_that_is_set_back_hides_no_change(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("one")
    known = KnownFiles(settled_ns=0)
    read_again(tmp_path, known)
    times = page.stat().st_atime_ns, page.stat().st_mtime_ns
    page.write_text("two")
    os.utime(page, ns=times)
    assert read_again(tmp_path, known) == ({"a": "two"}, True)


def test_what_was_written_a_moment_ago_is_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one")
    known = KnownFiles()
    for _ in range(2):
        assert read_again(tmp_path, known) == ({"a": "one"}, True)


def test_files_that_are_gone_leave_their_room_to_others(tmp_path: Path) -> None:
    (tmp_path / "stays.md").write_text("stays")
    known = KnownFiles(settled_ns=0, most_characters=9)
    for number in range(4):  # each round a file goes and another one comes
        (tmp_path / f"{number}.md").write_text("goes")
        (tmp_path / f"{number - 1}.md").unlink(missing_ok=True)
        expected = {"stays": "stays", str(number): "goes"}
        assert read_again(tmp_path, known) == (expected, True)
        for _ in range(2):  # until the one that went was missed in a whole round
            read_again(tmp_path, known)
        assert read_again(tmp_path, known) == (expected, False)


def test_a_file_is_known_by_the_name_that_it_was_read_by(tmp_path: Path) -> None:
    """Its id comes of the name, which begins at the folder that is read."""
    (tmp_path / "help").mkdir()
    (tmp_path / "help" / "a.md").write_text("one")
    known = KnownFiles(settled_ns=0)
    assert read_again(tmp_path, known) == ({"help/a": "one"}, True)
    assert read_again(tmp_path / "help", known) == ({"a": "one"}, True)


def test_corpora_failures_and_what_is_too_much_to_keep_are_read_every_time(tmp_path: Path) -> None:
    for name, content in (
        ("rows.jsonl", '{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}'),
        ("c.md", "long text"),
    ):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        known = KnownFiles(settled_ns=0, most_characters=4)
        first = read_again(folder, known)
        assert read_again(folder, known) == first
        assert first[1]
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "d.md").write_bytes(b"\xff\xfe\x00\xd8")
    (broken / "e.md").write_text("fine")
    known = KnownFiles(settled_ns=0)
    for _ in range(2):
        with ParsingProcess(known=known) as process:
            assert len(read_source(broken, process=process).failures) == 1
            assert process.is_running
