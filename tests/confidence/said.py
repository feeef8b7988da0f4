"""Tokens as a server reports them."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from wire.types import Json

MASKED = -9999.0


def token(
    text: str | bytes, logprob: float | None = -0.1, others: Sequence[tuple[str, float]] = (("~", -5.0),)
) -> Json:
    """One position. others: alternatives; (("~", MASKED),) makes it forced."""
    data = text if isinstance(text, bytes) else text.encode()
    shown = data.decode("utf-8", "replace")
    top = [{"token": shown, "logprob": logprob, "bytes": list(data)}]
    top += [{"token": other, "logprob": value, "bytes": list(other.encode())} for other, value in others]
    return {"token": shown, "logprob": logprob, "bytes": list(data), "top_logprobs": top}


def forced(text: str | bytes) -> Json:
    return token(text, 0.0, [("~", MASKED)])


def pieces(data: st.DataObject, raw: str) -> list[bytes]:
    """`raw` cut anywhere, in the middle of a character too."""
    whole = raw.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=12)))
    edges = [0, *(cut for cut in cuts if cut < len(whole)), len(whole)]
    return [whole[a:b] for a, b in pairwise(edges)]


def hermes(name: str, arguments: Any) -> str:
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"
