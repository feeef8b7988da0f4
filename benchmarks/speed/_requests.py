"""The requests that are sent: about 1.5 kB with a schema for the answer, unless said otherwise. Pure."""

from typing import Any

import orjson

FILLER = "The quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. "
UNSEEN = "@" * 512
"""Replaced by new words in every request (`load -U`)."""
SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "intent",
        "schema": {
            "type": "object",
            "properties": {
                "intent": {"type": "string", "enum": ["refund", "delivery", "invoice", "other"]},
                "stamps": {"type": "array", "items": {"type": "string"}},
                "reason": {"type": "string"},
            },
            "required": ["intent", "stamps"],
            "additionalProperties": False,
        },
    },
}


def chat(model: str, *, size: int = 1500, stream: bool = False, schema: bool = True, text: str = "") -> bytes:
    """A chat request of `size` bytes at least as far as its text is free; `text`: the last message, as it is.

    model comes first: the mock looks for its name there.
    """
    body: dict[str, Any] = {
        "model": model,
        "stream": stream,
        "temperature": 0.2,
        "top_p": 0.95,
        "max_tokens": 256,
        "user": "user-1234",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant that answers in short, exact sentences."},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "Understood."},
            {"role": "user", "content": text or "Summarise the text above in one line."},
        ],
    }
    if schema:
        body["response_format"] = SCHEMA
    lacking = max(0, size - len(orjson.dumps(body)))
    body["messages"][1]["content"] = (FILLER * (lacking // len(FILLER) + 1))[:lacking]
    return orjson.dumps(body)
