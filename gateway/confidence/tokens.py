"""A draft's tokens > which of them decided what the answer says. Pure.

A server reports every token it made: tags, structure, keys, values, what a grammar forced. The tokens' bytes are joined to the raw
answer, the answer is found in it, and each token gets its span and its role:

    raw     <tool_call>\\n{"name": "GetWeather", "arguments": {"city": "Paris"}}\\n</tool_call>
    value                          GetWeather"                         Paris"
    structure             everything else between the outermost braces

Only the final answer counts: reasoning before it dilutes.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from msgspec import Struct

from gateway.confidence.scan import KEY, OUTSIDE, STRUCTURE, VALUE, Leaf, Path, Scanner, Segment
from wire.types import Constraint, Draft, Json, ToolCall

MASKED = -9000.0
"""At or below this a candidate was not legal: vLLM writes -9999.0 for it."""
_END_OF_REASONING = b"</think>"


class Token(Struct, frozen=True):
    start: int
    """Bytes of the raw answer, the end excluded. Equal for a token without bytes."""
    end: int
    role: int
    """VALUE: covers at least one byte of a value, or decides that a string or text ends. STRUCTURE: of the answer, but no value and more
    than white space. OUTSIDE: the rest."""
    logprob: float
    free: bool
    said: Json
    """As the server said it, with its alternatives."""


class Part(Struct, frozen=True):
    """One call, or the whole of an answer that is JSON or text."""

    task: str
    """The tool's name; "" for an answer."""
    name: Leaf | None
    """Where the function's name stands, if the model wrote it."""
    leaves: tuple[Leaf, ...]
    """Of the arguments or the answer; their paths begin there. Text is one leaf with the path ()."""


class Answer(Struct, frozen=True):
    """A draft's tokens and what they say."""

    kind: str
    """calls, json or text."""
    raw: bytes
    tokens: tuple[Token, ...]
    parts: tuple[Part, ...]


def answer(draft: Draft, constraint: Constraint | None = None) -> Answer | None:
    """Find the answer of `draft` in its tokens.

    None when it cannot be judged by them: not found there, a token of it has no log-probability, no alternatives were reported, or none
    of its tokens was free.
    """
    if not all(isinstance(said, Mapping) for said in draft.logprobs):
        return None
    raw, spans = _joined(draft.logprobs)
    after = raw.rfind(_END_OF_REASONING)
    begin = after + len(_END_OF_REASONING) if after >= 0 else 0
    kind, parts, roles = _found(draft, constraint, raw, begin)
    if not parts:
        return None
    tokens: list[Token] = []
    free_ones, ended = 0, False
    for said, (start, end) in zip(draft.logprobs, spans, strict=True):
        role = _role(raw, roles, start, end)
        if kind == "text" and start >= len(roles) and not ended:
            role, ended = VALUE, True  # here it was decided that the text ends
        known = logprob(said)
        if role != OUTSIDE:
            if known is None or not said.get("top_logprobs"):
                return None
            free_ones += free(said)
        tokens.append(Token(start, end, role, known or 0.0, role != OUTSIDE and free(said), said))
    return Answer(kind, raw, tuple(tokens), parts) if free_ones else None


def _joined(logprobs: Sequence[Json]) -> tuple[bytes, list[tuple[int, int]]]:
    pieces = [content(token) for token in logprobs]
    spans, at = [], 0
    for piece in pieces:
        spans.append((at, at + len(piece)))
        at += len(piece)
    return b"".join(pieces), spans


def _role(raw: bytes, roles: bytearray, start: int, end: int) -> int:
    if start == end:  # the first tokens of a split character may come without bytes: they belong to what follows
        return VALUE if roles[start : start + 1] == bytes([VALUE]) else OUTSIDE
    seen = roles[start:end]
    if VALUE in seen:
        return VALUE
    if (KEY in seen or STRUCTURE in seen) and not raw[start:end].isspace():
        return STRUCTURE
    return OUTSIDE


def _found(
    draft: Draft, constraint: Constraint | None, raw: bytes, begin: int
) -> tuple[str, tuple[Part, ...], bytearray]:
    """Kind, parts, and a role for every byte up to the answer's end."""
    kind = _kind(draft, constraint)
    if kind == "text":
        return (kind, *_text(draft, raw, begin))
    scanner = Scanner(keep=True)
    roles = bytearray(begin)
    roles.extend(scanner.feed(byte) for byte in raw[begin:])
    segments = [_shifted(segment, begin) for segment in scanner.segments]
    if kind == "calls":
        parts, kept = _calls(draft.tool_calls, segments, raw)
    else:
        parts = tuple(Part("", None, segment.leaves) for segment in segments[-1:])
        kept = segments[-1:]
    _keep_only(roles, kept, parts)
    return kind, parts, roles


def _kind(draft: Draft, constraint: Constraint | None) -> str:
    if draft.tool_calls:
        return "calls"
    text = draft.text.strip()
    # A schema may ask for a bare string or number: such an answer is text, quotes and all.
    return "json" if text.startswith(("{", "[")) and (constraint is None or constraint.kind != "choice") else "text"


def _text(draft: Draft, raw: bytes, begin: int) -> tuple[tuple[Part, ...], bytearray]:
    said = draft.text.strip().encode("utf-8", "replace")
    if not said:
        return (), bytearray()
    start = raw.rfind(said, begin)
    if start >= 0:
        end = start + len(said)
    elif _bare(said) in _bare(raw[begin:]):
        # Some servers decode token by token: white space is lost, split characters are spoiled. The text is all there is.
        start, end = begin, len(raw)
    else:
        return (), bytearray()
    roles = bytearray(start)
    roles.extend([VALUE] * (end - start))
    return (Part("", None, (Leaf((), "text", start, end),)),), roles


