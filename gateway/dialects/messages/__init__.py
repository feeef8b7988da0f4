"""Anthropic messages, in both directions. Sources: Anthropic's API reference and anthropic-python 2.11 with its stream accumulator.

    blocks.py   content blocks > chat messages
    request.py  a body > Asked
    answer.py   an answer > a message object, and the events that tell of it

A request becomes a chat body, so that routing, checks and escalation are those of chat; beside it stands the body as it came
(`Asked.native`), for a rung that speaks Anthropic's own wire: it loses nothing there, and no other rung ever sees what only Anthropic's
models can read (signed thinking, cache marks, server tools). In the same
way an answer of such a rung brings its own events along (`Chunk.native`).
"""

from gateway.dialects.messages.answer import Writer, error, id_header, status, whole, writer
from gateway.dialects.messages.request import canonical, name, schema_param, understand

__all__ = [
    "Writer",
    "canonical",
    "error",
    "id_header",
    "name",
    "schema_param",
    "status",
    "understand",
    "whole",
    "writer",
]
