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


def cost(tokens: Tokens, price: Price) -> float:
    """USD for `tokens` at `price`. Counts that make no sense (negative, more cached than there is input) are clipped."""
    whole, cached, output = tokens.input, tokens.cached_input, tokens.output
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
    chars = sum(_message_chars(m) for m in _items(body.get("messages")))
    chars += _json_chars(body.get("tools")) + _json_chars(body.get("functions"))
    form = body.get("response_format")
    if isinstance(form, Mapping):
        chars += _json_chars(form.get("json_schema"))
    return Tokens(input=_tokens(chars), output=_tokens(answer_chars), estimated=True)


def _tokens(chars: int) -> int:
    return -(-max(0, chars) // CHARS_PER_TOKEN)


def _message_chars(message: Any) -> int:
    if not isinstance(message, Mapping):
        return 0
    chars = _text_chars(message.get("content")) + _text_chars(message.get("refusal")) + _text_chars(message.get("name"))
    for call in _items(message.get("tool_calls")):
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            chars += _text_chars(function.get("name")) + _text_chars(function.get("arguments"))
    return chars


def _text_chars(content: Any) -> int:
    """Characters of a string, or of the text parts of a list of content parts."""
    if isinstance(content, str):
        return len(content)
    parts = (part for part in _items(content) if isinstance(part, Mapping))
    texts = (part.get("text") or part.get("refusal") for part in parts)
    return sum(len(text) for text in texts if isinstance(text, str))


def _json_chars(value: Any) -> int:
    if not value:
        return 0
    try:
        return len(canonical(value))
    except (TypeError, ValueError):  # orjson: nested too deeply, an integer past 64 bits
        return len(str(value)) if isinstance(value, str | int | float) else 0


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()
