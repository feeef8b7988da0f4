"""The one text that a specialist reads. Pure."""

from typing import Literal

from wire.errors import Unsupported
from wire.types import Call

Turns = Literal["single", "last"]


def text_of(call: Call, turns: Turns) -> str:
    """The last user message. Raises Unsupported for a request of which more than this text would have to be understood.

    turns: single: only requests of one user message; last: the last one of a conversation, whatever was said before.
    """
    if call.raw:
        raise Unsupported("a specialist cannot pass a request through unchanged")
    if not call.text.strip():
        raise Unsupported("the last message is no text of a user")
    users = 0
    for message in call.body.get("messages") or ():
        role, content = message.get("role"), message.get("content")
        users += role == "user"
        if turns == "single" and (role in ("assistant", "tool", "function") or users > 1):
            raise Unsupported("the conversation has more than one turn, a specialist reads one text (turns: last)")
        if isinstance(content, list) and any(part.get("type") not in ("text", "input_text") for part in content):
            raise Unsupported("a specialist reads text only")
    return call.text
