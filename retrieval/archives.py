"""Look into a ZIP archive before anything opens it: a few bytes may unpack to more than a machine holds."""

from __future__ import annotations

import io
import zipfile
import zlib

from retrieval.encodings import foreign_kind
from retrieval.errors import UnparsableDocumentError
from retrieval.limits import ReadLimits

#: A Word document has some dozens of members, and one for each picture.
MOST_MEMBERS = 10_000
_PIECE_BYTES = 1 << 20


def check_archive(name: str, content: bytes, limits: ReadLimits) -> None:
    """Refuse an archive that is damaged, encrypted or a bomb: by what it declares, then by what comes out."""
    if not content.startswith(b"PK"):
        problem = f"is {foreign_kind(content) or 'no Office document'}"
        fix = "save it as .docx without a password, or give it the suffix of its kind"
        raise UnparsableDocumentError(name, "content", problem, fix)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                problem = f"has {len(members)} members, more than {MOST_MEMBERS}"
                raise UnparsableDocumentError(name, "archive", problem, "save the document again")
            if any(member.flag_bits & 1 for member in members):
                raise UnparsableDocumentError(name, "content", "is encrypted", "save it without a password")
            limits.check_unpacked(name, sum(member.file_size for member in members))
            unpacked = 0
            for member in members:
                with archive.open(member) as file:
                    while piece := file.read(_PIECE_BYTES):
                        unpacked += len(piece)
                        limits.check_unpacked(name, unpacked)
    # NotImplementedError: zipfile does not know the compression, or the version of the format.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as exc:
        problem = f"is a damaged archive: {exc}"
        raise UnparsableDocumentError(name, "content", problem, "save or download it again") from exc
