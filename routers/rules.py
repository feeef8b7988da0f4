"""`kind: rules`: YAML conditions on what a request is. A few microseconds, exact, the first tier of a cascade.

A route belongs to a request when one of its matches holds; a match holds when all its conditions do. When several
routes match, the first in YAML order gets 1.0, the second 1/2, the third 1/3 ...: order decides, and the Record shows
who else would have taken it. No match: no scores, the next tier is asked. Rules cannot tell what is out of scope.

A `text` condition runs on Rust's regex engine (through jsonschema-rs, which is here anyway): linear time whatever the
pattern, no look-around and no back-references. A text of 30 characters can make Python's `re` hang the event loop.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import translate
from functools import cached_property
from operator import not_
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, field_validator, model_validator

from routers.base import RouterConfig, RouterResources, RouteSpec
from wire.types import Query, Scores

TEXT_LIMIT = 8192
"""Characters of `Query.text` that a `text` condition reads, from the start."""
REGEX_BYTES = 1 << 20
"""A compiled `text` pattern may take this much memory; a larger one is a configuration mistake."""

HEX = re.compile(r"[0-9a-f]{16}")
WILD = re.compile(r"[*?[]")
"""What makes a glob more than a name."""

Holds = Callable[[Any], object]
"""Does a value meet a condition? It does where what comes back is true."""


class Condition(NamedTuple):
    """On one attribute of a Query. Nearly all of them are one call into C."""

    attribute: str
    holds: Holds

    def __call__(self, query: Query) -> bool:
        return bool(self.holds(getattr(query, self.attribute)))


def _hash_or_flag(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    given = value if isinstance(value, list | tuple) else (value,)
    if not given or not all(isinstance(one, str) and HEX.fullmatch(one) for one in given):
        raise ValueError("16 hex digits as `weir explain` prints them, in quotes; or several; or true or false")
    return value


def _one_or_several(value: Any) -> Any:
    given = value if isinstance(value, list | tuple) else (value,)
    if value is not None and (not given or not all(isinstance(one, str) and one for one in given)):
        raise ValueError("a string, or a list of strings")
    return value


Hash = Annotated[bool | str | tuple[str, ...], BeforeValidator(_hash_or_flag)]
"""A hash, any of several, `true` for "there is one", `false` for "there is none"."""
Globs = Annotated[str | tuple[str, ...], BeforeValidator(_one_or_several)]
"""One shell pattern (`*`, `?`, `[abc]`; case counts) or several, of which one must match the whole value."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Part):
    """Both ends included; a missing end is open."""

    min: int | None = Field(None, ge=0)
    max: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is larger than max {self.max}: nothing can match")
        return self

    def holds(self, value: int) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class ToolNames(_Part):
    """Globs over the names of the offered tools."""

    any: tuple[str, ...] = Field((), description="one of these is offered")
    all: tuple[str, ...] = Field((), description="each of these is offered")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.any and not self.all:
            raise ValueError("give any, all or both")
        return self


class Match(_Part):
    """Conditions on a request; all that are given must hold. Pure: `matches(match, query)`."""

    model: Globs | None = Field(None, description="model name that the caller asked for")
    header: dict[str, Globs] = Field({}, description="request header, by name: glob over its value; '*': it is there")
    system: Hash | None = Field(None, description="hash of the system and developer messages")
    signature: Hash | None = Field(None, description="hash of (system, tools, schema)")
    tools: Hash | None = Field(None, description="hash of the tool set; true: any, false: none")
    tool_names: ToolNames | None = Field(None, description="names of offered tools: {any: [...], all: [...]}")
    schema_: Hash | None = Field(
        None, alias="schema", description="hash of the answer's schema; true: any, false: none"
    )
    schema_name: Globs | None = Field(None, description="name of the answer's schema")
    turns: Range | None = Field(None, description="number of user messages")
    chars: Range | None = Field(None, description="characters in all messages together")
    text_chars: Range | None = Field(None, description="characters in the last user message")
    text: str | None = Field(
        None, min_length=1, description=f"regex found in the first {TEXT_LIMIT} characters of the last user message"
    )
    modality: Globs | None = Field(None, description="kinds of content that the request has, all of them")
    tenant: Globs | None = Field(None, description="name of the caller's key")
    session: Globs | None = Field(None, description="x-session-id")
    stream: StrictBool | None = Field(None, description="the caller wants a stream")
    tool_loop: StrictBool | None = Field(None, description="the last message is a tool's result")

    @field_validator("header")
    @classmethod
    def _lower(cls, value: dict[str, Globs]) -> dict[str, Globs]:
        return {name.lower(): globs for name, globs in value.items()}

    @field_validator("text")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            _regex(value)
        return value

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.tests:
            raise ValueError("an empty match would take every request; that is what router.default is for")
        return self

    @cached_property
    def tests(self) -> Mapping[str, Condition]:
        """The given conditions by name, compiled once. Headers are one condition."""
        return {name: Condition(attribute, holds) for name, attribute, holds in _tests(self)}

    def __getstate__(self) -> dict[Any, Any]:
        """Without what is compiled: a configuration travels to other processes."""
        state = super().__getstate__()
        return {**state, "__dict__": {name: value for name, value in state["__dict__"].items() if name != "tests"}}


