"""The official client against a gateway, and raw events."""

from typing import Any

from openai import AsyncOpenAI

from gateway.access.keys import hash_key
from tests.dialects.responses_reading import events, response_of
from tests.line.world import World

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": None,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
KEYS = "access: {keys: [" + ", ".join(f'{{name: {n}, hash: "{hash_key(n)}"}}' for n in ("ann", "bob")) + "]}"
"""Two tenants; the name of each is its key."""


def client(w: World, key: str = "x") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{w.served.url}/v1", api_key=key, max_retries=0)


def form(name: str = "label", **more: Any) -> Any:
    """`text` for a schema that the routes tell apart by its name."""
    return {"format": {"type": "json_schema", "name": name, "schema": SCHEMA, **more}}


async def stream(w: World, **body: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every event, checked, and the response at the end."""
    response = await w.served.client.post("/v1/responses", json={"model": "weir", "stream": True, **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response.content)
    return told, response_of(told)
