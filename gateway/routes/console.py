"""The console: static files, no key. The page asks the API with the key that its reader gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

from gateway.errors import NotFoundError

router = APIRouter(prefix="/console", include_in_schema=False)

_FOLDER: Final = Path(__file__).resolve().parent.parent / "console"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


@router.get("")
@router.get("/")
async def index() -> FileResponse:
    """The page."""
    return _file("index.html")


@router.get("/review")
async def review() -> FileResponse:
    """The page on which people review turns."""
    return _file("review.html")


@router.get("/reports")
async def reports() -> FileResponse:
    """The page that shows what evaluation has reported."""
    return _file("reports.html")


@router.get("/{name}")
async def asset(name: str) -> FileResponse:
    """A file beside the page."""
    return _file(name)


def _file(name: str) -> FileResponse:
    path = _FOLDER / name
    if path.parent != _FOLDER or path.suffix not in _TYPES or not path.is_file():
        raise NotFoundError(f"The console has no file {name!r}.", field="path", fix="Open /console.")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=dict(_HEADERS))
