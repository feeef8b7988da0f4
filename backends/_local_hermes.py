"""The text of a model that calls tools in Hermes' format, while it grows > content and tool calls. Pure.

    content <tool_call>\\n{"name": "X", "arguments": {...}}\\n</tool_call>\\n<tool_call>...

Only for text that was made under the grammar of `backends._local_grammar.calls`: the envelope is then exactly so, and what stands between
two envelopes is one line end. Arguments are passed on letter by letter; they end where their braces do.
"""

import json
from collections.abc import Callable
from typing import Any

from backends._local_grammar import CLOSES, OPENS

_ARGUMENTS = ', "arguments": '
_NAME = '\n{"name": '


class Hermes:
    """Feed text, get deltas as in a chat.completion.chunk (without the role)."""

    def __init__(self, ids: Callable[[], str]) -> None:
        """ids: makes the id of the next call."""
        self._ids = ids
        self._kept = ""
        self._place = "text"
        self._depth = 0
        self._quoted = self._escaped = False
        self.calls = 0
        """Calls of which the name is known."""

    def feed(self, text: str) -> list[dict[str, Any]]:
        """The deltas that `text` completes. What might be the beginning of an envelope waits."""
        self._kept += text
        found: list[dict[str, Any]] = []
        while self._step(found):
            pass
        return found

    def close(self) -> list[dict[str, Any]]:
        """The text has ended, in the middle of a call perhaps: what waited and is content."""
        kept, self._kept = self._kept, ""
        return [{"content": kept}] if kept and self._place == "text" and not self.calls else []

    def _step(self, found: list[dict[str, Any]]) -> bool:
        """One state's work; True when there may be more to do."""
        if self._place == "text":
            return self._text(found)
        if self._place == "head":
            return self._head(found)
        if self._place == "arguments":
            return self._arguments(found)
        _, closed, after = self._kept.partition(CLOSES)
        if closed:
            self._kept, self._place = after, "text"
        return bool(closed)

    def _text(self, found: list[dict[str, Any]]) -> bool:
        before, opened, after = self._kept.partition(OPENS)
        if not opened:
            held = next((n for n in range(len(OPENS) - 1, 0, -1) if before.endswith(OPENS[:n])), 0)
            before, after = before[: len(before) - held], before[len(before) - held :]
        self._kept = after
        if before and not self.calls:
            found.append({"content": before})
        if opened:
            self._place = "head"
        return bool(opened)

    def _head(self, found: list[dict[str, Any]]) -> bool:
        head, reached, after = self._kept.partition(_ARGUMENTS)
        if not reached:
            return False
        function = {"name": json.loads(head.removeprefix(_NAME)), "arguments": ""}
        found.append(
            {"tool_calls": [{"index": self.calls, "id": self._ids(), "type": "function", "function": function}]}
        )
        self.calls += 1
        self._kept, self._place, self._depth = after, "arguments", 0
        return True

    def _arguments(self, found: list[dict[str, Any]]) -> bool:
        end = self._end()
        said, self._kept = self._kept[:end], self._kept[end:]
        if said:
            found.append({"tool_calls": [{"index": self.calls - 1, "function": {"arguments": said}}]})
        if said and self._depth == 0:
            self._place = "tail"
            return True
        return False

    def _end(self) -> int:
        """Where in the kept text the arguments end, or how long it is."""
        for at, letter in enumerate(self._kept):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = letter == "\\", letter != '"'
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return len(self._kept)
