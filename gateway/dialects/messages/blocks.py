"""Content blocks > chat messages. Pure.

What OpenAI's form cannot say is put into words where a model must know it (an error of a tool, the title of a document, the result of a
server tool), and left out where it only means something to Anthropic's servers (cache marks, signatures, citations).

Signed thinking is left out: it is one model's own. Unsigned thinking came from a rung of ours and goes back as `reasoning_content`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.dialects import fields
from wire import anthropic
from wire.types import Json

Message = dict[str, Any]
ROLES = ("user", "assistant", "system")
ERROR = "Error: "
"""Before the result of a tool that failed: OpenAI's form has no mark for it."""


def system(value: Any) -> list[Message]:
    """`system`: a string or text blocks."""
    if value is None or value == "" or value == []:
        return []
    if isinstance(value, str):
        return [{"role": "system", "content": value}]
    parts = [_text(block, f"system[{at}]") for at, block in enumerate(fields.items(value, "system"))]
    return [{"role": "system", "content": _short(parts)}]


def messages(value: Any) -> list[Message]:
    """`messages`. Raises BadRequest naming the block."""
    if value is None:
        raise fields.reject("messages", "you must provide 'messages', an array with at least one message")
    given = fields.items(value, "messages")
    if not given:
        raise fields.reject("messages", "'messages' is empty: at least one message is needed")
    told: list[Message] = []
    for at, message in enumerate(given):
        place = f"messages[{at}]"
        role = fields.table(message, place).get("role")
        if role not in ROLES:
            raise fields.reject(f"{place}.role", f"'{place}.role' must be user or assistant")
        content = message.get("content")
        if isinstance(content, str):
            told.append({"role": role, "content": content})
            continue
        if content is None:
            raise fields.reject(f"{place}.content", f"'{place}.content' is missing")
        blocks = [
            (f"{place}.content[{index}]", _typed(block, f"{place}.content[{index}]"))
            for index, block in enumerate(fields.items(content, f"{place}.content"))
        ]
        if role == "assistant":
            told.append(_assistant(blocks))
        elif role == "system":
            told.append({"role": role, "content": _short([_text(block, inner) for inner, block in blocks])})
        else:
            told += _user(blocks)
    return told


def has_results(message: Any) -> bool:
    """Is a tool answered in this message?"""
    content = message.get("content")
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)


Placed = tuple[str, Mapping[str, Any]]


def _typed(block: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(fields.table(block, place).get("type"), str):
        raise fields.reject(f"{place}.type", "a content block needs a 'type'")
    return block  # type: ignore[no-any-return]


def _user(blocks: Sequence[Placed]) -> list[Message]:
    """Results first, as OpenAI wants them right behind the calls; then one user message of all the rest, if there is any."""
    results: list[Message] = []
    rest: list[dict[str, Any]] = []
    for place, block in blocks:
        if block["type"] == "tool_result":
            result, beside = _result(block, place)
            results.append(result)
            rest += beside
        else:
            rest += _parts(block, place)
    if rest or not results:
        return [*results, {"role": "user", "content": _short(rest)}]
    return results


def _assistant(blocks: Sequence[Placed]) -> Message:
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for place, block in blocks:
        if block["type"] == "tool_use":
            calls.append(_call(block, place))
        elif block["type"] == "thinking":
            if not block.get("signature") and isinstance(block.get("thinking"), str):
                thoughts.append(block["thinking"])
        elif block["type"] != "redacted_thinking":
            parts += _parts(block, place)
    message: Message = {"role": "assistant", "content": _short(parts) if parts or not calls else None}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Json, place: str) -> dict[str, Any]:
    for key in ("id", "name"):
        if not isinstance(block.get(key), str) or not block[key]:
            raise fields.reject(f"{place}.{key}", f"'{place}.{key}' must be a non-empty string")
    given = fields.table(block.get("input", {}), f"{place}.input")
    broken = given.get(anthropic.INVALID_JSON)
    arguments = broken if isinstance(broken, str) and len(given) == 1 else _json(given, f"{place}.input")
    return {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}


