"""What an answer costs, in USD. Pure.

Tokens are counted as OpenAI counts them: `input` includes `cached_input`. `Price.input` is the price of the rest.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from wire.hashing import canonical
from wire.types import Json, Price, Tokens

PER = 1_000_000
"""Prices are in USD per so many tokens."""
CHARS_PER_TOKEN = 4
"""Where nobody counted: OpenAI's rule of thumb for English."""
_UNKNOWN = Tokens()
_PLAIN = {"role", "content"}
"""What most messages say, and nothing else."""
_MAPPING = (dict, Mapping)
"""For isinstance: what nearly all are is told at once, a Mapping by a call into Python."""


def cost(tokens: Tokens, price: Price) -> float:
    """USD for `tokens` at `price`. Counts that make no sense (negative, more cached than there is input) are clipped."""
    whole, cached, output = tokens.input, tokens.cached_input, tokens.output
    if not cached and whole >= 0 and output >= 0:  # as nearly always
        return (whole * price.input + output * price.output) / PER
    if not (0 <= cached <= whole and output >= 0):
        whole, output = max(0, whole), max(0, output)
        cached = min(max(0, cached), whole)
    usd = (whole - cached) * price.input + cached * price.cached_input + output * price.output
    return usd / PER


def counterfactual(tokens: Tokens, price: Price, estimated: Tokens = _UNKNOWN) -> float:
    """What the same answer would have cost at the top rung's `price`, USD.

    Same token counts, as the tokenizers differ by less than the prices do. Cached tokens keep the cached price: the top
    rung would have seen the same prefixes. `estimated` stands in when the rung that answered counts no tokens (an encoder).
    """
    return cost(tokens if tokens.input > 0 or tokens.output > 0 else estimated, price)


def estimate(body: Json, answer_chars: int = 0) -> Tokens:
    """Token counts of a chat body and an answer's length, four characters to a token.

    Counted is the text of all messages (with names, tool calls, refusals), the tools and the answer's schema. Images, audio
    and files count nothing: their price differs by provider and size. Any shape of body is taken, none raises.
    """
    chars = 0
    for message in _items(body.get("messages")):
        if isinstance(message, _MAPPING):
            content = message.get("content")
            chars += len(content) if isinstance(content, str) else _text_chars(content)
            if not message.keys() <= _PLAIN:
                chars += _chars_beside(message)
    form = body.get("response_format")
    schema = form.get("json_schema") if form and isinstance(form, _MAPPING) else None
    for value in (body.get("tools"), body.get("functions"), schema):
        if value:
            chars += _json_chars(value)
    return Tokens(input=tokens_of(chars), output=tokens_of(answer_chars), estimated=True)


def tokens_of(chars: int) -> int:
    """An estimate of how many tokens so many characters are."""
    return -(-max(0, chars) // CHARS_PER_TOKEN)


def _chars_beside(message: Mapping[str, Any]) -> int:
    """Characters of what a message may say beside its role and content."""
    chars = _text_chars(message.get("refusal")) + _text_chars(message.get("name"))
    if calls := message.get("tool_calls"):
        for call in _items(calls):
            function = call.get("function") if isinstance(call, _MAPPING) else None
            if isinstance(function, _MAPPING):
                chars += _text_chars(function.get("name")) + _text_chars(function.get("arguments"))
    return chars


def _text_chars(content: Any) -> int:
    """Characters of a string, or of the text parts of a list of content parts."""
    if isinstance(content, str):
        return len(content)
    chars = 0
    for part in _items(content):
        if isinstance(part, _MAPPING):
            text = part.get("text") or part.get("refusal")
            if isinstance(text, str):
                chars += len(text)
    return chars


def _json_chars(value: Any) -> int:
    try:
        return len(canonical(value))
    except (TypeError, ValueError):  # orjson: nested too deeply, an integer past 64 bits
        return len(str(value)) if isinstance(value, str | int | float) else 0


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()