def _bare(data: bytes) -> bytes:
    return bytes(byte for byte in data if 0x20 < byte < 0x7F)


def _shifted(segment: Segment, by: int) -> Segment:
    if not by:
        return segment
    leaves = tuple(Leaf(leaf.path, leaf.kind, leaf.start + by, leaf.end + by) for leaf in segment.leaves)
    return Segment(segment.start + by, segment.end + by, leaves, segment.keys)


def _calls(
    calls: Sequence[ToolCall], segments: Sequence[Segment], raw: bytes
) -> tuple[tuple[Part, ...], list[Segment]]:
    """The last objects that look like calls, {"name": NAME, "arguments" or "parameters": ...} at any depth, one for each call made;
    else the last objects are the arguments themselves, as with a named tool choice or after `[TOOL_CALLS]NAME`."""
    names = {call.name.encode() for call in calls}
    sites = [(segment, *site) for segment in segments for site in _sites(segment, names, raw)]
    count = len(calls)
    if len(sites) >= count:
        chosen = sites[-count:]
        first = chosen[0][0].start
        kept = [segment for segment in segments if segment.start >= first]
        return tuple(_part(segment, name, path, raw) for segment, name, path in chosen), kept
    if len(segments) < count:
        return (), []
    kept = list(segments[-count:])
    parts, before = [], segments[-count - 1].end if len(segments) > count else 0
    for call, segment in zip(calls, kept, strict=True):
        at = raw.rfind(call.name.encode(), before, segment.start) if call.name else -1
        name = Leaf((), "text", at, at + len(call.name.encode())) if at >= 0 else None
        parts.append(Part(call.name, name, segment.leaves))
        before = segment.end
    return tuple(parts), kept


def _sites(segment: Segment, names: set[bytes], raw: bytes) -> list[tuple[Leaf, Path]]:
    keys = set(segment.keys)
    found = []
    for leaf in segment.leaves:
        if leaf.path[-1] != "name" or raw[leaf.start : leaf.end] not in names:
            continue
        for key in ("arguments", "parameters"):
            path = (*leaf.path[:-1], key)
            if path in keys:
                found.append((leaf, path))
                break
    return found


def _part(segment: Segment, name: Leaf, path: Path, raw: bytes) -> Part:
    depth = len(path)
    leaves = tuple(
        Leaf(leaf.path[depth:], leaf.kind, leaf.start, leaf.end) for leaf in segment.leaves if leaf.path[:depth] == path
    )
    return Part(raw[name.start : name.end].decode("utf-8", "replace"), name, leaves)


def _keep_only(roles: bytearray, segments: Sequence[Segment], parts: Sequence[Part]) -> None:
    """Bytes of other objects are outside; values that belong to no part (a call's id) are structure."""
    at = 0
    for segment in segments:
        roles[at : segment.start] = bytes(segment.start - at)
        at = segment.end
        for leaf in segment.leaves:
            roles[leaf.start : leaf.end + (leaf.kind == "string")] = bytes([STRUCTURE]) * (
                leaf.end - leaf.start + (leaf.kind == "string")
            )
    roles[at:] = bytes(len(roles) - at)
    for part in parts:
        for leaf in (*([part.name] if part.name else ()), *part.leaves):
            end = leaf.end + (leaf.kind == "string")
            roles[leaf.start : end] = bytes([VALUE]) * (end - leaf.start)


def content(token: Json) -> bytes:
    """The token's bytes: a character may be split over several tokens, which only `bytes` tells; b"" when there are none."""
    data = token.get("bytes")
    if data and isinstance(data, list | tuple):
        try:
            return bytes(data)
        except (TypeError, ValueError):
            pass
    text = token.get("token")
    return text.encode("utf-8", "replace") if isinstance(text, str) else b""


def logprob(token: Json) -> float | None:
    """Its natural log-probability, at most 0; None when it has none."""
    value = token.get("logprob")
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return min(0.0, float(value))


def free(token: Json) -> bool:
    """Could the model have said something else? At least one alternative beside the token itself was reported and not masked.

    Without one nobody can tell a forced token from a sure one, so it does not count as free.
    """
    others = 0
    for other in _alternatives(token):
        value = logprob(other)
        if value is not None and value > MASKED:
            others += 1
            if others > 1:
                return True
    return others == 1 and not _holds(token)


def alternatives(token: Json) -> list[tuple[bytes, float]]:
    """(bytes, log-probability) of every legal alternative, the token itself among them."""
    found = []
    for other in _alternatives(token):
        value = logprob(other)
        if value is not None and value > MASKED:
            found.append((content(other), value))
    mine = logprob(token)
    if mine is not None and not _holds(token):
        found.append((content(token), mine))
    return found


def _alternatives(token: Json) -> list[Json]:
    listed: Any = token.get("top_logprobs")
    return [other for other in listed if isinstance(other, Mapping)] if isinstance(listed, list | tuple) else []


def _holds(token: Json) -> bool:
    """Is the token itself among its alternatives? Several tokens may be spelled alike: then the probability tells."""
    mine = (token.get("token"), token.get("logprob"))
    return any((other.get("token"), other.get("logprob")) == mine for other in _alternatives(token))