def _result(block: Json, place: str) -> tuple[Message, list[dict[str, Any]]]:
    """The tool message, and what of the result is no text: that goes into the user message behind it."""
    answered = block.get("tool_use_id")
    if not isinstance(answered, str) or not answered:
        raise fields.reject(f"{place}.tool_use_id", "a tool_result must name the 'tool_use_id' that it answers")
    content = block.get("content")
    given = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    parts = [
        part
        for index, inner in enumerate(fields.items(given, f"{place}.content"))
        for part in _parts(_typed(inner, f"{place}.content[{index}]"), f"{place}.content[{index}]")
    ]
    texts = [part for part in parts if part["type"] == "text"]
    beside = [part for part in parts if part["type"] != "text"]
    if fields.flag(block, "is_error", inside=place):
        texts = [{"type": "text", "text": ERROR}, *texts] if len(texts) != 1 else [_said(ERROR + texts[0]["text"])]
    if beside:
        beside = [_said(f"Part of the result of tool call {answered}:"), *beside]
    return {"role": "tool", "tool_call_id": answered, "content": _short(texts)}, beside


def _parts(block: Json, place: str) -> list[dict[str, Any]]:
    kind = block["type"]
    if kind == "text":
        return [_text(block, place)]
    if kind == "image":
        return [{"type": "image_url", "image_url": {"url": _url(block, place)}}] if _sent(block) else [_stored(block)]
    if kind == "document":
        return _document(block, place)
    if kind == "search_result":
        found = [_text(part, place) for part in block.get("content") or () if isinstance(part, Mapping)]
        return [_said(f"{block.get('title') or ''} ({block.get('source') or ''})".strip()), *found]
    # A server tool's use or result, or what is newer than this file: its content in words, without what is encrypted.
    told = {key: value for key, value in block.items() if key not in ("type", "id", "cache_control")}
    return [_said(f"[{kind}] {_json(_readable(told), place)}")]


def _document(block: Json, place: str) -> list[dict[str, Any]]:
    source = fields.table(block.get("source"), f"{place}.source")
    title = block.get("title")
    heading = [_said(text) for text in (title, block.get("context")) if isinstance(text, str) and text]
    if source.get("type") == "text":
        return [*heading, _said(fields.text(source, "data") or "")]
    if source.get("type") == "content":
        inner = source.get("content")
        if isinstance(inner, str):
            return [*heading, _said(inner)]
        return [*heading, *(part for piece in inner or () for part in _parts(_typed(piece, place), place))]
    if not _sent(block):
        return [_stored(block)]
    url = _url(block, place)
    key = "file_data" if url.startswith("data:") else "file_url"
    name = title if isinstance(title, str) and title else "document.pdf"
    return [*heading[1:], {"type": "file", "file": {"filename": name, key: url}}]


def _sent(block: Json) -> bool:
    """Is it in the request, or at a URL? Otherwise it lies at Anthropic's."""
    source = block.get("source")
    return not isinstance(source, Mapping) or source.get("type") != "file"


def _stored(block: Json) -> dict[str, Any]:
    return {"type": "file", "file": {"file_id": str(block["source"].get("file_id", ""))}}


def _url(block: Json, place: str) -> str:
    source = fields.table(block.get("source"), f"{place}.source")
    if source.get("type") == "base64":
        data = fields.text(source, "data")
        if not data:
            raise fields.reject(f"{place}.source.data", f"'{place}.source.data' is missing")
        return f"data:{source.get('media_type') or 'application/octet-stream'};base64,{data}"
    url = fields.text(source, "url")
    if not url:
        raise fields.reject(f"{place}.source", f"'{place}.source' must be base64 data, a url or a file")
    return url


def _text(block: Any, place: str) -> dict[str, Any]:
    text = fields.table(block, place).get("text")
    if not isinstance(text, str):
        raise fields.reject(f"{place}.text", f"'{place}.text' must be a string, not {fields.kind(text)}")
    return _said(text)


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _short(parts: list[dict[str, Any]]) -> Any:
    """A lone text is a string, nothing is an empty one."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _readable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _readable(item) for key, item in value.items() if not str(key).startswith("encrypted_")}
    return [_readable(item) for item in value] if isinstance(value, list) else value


def _json(value: Any, place: str) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as exc:  # it may be read 1,024 levels deep, and written 254
        raise fields.reject(place, f"'{place}' is nested too deeply") from exc
