"""The Responses API beyond the model endpoint: what is kept of an answer, what a later request builds on, and looking it up.

Kept is the response object and the items that led to it, the whole conversation with every response: so any one of them can be
continued, expire or be deleted without the others. Every input item gets an id that names its response, so that `item_reference` finds
it too. Nothing of it is ever looked up across tenants: another tenant's id is unknown, like one that never was.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson
from msgspec.structs import replace

from gateway.dialects import responses
from gateway.dialects.base import Caller, Stamp, Writer
from gateway.dialects.responses.output import item_id, response_of
from gateway.log import Log
from gateway.setup import Live
from gateway.store import Guarded, StoreError
from gateway.story import Story
from gateway.surface.admission import LimitsOf, request_id_of
from gateway.surface.exchange import Exchange
from gateway.surface.models import Door
from wire.errors import BadRequest, NoAnswer, NotFound, WeirError
from wire.types import Asked, Json

ID = re.compile(r"resp_[A-Za-z0-9]{1,64}")
MOST_REFERENCES = 1024
GIVEN = 0x8000
"""Input items are numbered from here on, output items from 0."""


class Shelf:
    """What is kept of responses, by tenant."""

    def __init__(self, live: Live, store: Guarded | None) -> None:
        self._live = live
        self._store = store

    async def find(self, tenant: str, id: str) -> dict[str, Any] | None:
        """response, items (the input, with all that went before it), given (how many of them came with the request), session.
        Raises NoAnswer when the store does not answer."""
        if self._store is None or not ID.fullmatch(id):
            return None
        try:
            data = await self._store.get(tenant, id)
        except StoreError as exc:
            raise _down() from exc
        return orjson.loads(data) if data is not None else None

    async def delete(self, tenant: str, id: str) -> bool:
        if self._store is None or not ID.fullmatch(id):
            return False
        try:
            return await self._store.delete(tenant, id)
        except StoreError as exc:
            raise _down() from exc

    async def keep(self, tenant: str, session: str, echo: Json, response: Json) -> None:
        """Raises nothing: an answer is not worse for not being kept."""
        if self._store is None or echo.get("store") is False:
            return
        id = str(response["id"])
        given = [_with_id(item, id, at) for at, item in enumerate(echo["input"])]
        kept = {"response": response, "items": [*echo["before"], *given], "given": len(given), "session": session}
        await self._store.put(tenant, id, orjson.dumps(kept), self._live.setup.settings.responses.ttl)

    async def earlier(self, tenant: str, needs: responses.Needs) -> responses.Earlier:
        """What a request builds on. Raises BadRequest for a previous response that is not there; references that lead nowhere are
        left out."""
        found = responses.Earlier()
        known: dict[str, Json] = {}
        if needs.previous:
            kept = await self.find(tenant, needs.previous)
            if kept is None:
                raise self._gone(needs.previous)
            items = [*kept["items"], *kept["response"]["output"]]
            known.update(_by_id(items))
            found = responses.Earlier(items=items, session=kept["session"])
        if len(needs.references) > MOST_REFERENCES:
            raise BadRequest(f"more than {MOST_REFERENCES} item references", param="input")
        # The newest first: with it came what led to it, so one look finds most of them.
        for reference in reversed(needs.references):
            if reference not in known:
                kept = await self.find(tenant, response_of(reference))
                known.update(_by_id([*kept["items"], *kept["response"]["output"]]) if kept else {})
        return replace(found, named={id: known[id] for id in needs.references if id in known})

    def _gone(self, id: str) -> BadRequest:
        way_out = ": this gateway keeps none (responses.store: off), send the whole conversation as 'input'"
        return BadRequest(
            f"Previous response with id '{id}' not found{'.' if self._store else way_out}",
            param="previous_response_id",
            code="previous_response_not_found",
        )


class ResponsesDoor(Door):
    """POST /responses."""

    def __init__(self, live: Live, limits: LimitsOf, log: Log, shelf: Shelf) -> None:
        super().__init__(live, responses, limits, log)
        self._shelf = shelf

    async def _read(self, body: Any, raw: bytes, caller: Caller) -> Asked:
        needs = responses.needs(body)
        earlier = await self._shelf.earlier(caller.tenant, needs)
        return responses.understand(body, raw, caller, earlier)

    def _stamp(self, exchange: Exchange, story: Story) -> Stamp:
        """Its id is ours and new even when the request's id is the caller's, who may use one twice."""
        stamp = super()._stamp(exchange, story)
        if exchange.headers.get("x-request-id") == story.id:
            return replace(stamp, id=secrets.token_hex(12))
        return stamp

    async def _keep(self, story: Story, answered: bytes | Writer) -> None:
        asked = story.asked
        response = orjson.loads(answered) if isinstance(answered, bytes) else getattr(answered, "response", None)
        if response is not None:
            await self._shelf.keep(asked.query.tenant, asked.query.session, asked.echo, response)


class Kept:
    """GET and DELETE /responses/ID, GET /responses/ID/input_items, POST /responses/ID/cancel."""

    def __init__(self, live: Live, shelf: Shelf, limits: LimitsOf) -> None:
        self._live = live
        self._shelf = shelf
        self._limits = limits

    async def __call__(self, exchange: Exchange, rest: str) -> None:
        """rest: the path after `/responses/`."""
        told = {"x-request-id": request_id_of(exchange)}
        try:
            setup = self._live.setup
            caller = setup.keys.check(exchange.headers)
            told.update(self._limits.now.admit(caller, exchange.headers, setup.clock()))
            await exchange.json(200, await self._answer(exchange, caller.tenant, rest), told)
        except WeirError as error:
            await exchange.json(error.status, error.body(), {**told, **error.headers})

    async def _answer(self, exchange: Exchange, tenant: str, rest: str) -> Json:
        id, _, below = rest.partition("/")
        wanted = {"": ("GET", "HEAD", "DELETE"), "input_items": ("GET", "HEAD"), "cancel": ("POST",)}.get(below)
        if wanted is None or (not ID.fullmatch(id) and exchange.method == "POST" and not below):
            raise NotFound(f"there is nothing at {exchange.method} {exchange.path}")
        if exchange.method not in wanted:
            raise NotFound(f"{exchange.path} takes {', '.join(wanted)}", status=405, code="method_not_allowed")
        if exchange.method == "DELETE":
            if not await self._shelf.delete(tenant, id):
                raise _unknown(id)
            return {"id": id, "object": "response", "deleted": True}
        kept = await self._shelf.find(tenant, id)
        if kept is None:
            raise _unknown(id)
        if below == "cancel":
            raise BadRequest("Cannot cancel a synchronous response.", param="response_id")
        query = {name: values[-1] for name, values in parse_qs(exchange.query.decode("latin-1")).items()}
        if below == "input_items":
            return _page(kept["items"], query)
        if query.get("stream", "false").lower() == "true":
            raise BadRequest(
                "only background responses can be streamed again", param="stream", code="unsupported_parameter"
            )
        response: Json = kept["response"]
        return response


def _page(items: list[Json], query: Mapping[str, str]) -> Json:
    """A page of `items`, newest first unless `order=asc`."""
    order, limit = query.get("order", "desc"), query.get("limit", "20")
    if order not in ("asc", "desc"):
        raise BadRequest("'order' must be asc or desc", param="order")
    if not limit.isdecimal() or not 1 <= int(limit) <= 100:
        raise BadRequest("'limit' must be an integer between 1 and 100", param="limit")
    listed = items if order == "asc" else items[::-1]
    after = query.get("after")
    if after:
        place = next((at for at, item in enumerate(listed) if item.get("id") == after), None)
        if place is None:
            raise BadRequest(f"no item with id '{after}' in this response", param="after")
        listed = listed[place + 1 :]
    page = listed[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(listed) > len(page),
    }


def _with_id(item: Json, response: str, at: int) -> Json:
    """As it is listed and referred to: with type, id and status, which clients may leave out."""
    kind = item.get("type") or "message"
    content = item.get("content")
    if kind == "message" and isinstance(content, str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        extra: dict[str, Any] = {"annotations": []} if part == "output_text" else {}
        item = {**item, "content": [{"type": part, "text": content, **extra}]}
    id = item.get("id") or item_id(response.removeprefix("resp_"), kind, GIVEN + at)
    return {"status": "completed", **item, "type": kind, "id": id}


def _by_id(items: list[Json]) -> dict[str, Json]:
    return {item["id"]: item for item in items if isinstance(item.get("id"), str)}


def _unknown(id: str) -> NotFound:
    return NotFound(f"Response with id '{id}' not found.", param="response_id")


def _down() -> NoAnswer:
    return NoAnswer(
        "the store of responses does not answer: try again, or send the whole conversation as 'input'",
        status=503,
        code="response_store_unavailable",
        type="service_unavailable_error",
        headers={"retry-after": "1"},
    )
