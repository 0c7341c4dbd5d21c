"""A small PDF, written by hand: lines of text in one font, as many pages as wanted."""

from __future__ import annotations

from collections.abc import Sequence


def pdf(pages: Sequence[Sequence[tuple[float, str]]], *, info: str = "", catalog: str = "") -> bytes:
    """Bytes of a PDF. A page is lines of (size of type, text); an empty text leaves a gap."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, lines in enumerate(pages):
        drawn, top = "", 780.0
        for size, text in lines:
            top -= size * 1.2
            words = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
            drawn += f"BT /F1 {size} Tf 1 0 0 1 50 {top} Tm ({words}) Tj ET\n"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}endstream")
    objects.append(f"<< {info} >>")
    content, places = "%PDF-1.7\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(content))
        content += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>"
    if "/Encrypt" in info:
        trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Encrypt {len(objects)} 0 R /ID [<00> <00>] >>"
    whole = (
        f"{content}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n{trailer}\nstartxref\n"
    )
    return f"{whole}{len(content)}\n%%EOF\n".encode("latin-1")


def encrypted_pdf() -> bytes:
    """One that asks for a password; nobody knows which."""
    secret = f"<{'41' * 32}>"
    fields = f"/Encrypt true /Filter /Standard /V 1 /R 2 /O {secret} /U {secret} /P -4"
    return pdf([[(12, "secret")]], info=fields)
