"""Signs that an answer may have been wrong, which cost nothing to see. Pure, but for the bounded memory of `Suspects`.

    asked_again   the same question (signature and text hash) in the same session within minutes
    tool_error    the tool that the answer called came back with an error
    retried       the caller's client says that it had asked before

None of them proves anything: parallel agents ask the same thing, tools fail by themselves. A rise after a change does mean something.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.record import Record

MINUTES = 10.0
"""Within so long, asked again is asked again."""
_WITHIN = 60 * MINUTES
KINDS = ("asked_again", "tool_error", "retried")
RETRIES = "x-stainless-retry-count"
LOOKED = 2000
"""Characters of a tool's result that are looked at."""
ERROR = re.compile(
    r"\s*(?:error\b|exception\b|traceback \(most recent|[\[{]?\s*\"(?:error|is_error|isError)\"\s*:(?!\s*(?:null|false|\"\")))",
    re.I,
)
"""How the result of a tool that failed begins: a word, or the first key of its JSON. The messages dialect writes `is_error` as the word."""


class Suspect(NamedTuple):
    """Whose answer is suspected, and why."""

    route: str
    rung: str
    kind: str


def retries(headers: Mapping[str, str]) -> int:
    """How often a caller's client says it had tried before; 0 for anything but a small number."""
    said = headers.get(RETRIES)
    return int(said) if said and said.isascii() and said.isdigit() and len(said) <= 3 else 0


def failed(body: Mapping[str, Any]) -> bool:
    """Does one of the tool results at the end of a canonical chat body tell of an error?"""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    for message in reversed(messages):
        if not isinstance(message, Mapping) or message.get("role") != "tool":
            return False
        if ERROR.match(_start(message.get("content"))):
            return True
    return False


def _start(content: Any) -> str:
    if isinstance(content, list):
        content = next((part.get("text") for part in content if isinstance(part, Mapping)), "")
    return content[:LOOKED] if isinstance(content, str) else ""


class Suspects:
    """Remembers the last answer of each of the last `size` sessions. Give it every Record, in the order in which they ended."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._last: OrderedDict[tuple[str, str], tuple[str, str, str, str, float]] = OrderedDict()
        """By tenant and session: route, rung, signature and text hash of the question, when it was asked."""

    def look(self, record: Record) -> Sequence[Suspect]:
        """What this request says of the answer before it in its session (of its own, where there was none)."""
        facts = record.facts
        session, retried, broken = facts.session, facts.retries > 0, facts.tool_error
        route, rung, again = record.route, "", False
        if session:
            last, whose, text = self._last, (record.tenant, session), facts.text_hash
            before = last.get(whose)
            if before is not None and record.time - before[4] <= _WITHIN:
                route, rung = before[0], before[1]
                again = before[3] == text != "" and before[2] == facts.signature and not facts.tool_loop
            if record.served:
                last[whose] = (record.route, record.served, facts.signature, text, record.time)
                if before is not None:
                    last.move_to_end(whose)
                elif len(last) > self._size:
                    last.popitem(last=False)
        if again or retried or broken:
            return _found(route, rung, retried, broken, again=again)
        return ()


@lru_cache(maxsize=1024)
def _found(route: str, rung: str, retried: bool, tool_error: bool, *, again: bool) -> Sequence[Suspect]:
    found = [Suspect(route, rung, "retried")] if retried else []
    if tool_error:
        found.append(Suspect(route, rung, "tool_error"))
    elif again:
        found.append(Suspect(route, rung, "asked_again"))
    return tuple(found)
