"""`grounded`: numbers, names and quotes of the answer occur in the source.

For summaries and answers out of given documents: what a model makes up there is often a name or a number (FRANK, Pagnoni et al., arXiv
2104.13346). The source is what the request brought: the texts of its messages, tool results among them. What is looked for:

    numbers   as values: 1,000 = 1000 = 1.000 = 1 000, 12.50 = 12,5, 45 % = 0.45, 1.2 million = 1200000, 3 = three; signs do not count.
              Dates, times, fractions and versions (2024-05-01, 12:30, 3/4, 1.2.3) as they stand. The number of a list's item is its place.
    names     capitalised words that do not begin a sentence; case, plural and possessive do not count, nor do diacritics. Headings and
              "Label:" at the head of a line are no names.
    quotes    two words or more between marks of quotation, word for word but for case, spaces and the last punctuation; "..." leaves
              something out.

An answer that is JSON is looked at value by value, without its keys; what its schema lists (`enum`, `const`) was given.

What this cannot see: a number that was *computed* (a sum, a difference, a count) is in no source and is flagged; so are a date in another
form, a translated or abbreviated name, and a word that the language capitalises ("German" where the source says "Germany"). `allow` and
`tolerate` are for those, or leaving that kind out of `look_for`. And what is in the source can still be said of the wrong thing.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import orjson
from pydantic import Field

from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from gateway.validators.claims.numbers import known, numbers
from gateway.validators.claims.words import apart, folded, names, pieces, quoted, quotes
from wire.types import Constraint, Draft, Json

Kind = Literal["numbers", "names", "quotes"]
Where = Literal["user", "tool", "system", "assistant"]

LONGEST_SOURCE = 200_000
"""Characters, about 60 ms. A longer source is not looked through: undecided."""
MOST = 500
"""Of one answer and kind, so many are looked up."""
_ROLES = {"developer": "system", "function": "tool"}


class Grounded:
    soft = True
    """What was computed or put in other words is unproven, not wrong; the top rung is not asked."""

    class Config(ValidatorConfig):
        look_for: tuple[Kind, ...] = Field(
            ("numbers", "names", "quotes"), min_length=1, description="what must occur in the source"
        )
        where: tuple[Where, ...] = Field(
            ("user", "tool", "system"), min_length=1, description="whose messages are the source; developer is system"
        )
        allow: tuple[str, ...] = Field((), description="numbers and names that need no source")
        tolerate: int = Field(0, ge=0, description="so many without a source are let pass")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._allowed = "\n".join(config.allow)

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """FAIL (unsupported) with how many of which kind; UNDECIDED where part of the source is no text, or where it is too long."""
        if not draft.whole or not draft.text or draft.refusal:
            return PASS
        said, fields = _said(draft.text, ask.constraint)
        if not said:
            return PASS
        source, all_text = _source(ask.messages, self.config.where)
        if len(source) > LONGEST_SOURCE:
            return _undecided(f"the source is longer than {LONGEST_SOURCE} characters")
        missing = _missing(said, folded(f"{source}\n{self._allowed}"), self.config.look_for, fields=fields)
        if sum(missing.values()) <= self.config.tolerate:
            return PASS
        told = " and ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in missing.items() if count)
        if not all_text:
            return _undecided(f"{told} not in the source's text, and part of the source is no text")
        return Verdict("fail", "unsupported", "grounded", f"{told} not in the source")


def _undecided(why: str) -> Verdict:
    return Verdict("undecided", "unsupported", "grounded", why)


def _said(text: str, constraint: Constraint | None) -> tuple[list[str], bool]:
    """The answer's text; of a JSON document its values, and True."""
    if constraint is not None and constraint.kind == "choice":
        return [], False
    if text.lstrip()[:1] not in ("{", "["):
        return [text], False
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [text], False
    given = _given(constraint.value) if constraint is not None and constraint.kind == "schema" else frozenset()
    return [value for value in _values(document) if value not in given], True


def _values(document: Any) -> Iterator[str]:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{value:f}" if isinstance(value, float) else str(value)
        elif isinstance(value, (list, dict)):
            waiting.extend(value if isinstance(value, list) else value.values())


def _given(schema: Any) -> frozenset[str]:
    """What a schema lists."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found.update(_values([value.get("enum"), value.get("const")]))
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return frozenset(found)


def _source(messages: Sequence[Json], where: Sequence[str]) -> tuple[str, bool]:
    """The texts of those messages, and whether they hold nothing else."""
    texts: list[str] = []
    all_text = True
    for message in messages:
        role = str(message.get("role"))
        if _ROLES.get(role, role) not in where:
            continue
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                all_text = False
    return "\n".join(texts), all_text


def _missing(said: Sequence[str], source: str, kinds: Iterable[Kind], *, fields: bool) -> dict[Kind, int]:
    """How many different ones of each kind are not in the folded `source`."""
    missing: dict[Kind, int] = {}
    for kind in kinds:
        if kind == "numbers":
            missing[kind] = len(_no_numbers(said, source, fields=fields))
        elif kind == "names":
            words = set(pieces(source))
            claimed = {folded(name) for name in islice((n for text in said for n in names(text, value=fields)), MOST)}
            missing[kind] = sum(not _named(name, words) for name in claimed)
        else:
            claimed = {folded(quote) for quote in islice((q for text in said for q in quotes(text)), MOST)}
            missing[kind] = sum(not quoted(quote, source) for quote in claimed)
    return missing


def _no_numbers(said: Sequence[str], source: str, *, fields: bool) -> set[frozenset[str]]:
    values = known(source)
    claimed = islice((number for text in said for number in numbers(apart(text), listed=not fields)), MOST)
    return {
        number.values
        for number in claimed
        if values.isdisjoint(number.values) and not (number.several and values.issuperset(number.parts))
    }


def _named(name: str, words: set[str]) -> bool:
    return all(
        len(piece) < 2 or not words.isdisjoint((piece, f"{piece}s", piece.removesuffix("s"), piece.removesuffix("es")))
        for piece in pieces(name)
    )
