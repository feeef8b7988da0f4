"""An answer > about fifteen numbers that tell right answers from wrong ones. Pure; under a millisecond for an answer of 40 tokens.

Only tokens that the model was free to choose count: vLLM reports log-probabilities after the grammar's mask, where forced tokens look
certain. All log-probabilities enter as log-odds, where "sure" and "very sure" stay apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import expm1, log, log1p
from typing import Any

import orjson
from msgspec import Struct

from gateway.canonical import Shape
from gateway.confidence.margin import TOP, lead, margin
from gateway.confidence.scan import STRUCTURE, VALUE, Leaf
from gateway.confidence.tokens import Answer, Token, answer
from wire.types import Constraint, Draft, Json

VERSION = 1
"""Of what NAMES and SECOND mean. A scorer that was fitted under another version knows nothing."""

NAMES = (
    "low", "mean", "tenth", "joint", "worst_field", "start_margin", "enum_margin", "name_margin", "structure",
    "grounded", "all_grounded", "fields", "tokens", "surprise", "empty", "placeholder",
)  # fmt: skip
"""
Log-odds, of free tokens:
    low, mean, tenth    smallest, mean and 10 % quantile of the value tokens' log-probabilities
    joint               all tokens of the answer together: what the model itself believes
    worst_field         the tokens of one value together, smallest over the values
    start_margin        a value's first free token against its best alternative, smallest
    enum_margin         the value chosen against the best other one that the schema allows, smallest
    name_margin         the function chosen against the best other one
    structure           smallest of the tokens that decide which member comes next, or that the object ends
Content:
    grounded            share of string values that stand verbatim in the user's or a tool's message; 1 where there are none
    all_grounded        1 if all do
    fields, tokens      log(1 + number) of values and of free value tokens
    surprise            nats: how unusual it is which members are there and which are not, by the fitting set's frequencies
    empty, placeholder  1 if a string is empty, or reads like a default ("N/A", "unknown")
"""

SECOND = ("agrees", "assent", "dissent")
"""Of a second model's answer, where there is one:
    agrees              1 if it says the same
    assent, dissent     log-odds that it gives its own answer, if that is the same, if it is another one; else 0. It does not say: 0
"""

RARE = 0.005
"""Frequencies are clipped to [RARE, 1 - RARE]."""
PLACEHOLDERS = frozenset(
    {"n/a", "na", "none", "null", "unknown", "undefined", "string", "todo", "tbd", "-", "?", "..."}
)


class Second(Struct, frozen=True):
    """What a second model said to the same request."""

    agrees: bool
    """The same, in canonical form."""
    probability: float | None
    """How likely it thinks itself right; None: it does not say."""


class Evidence(Struct, frozen=True):
    """An answer and what it answers to: all that a probability may be made of."""

    draft: Draft
    constraint: Constraint | None = None
    tools: Mapping[str, Json | None] = {}
    """Tool > the JSON Schema of its parameters."""
    messages: Sequence[Json] = ()
    """The request's: values that stand in them verbatim are less likely made up."""
    second: Second | None = None
    """None: there is none, or nothing is known of it."""


Priors = Mapping[str, Mapping[str, float]]
"""Task (tool's name, "" for an answer that is JSON) > member > share of right answers that have it."""
_NO_PRIORS: Priors = {}


def features(evidence: Evidence, priors: Priors = _NO_PRIORS) -> tuple[float, ...] | None:
    """Numbers in the order of NAMES, then of SECOND where there is a second answer, all finite. None when the answer cannot be judged by
    its tokens (see tokens.answer)."""
    found = answer(evidence.draft, evidence.constraint)
    if found is None:
        return None
    said = _said(evidence, found.kind)
    tokens, values = _of_tokens(found, evidence)
    strings, count = _strings(said, evidence)
    held = _grounded(strings, evidence.messages)
    return (
        *tokens,
        held,
        float(held == 1.0),
        log1p(count),
        log1p(values),
        _surprise(said, priors),
        float(any(not text.strip() for text in strings)),
        float(any(text.strip().casefold() in PLACEHOLDERS for text in strings)),
        *_second(evidence.second),
    )


