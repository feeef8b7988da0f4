"""What can be wrong with a configuration, as values: a `Mistake` knows its file and line, a `ConfigError` has all of them.

No message quotes a value that could be a secret: keys, names of things and the words `true` and `null` are all that is repeated.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal

from msgspec import Struct

Where = tuple[str | int, ...]
"""The way from the root of the configuration to a value: ("routes", "intents", "ladder", 1)."""

Severity = Literal["error", "warning"]


class Place(Struct, frozen=True):
    file: str
    line: int
    """Counted from 1; 0 when it is about the file as a whole."""


class Mistake(Struct, frozen=True):
    """One thing that is wrong (error) or probably not meant (warning)."""

    file: str
    line: int
    where: str
    """Dotted: `routes.intents.ladder.1`; "" when it is about the whole file."""
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.where, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used. `mistakes` are all that were found, warnings included, in the order of the file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class LineMap:
    """Where in which file every key and value of the configuration stands."""

    def __init__(self, places: Mapping[Where, Place], whole: Place) -> None:
        self._places = places
        self._whole = whole

    def at(self, where: Where) -> Place:
        """The place of `where`, else that of the nearest thing around it that is written down."""
        while where:
            if where in self._places:
                return self._places[where]
            where = where[:-1]
        return self._whole

    def mistake(self, where: Where, message: str, severity: Severity = "error") -> Mistake:
        """A mistake about `where`, with the line at which it is written."""
        place = self.at(where)
        return Mistake(place.file, place.line, dotted(where), message, severity)


def dotted(where: Where) -> str:
    return ".".join(str(part) for part in where)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean 'cloud'?)`, or the list of what there is; "" when there is nothing."""
    names = [str(name) for name in known]
    near = get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {near[0]!r}?)"
    if not names:
        return ""
    shown = ", ".join(sorted(names)[:20]) + (", ..." if len(names) > 20 else "")
    return f" (there is {shown})" if len(names) == 1 else f" (there are {shown})"
