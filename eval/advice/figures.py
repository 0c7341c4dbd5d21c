"""Numbers of the page: each is read from the advice's JSON by its path, and carries that path with it.

So nothing on the page can differ from the JSON, and a test can hold every figure against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import floor, log10
from typing import Any

from eval.advice.markup import Markup, tag

Place = str | int


class Figures:
    """The JSON of an advice, or a part of it."""

    def __init__(self, whole: Mapping[str, Any], path: tuple[Place, ...] = ()) -> None:
        self._whole = whole
        self._path = path

    @property
    def value(self) -> Any:
        """What stands at this place."""
        found: Any = self._whole
        for place in self._path:
            found = found[place]
        return found

    def at(self, *places: Place) -> Figures:
        """A part of it."""
        return Figures(self._whole, (*self._path, *places))

    def each(self, *places: Place) -> Iterator[Figures]:
        """The items of a list, or the values of an object."""
        part = self.at(*places)
        keys = part.value if isinstance(part.value, dict) else range(len(part.value))
        yield from (part.at(key) for key in keys)

    def text(self, *places: Place) -> str:
        """A string of the JSON."""
        return str(self.at(*places).value)

    @property
    def key(self) -> str:
        """The last place, for values of an object."""
        return str(self._path[-1])

    @property
    def path(self) -> str:
        """Where it stands, as the page's attributes have it."""
        return ".".join(map(str, self._path))

    def count(self, *places: Place, element: str = "data", **attributes: Any) -> Markup:
        """A whole number."""
        part = self.at(*places)
        return part._shown(f"{part.value:,.0f}", element, attributes)

    def percent(self, *places: Place, element: str = "data", **attributes: Any) -> Markup:
        """A share."""
        part = self.at(*places)
        return part._shown(f"{part.value * 100:.0f} %", element, attributes)

    def points(self, *places: Place, element: str = "data", **attributes: Any) -> Markup:
        """A difference of shares, with its sign."""
        part = self.at(*places)
        return part._shown(f"{part.value * 100:+.0f}", element, attributes)

    def money(self, *places: Place, element: str = "data", **attributes: Any) -> Markup:
        """An amount; small ones keep three figures."""
        part = self.at(*places)
        return part._shown(_money(part.value), element, attributes)

    def _shown(self, text: str, element: str, attributes: Mapping[str, Any]) -> Markup:
        return tag(element, text, data_path=self.path, data_value=repr(self.value), **attributes)


def _money(amount: float) -> str:
    if abs(amount) >= 100:
        return f"{amount:,.0f}"
    if abs(amount) >= 1 or amount == 0:
        return f"{amount:.2f}"
    return f"{amount:.{2 - floor(log10(abs(amount)))}f}"