def members(evidence: Evidence) -> list[tuple[str, frozenset[str]]]:
    """(task, names of the top members) of every call, or of an answer that is a JSON object: what priors are counted from."""
    kind = "calls" if evidence.draft.tool_calls else "json"
    return [(task, frozenset(value)) for task, value in _said(evidence, kind) if isinstance(value, dict)]


def odds(logprob: float) -> float:
    """Log-odds of a log-probability, within +-TOP."""
    if logprob >= -1e-9:
        return TOP
    return max(-TOP, min(TOP, logprob - log(-expm1(logprob))))


def _second(second: Second | None) -> tuple[float, ...]:
    if second is None:
        return ()
    sure = second_odds(second.probability)
    return (1.0, sure, 0.0) if second.agrees else (0.0, 0.0, sure)


def second_odds(probability: float | None) -> float:
    """Log-odds that a second model gives its own answer; 0, even odds, where it does not say."""
    return 0.0 if probability is None else odds(log(probability)) if probability > 0 else -TOP


# --- tokens ---


def _of_tokens(found: Answer, evidence: Evidence) -> tuple[tuple[float, ...], int]:
    """The first nine of NAMES, and the number of free value tokens."""
    values = sorted(t.logprob for t in found.tokens if t.free and t.role == VALUE)
    structure = [t.logprob for t in found.tokens if t.free and t.role == STRUCTURE]
    starts, enums, names, fields = [TOP], [TOP], [TOP], [0.0]
    for part in found.parts:
        shape = _shape(part.task, found.kind, evidence)
        if part.name is not None:
            tools = [name.encode() for name in evidence.tools]
            names.append(margin(_within(found.tokens, part.name), part.name, tools, found.raw))
        for leaf in part.leaves:
            inside = _within(found.tokens, leaf)
            fields.append(sum(t.logprob for t in inside if t.free))
            starts.extend([lead(t) for t in inside if t.free][:1])
            legal = _choices(evidence) if leaf.kind == "text" else _legal(_at(shape, leaf), leaf.kind == "string")
            if legal:
                enums.append(margin(inside, leaf, legal, found.raw))
    numbers = (
        odds(values[0] if values else 0.0),
        odds(sum(values) / max(1, len(values))),
        odds(values[len(values) // 10] if values else 0.0),
        odds(sum(values) + sum(structure)),
        odds(min(fields)),
        min(starts),
        min(enums),
        min(names),
        odds(min(structure, default=0.0)),
    )
    return numbers, len(values)


def _within(tokens: Sequence[Token], leaf: Leaf) -> list[Token]:
    """The tokens that cover a byte of the leaf; its closing quote, or what ends a text, included."""
    end = leaf.end + (leaf.kind != "atom")
    return [t for t in tokens if t.role == VALUE and t.start < end and (t.end > leaf.start or t.start == leaf.start)]


def _shape(task: str, kind: str, evidence: Evidence) -> Shape:
    if kind == "calls":
        schema = evidence.tools.get(task)
    else:
        constraint = evidence.constraint
        schema = constraint.value if constraint is not None and constraint.kind == "schema" else None
    return Shape(schema, schema)


def _at(shape: Shape, leaf: Leaf) -> Shape:
    for step in leaf.path:
        shape = _step(shape, step)
    return shape


def _step(shape: Shape, step: str | int) -> Shape:
    if isinstance(step, int):
        return shape.part("items").below("items")
    return shape.part("properties").below("properties", step)


def _legal(shape: Shape, strings: bool) -> list[bytes]:
    """What an enum or a boolean may be, as JSON writes it, strings without their quotes; [] when it may be anything."""
    listed = shape.here.get("enum")
    if not isinstance(listed, list | tuple):
        listed = [True, False] if shape.here.get("type") == "boolean" else []
    written = []
    for value in listed:
        if isinstance(value, str) != strings:
            continue
        try:
            written.append(orjson.dumps(value)[1:-1] if strings else orjson.dumps(value))
        except TypeError:  # an integer past 64 bits: no alternatives are better than wrong ones
            return []
    return written


def _choices(evidence: Evidence) -> list[bytes]:
    constraint = evidence.constraint
    if constraint is not None and constraint.kind == "choice":
        return [str(label).encode() for label in constraint.value]
    if constraint is not None and constraint.kind == "schema":
        shape = Shape(constraint.value, constraint.value)
        return [b'"' + value + b'"' for value in _legal(shape, True)] + _legal(shape, False)
    return []


# --- content ---


def _said(evidence: Evidence, kind: str) -> list[tuple[str, Any]]:
    """(task, decoded arguments) of every call, or one decoded answer, or one text. What is no JSON is None."""
    draft = evidence.draft
    if kind == "calls":
        return [(call.name, _decoded(call.arguments or "{}")) for call in draft.tool_calls]
    return [("", _decoded(draft.text) if kind == "json" else draft.text)]


def _decoded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _strings(said: Sequence[tuple[str, Any]], evidence: Evidence) -> tuple[list[str], int]:
    """The strings that were extracted rather than chosen from a list, and the number of values."""
    kind = "calls" if evidence.draft.tool_calls else "json"
    strings, count = [], 0
    for task, value in said:
        for leaf, shape in _walk(value, _shape(task, kind, evidence)):
            count += 1
            chosen = isinstance(value, str) and _choices(evidence)
            if isinstance(leaf, str) and not chosen and "enum" not in shape.here and "const" not in shape.here:
                strings.append(leaf)
    return strings, count


def _walk(value: Any, shape: Shape) -> Iterator[tuple[Any, Shape]]:
    """Leaves with their schemas. A loop, not a recursion: a model may nest as deep as it likes."""
    waiting = [(value, shape)]
    while waiting:
        value, shape = waiting.pop()
        if isinstance(value, dict):
            waiting.extend((inner, _step(shape, key)) for key, inner in value.items())
        elif isinstance(value, list):
            waiting.extend((inner, _step(shape, 0)) for inner in value)
        else:
            yield value, shape


def _grounded(strings: Sequence[str], messages: Sequence[Json]) -> float:
    if not strings:
        return 1.0
    source = "\n".join(_plain(text) for text in _sources(messages))
    return sum(_stands_in(_plain(text), source) for text in strings) / len(strings)


def _sources(messages: Sequence[Json]) -> Iterator[str]:
    for message in messages:
        if message.get("role") not in ("user", "tool", "function"):
            continue
        content = message.get("content")
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list | tuple) else ():
            text = part.get("text") if isinstance(part, Mapping) else None
            if isinstance(text, str):
                yield text


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _stands_in(value: str, source: str) -> bool:
    """As whole words: "art" does not stand in "party"."""
    at = source.find(value) if value else -1
    while at >= 0:
        end = at + len(value)
        inside = (at > 0 and source[at - 1].isalnum() and value[0].isalnum()) or (
            end < len(source) and source[end].isalnum() and value[-1].isalnum()
        )
        if not inside:
            return True
        at = source.find(value, at + 1)
    return False


def _surprise(said: Sequence[tuple[str, Any]], priors: Priors) -> float:
    """Nats. A member that no right answer had is RARE; a task without priors surprises nobody."""
    total = 0.0
    for task, value in said:
        usual = priors.get(task)
        if usual is None or not isinstance(value, dict):
            continue
        for name, share in usual.items():
            held = min(1 - RARE, max(RARE, share))
            total -= log(held if name in value else 1 - held)
        total -= log(RARE) * sum(name not in usual for name in value)
    return total