def matches(match: Match, query: Query) -> bool:
    """Every given condition of `match` holds for `query`."""
    return all(test(query) for test in match.tests.values())


def _tests(match: Match) -> Iterator[tuple[str, str, Holds]]:
    """Each condition's name, the attribute of a Query that it is about, and what must hold of that. In the order of their cost: the cheap
    ones first, the regex last."""
    for name in ("stream", "tool_loop"):
        wanted = getattr(match, name)
        if wanted is not None:
            yield name, name, frozenset({wanted}).__contains__
    for name in ("system", "signature", "tools", "schema"):
        digest = getattr(match, "schema_" if name == "schema" else name)
        if digest is not None:
            yield name, name, _hash(digest)
    for name in ("turns", "chars"):
        span = getattr(match, name)
        if span is not None:
            yield name, name, span.holds
    if match.text_chars is not None:
        yield "text_chars", "text", _length(match.text_chars)
    if match.modality is not None:
        yield "modality", "modality", frozenset(_many(match.modality)).issubset
    for name in ("model", "schema_name", "tenant", "session"):
        globs = getattr(match, name)
        if globs is not None:
            yield name, name, _glob(globs)
    if match.tool_names is not None:
        yield "tool_names", "tool_names", _tool_names(match.tool_names)
    if match.header:
        yield "header", "headers", _headers({name: _glob(globs) for name, globs in match.header.items()})
    if match.text is not None:
        yield "text", "text", _text(_regex(match.text))


def _many(value: Globs) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _hash(wanted: bool | Globs) -> Holds:
    if isinstance(wanted, bool):
        return bool if wanted else not_
    return frozenset(_many(wanted)).__contains__


def _length(span: Range) -> Holds:
    return lambda text: span.holds(len(text))


def _glob(globs: Globs) -> Holds:
    """Names in full are looked up, patterns are one expression: 0.1 and 0.3 us instead of 0.9."""
    if not any(WILD.search(glob) for glob in _many(globs)):
        return frozenset(_many(globs)).__contains__
    # fnmatch.translate keeps `*` linear (atomic look-ahead), so no value can make a glob hang.
    return re.compile("|".join(map(translate, _many(globs)))).match


def _tool_names(wanted: ToolNames) -> Holds:
    one = _glob(wanted.any) if wanted.any else None
    each = tuple(_glob(glob) for glob in wanted.all)

    def test(names: Sequence[str]) -> bool:
        return (one is None or any(map(one, names))) and all(any(map(glob, names)) for glob in each)

    return test


def _headers(wanted: Mapping[str, Holds]) -> Holds:
    def test(headers: Mapping[str, str]) -> bool:
        return all(name in headers and glob(headers[name]) for name, glob in wanted.items())

    return test


def _regex(pattern: str) -> Callable[[str], bool]:
    """`found(text)` in linear time. Raises ValueError for a pattern that cannot be compiled or is too large."""
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(size_limit=REGEX_BYTES, dfa_size_limit=REGEX_BYTES)
    try:
        found = jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options).is_valid
    except (ValueError, UnicodeError) as exc:
        raise ValueError(
            f"no regex of Rust's regex crate (no look-around, no back-references), or too large: {exc}"
        ) from exc

    def test(text: str) -> bool:
        try:
            return found(text)
        except (ValueError, UnicodeError):  # half a surrogate pair: no valid text, so it cannot cross into Rust
            return found(text.encode("utf-8", "replace").decode())

    return test


def _text(found: Callable[[str], bool]) -> Holds:
    return lambda text: found(text[:TEXT_LIMIT])


class RulesConfig(RouterConfig):
    """Nothing of its own: the rules stand at the routes, as `match:`."""

    kind: str = "rules"


class Rules:
    """Scores the routes whose `match:` holds. See the file's head."""

    Config = RulesConfig

    def __init__(self, config: RulesConfig, routes: Sequence[RouteSpec], resources: RouterResources) -> None:
        """Raises pydantic.ValidationError for a `match:` that cannot be read."""
        # The conditions themselves, not the Match objects: a third of the time where there are a hundred routes.
        self._rules = tuple(
            (route.name, tuple(tuple(match.tests.values()) for match in found))
            for route in routes
            if (found := read_matches(route.match))
        )

    async def score(self, query: Query) -> Scores:
        scores: dict[str, float] = {}
        for name, found in self._rules:
            for conditions in found:
                for attribute, holds in conditions:
                    if not holds(getattr(query, attribute)):
                        break
                else:  # all conditions of one of the matches hold
                    scores[name] = 1 / (len(scores) + 1)
                    break
        return Scores(scores, None, "rules")


def read_matches(value: Any) -> tuple[Match, ...]:
    """`match:` as it may stand at a route: nothing, one table or several; a table may already be a `Match`."""
    if not value:
        return ()
    tables = (value,) if isinstance(value, Mapping | Match) else value
    return tuple(table if isinstance(table, Match) else Match.model_validate(table) for table in tables)
