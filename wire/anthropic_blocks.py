"""Chat messages > Anthropic's content blocks. Pure. See `wire.anthropic_request`."""

import re
from collections.abc import Mapping
from typing import Any

from wire import anthropic
from wire.errors import Unsupported
from wire.hashing import short_hash
from wire.types import Json

_ID = re.compile(r"[A-Za-z0-9_-]+")
_DATA_URL = re.compile(r"data:([^;,]+)?(?:;[^;,]+)*;base64,", re.IGNORECASE)


def short(blocks: list[dict[str, Any]]) -> Any:
    """A lone plain text is a string."""
    return blocks[0]["text"] if len(blocks) == 1 and set(blocks[0]) == {"type", "text"} else blocks


def assistant(message: Json, place: str, model: str, asked: str) -> list[dict[str, Any]]:
    """An assistant's message: the thinking that `model` itself signed, text, calls."""
    blocks = [
        told
        for block in tables(message.get("thinking_blocks"))
        if (told := anthropic.release({key: value for key, value in block.items() if key != "index"}, model, asked))
        is not None
    ]
    blocks += parts(message, place)
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        blocks.append({"type": "text", "text": message["refusal"]})
    for at, call in enumerate(tables(message.get("tool_calls"))):
        function = call.get("function")
        if not isinstance(function, Mapping):
            raise Unsupported("anthropic: no tool calls but of functions", param=f"{place}.tool_calls[{at}]")
        use: dict[str, Any] = {
            "type": "tool_use",
            "id": tool_id(call.get("id")),
            "name": function.get("name"),
            "input": _input(function.get("arguments")),
        }
        blocks.append(cached(use, call))
    return blocks


def _input(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        return anthropic.tool_input(arguments)
    return dict(arguments) if isinstance(arguments, Mapping) else {}


def result(message: Json, place: str) -> dict[str, Any]:
    """A tool message as a tool_result."""
    content = parts(message, place)
    plain = all(set(block) == {"type", "text"} for block in content)
    text = "\n".join(block["text"] for block in content) if plain else content
    result = {"type": "tool_result", "tool_use_id": tool_id(message.get("tool_call_id")), "content": text}
    return cached(result, message)


def parts(message: Json, place: str) -> list[dict[str, Any]]:
    """A message's content as blocks. Blank texts are left out: they are refused there. Raises Unsupported naming the part."""
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks = [_part(part, f"{place}.content[{at}]") for at, part in enumerate(tables(content))]
    told = [block for block in blocks if block.get("type") != "text" or block["text"].strip()]
    if told and "cache_control" in message and message.get("role") != "tool":
        told[-1] = cached(told[-1], message)
    return told


def _part(part: Json, place: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        return cached({"type": "text", "text": text if isinstance(text, str) else ""}, part)
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        return cached({"type": "image", "source": _source(url, place)}, part)
    if kind == "file" and isinstance(part.get("file"), Mapping):
        return cached(_file(part["file"], place), part)
    raise Unsupported(f"anthropic: no content parts of type {str(kind)[:40]!r}", param=place)


def _file(file: Json, place: str) -> dict[str, Any]:
    if isinstance(file.get("file_id"), str):
        return {"type": "document", "source": {"type": "file", "file_id": file["file_id"]}}
    source = _source(file.get("file_data") or file.get("file_url"), place)
    told: dict[str, Any] = {"type": "document", "source": source}
    if isinstance(file.get("filename"), str):
        told["title"] = file["filename"]
    return told


def _source(url: Any, place: str) -> dict[str, Any]:
    if not isinstance(url, str) or not url:
        raise Unsupported("anthropic: a part without a URL or data", param=place)
    found = _DATA_URL.match(url)
    if found is None:
        if url.startswith("data:"):
            raise Unsupported("anthropic: a data URL must be base64", param=place)
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": found[1] or "application/octet-stream", "data": url[found.end() :]}


def cached(block: dict[str, Any], beside: Json) -> dict[str, Any]:
    """`block` with the cache mark that its source bears, as clients of OpenAI's API write it too."""
    mark = beside.get("cache_control")
    return {**block, "cache_control": mark} if isinstance(mark, Mapping) else block


def tool_id(value: Any) -> str:
    """A call's id in the letters that Anthropic takes; the same one for a call and for its result."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    return f"toolu_{short_hash(str(value).encode('utf-8', 'replace')) or 'none'}"


def tables(value: Any) -> list[Any]:
    """The objects of an array; nothing for what is none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
