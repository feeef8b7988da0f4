"""OpenAI responses, in both directions. Sources: the OpenAI API specification 2.3.0, openai-python 3.52 and its stream accumulator.

    items.py    input items > chat messages
    tools.py    tools and the choice among them > chat's
    request.py  a body > Asked
    output.py   chunks > output items, and the events that tell of them
    answer.py   the response object, whole and as a stream

A Responses request becomes a chat body, so that routing, checks and escalation are those of chat. What of it says nothing to a chat
model but belongs into the response object (instructions, tools as they were written, metadata ...) is kept in `Asked.echo`.
"""

from gateway.dialects.responses.answer import Writer, error, whole, writer
from gateway.dialects.responses.request import Earlier, Needs, name, needs, schema_param, understand

__all__ = ["Earlier", "Needs", "Writer", "error", "name", "needs", "schema_param", "understand", "whole", "writer"]
