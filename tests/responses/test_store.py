"""What is kept of responses, for whom and for how long, through a real gateway."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, InternalServerError, NotFoundError

from tests.line.world import World, says, world
from tests.responses.asking import CALL, KEYS, TOOL, client
from tests.store.redis_server import redis_server
from tests.waiting import PATIENCE

PUT_OK = 'weir_response_store_total{op="put",result="ok"}'
PUT_FAILED = 'weir_response_store_total{op="put",result="error"}'
PUT_SKIPPED = 'weir_response_store_total{op="put",result="skipped"}'


def contents(w: World) -> list[Any]:
    """Of the messages that the cloud saw last."""
    return [message["content"] for message in w.cloud.asked[-1].json["messages"]]


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    """Another tenant's response is unknown, to every verb, exactly as one that never was."""

    async def run() -> None:
        async with (
            world(tmp_path, says("x"), says("ok"), more=KEYS) as w,
            client(w, "ann") as ann,
            client(w, "bob") as bob,
        ):
            kept = await ann.responses.create(model="weir", input="my secret")
            reference: Any = [{"type": "item_reference", "id": kept.output[0].id}]
            answers = []
            for id in (kept.id, "resp_" + "0" * len(kept.id.removeprefix("resp_"))):
                with pytest.raises(BadRequestError) as bad:
                    await bob.responses.create(model="weir", input="go on", previous_response_id=id)
                with pytest.raises(NotFoundError) as named:
                    await bob.responses.create(model="weir", input=reference)
                with pytest.raises(NotFoundError) as got:
                    await bob.responses.retrieve(id)
                with pytest.raises(NotFoundError):
                    await bob.responses.delete(id)
                with pytest.raises(NotFoundError):
                    await bob.responses.input_items.list(id)
                with pytest.raises(NotFoundError):
                    await bob.responses.cancel(id)
                answers.append([str(e.value).replace(id, "ID") for e in (bad, named, got)])
            assert answers[0] == answers[1]
            assert len(w.cloud.asked) == 1
            assert (await ann.responses.retrieve(kept.id)).output_text == "ok"
            without = await w.served.client.get(f"/v1/responses/{kept.id}")
            assert without.status_code == 401

    asyncio.run(run())


def test_it_expires(tmp_path: Path) -> None:
    """After `responses.ttl` it is unknown."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok"), more="responses: {ttl: 2}") as w, client(w) as c:
            kept = await c.responses.create(model="weir", input="1")
            await c.responses.create(model="weir", input="2", previous_response_id=kept.id)
            await asyncio.sleep(2.1)
            with pytest.raises(BadRequestError):
                await c.responses.create(model="weir", input="3", previous_response_id=kept.id)

    asyncio.run(run())


def test_switched_off(tmp_path: Path) -> None:
    """`store: off` answers as ever, keeps nothing, and says what to do instead."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok"), more="responses: {store: off}") as w, client(w) as c:
            kept = await c.responses.create(model="weir", input="1")
            assert kept.output_text == "ok"
            with pytest.raises(BadRequestError) as caught:
                await c.responses.create(model="weir", input="2", previous_response_id=kept.id)
            assert caught.value.code == "previous_response_not_found"
            assert "responses.store" in str(caught.value)
            with pytest.raises(NotFoundError):
                await c.responses.retrieve(kept.id)

    asyncio.run(run())


def test_looking_it_up(tmp_path: Path) -> None:
    """The response as it was sent; its input in pages, every item with an id; deleted is gone; nothing to cancel."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok")) as w, client(w) as c:
            items: Any = [{"role": "user", "content": str(i)} for i in range(5)]
            sent = await c.responses.create(model="weir", input=items, metadata={"a": "b"})
            assert await c.responses.retrieve(sent.id) == sent
            page = await c.responses.input_items.list(sent.id, limit=2)
            assert page.has_more
            listed = [item async for item in c.responses.input_items.list(sent.id, limit=2)]
            assert [item.content[0].text for item in listed] == ["4", "3", "2", "1", "0"]  # type: ignore[union-attr,index]
            assert len({item.id for item in listed}) == 5
            first = await c.responses.input_items.list(sent.id, order="asc", limit=1)
            assert first.data == [listed[-1]]
            with pytest.raises(BadRequestError) as caught:
                await c.responses.cancel(sent.id)
            assert "synchronous" in str(caught.value)
            again = await c.responses.create(model="weir", input="more", previous_response_id=sent.id)
            await c.responses.delete(sent.id)
            for call in (c.responses.retrieve(sent.id), c.responses.delete(sent.id)):
                with pytest.raises(NotFoundError):
                    await call
            await c.responses.create(model="weir", input="!", previous_response_id=again.id)
            assert contents(w) == ["0", "1", "2", "3", "4", "ok", "more", "ok", "!"], "each has all that went before"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/responses", 405),
        ("POST", "/v1/responses/{id}", 405),
        ("DELETE", "/v1/responses/{id}/input_items", 405),
        ("GET", "/v1/responses/{id}/cancel", 405),
        ("GET", "/v1/responses/{id}/nothing", 404),
        ("POST", "/v1/responses/compact", 404),
        ("GET", "/v1/responses/{id}?stream=true", 400),
        ("GET", "/v1/responses/{id}/input_items?limit=0", 400),
        ("GET", "/v1/responses/{id}/input_items?limit=x", 400),
        ("GET", "/v1/responses/{id}/input_items?order=up", 400),
        ("GET", "/v1/responses/{id}/input_items?after=msg_0", 400),
        ("GET", "/v1/responses/", 404),
        ("GET", "/v1/responses/..%2Fx", 404),
        ("GET", "/responses/{id}", 200),
        ("HEAD", "/v1/responses/{id}", 200),
    ],
)
def test_what_else_may_be_asked(tmp_path: Path, method: str, path: str, status: int) -> None:
    """Everything has its status, and errors their object."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok")) as w, client(w) as c:
            kept = await c.responses.create(model="weir", input="1")
            response = await w.served.client.request(method, path.format(id=kept.id))
            assert response.status_code == status
            assert response.headers["x-request-id"]
            if status >= 400:
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    asyncio.run(run())


def test_items_by_reference(tmp_path: Path) -> None:
    """As the Vercel AI SDK sends a history: items of former answers by their ids alone, without previous_response_id."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok")) as w, client(w) as c:
            one = await c.responses.create(model="weir", input="1")
            reference: Any = {"type": "item_reference", "id": one.output[0].id}
            two = await c.responses.create(
                model="weir",
                input=[{"role": "user", "content": "1"}, reference, {"role": "user", "content": "2"}],
            )
            assert contents(w) == ["1", "ok", "2"]
            (asked,) = (await c.responses.input_items.list(two.id, limit=1)).data
            more: Any = [{"type": "item_reference", "id": i} for i in (one.output[0].id, asked.id, two.output[0].id)]
            await c.responses.create(model="weir", input=more)
            assert contents(w) == ["ok", "2", "ok"]
            with pytest.raises(NotFoundError) as caught:
                await c.responses.create(model="weir", input=[*more, {"type": "item_reference", "id": "msg_x"}])
            assert caught.value.param == "input[3]"

    asyncio.run(run())


def test_a_tool_loop_keeps_its_rung_when_instructions_change(tmp_path: Path) -> None:
    """The session is the conversation's: a continued response belongs to it, whatever this request's instructions are."""

    async def run() -> None:
        large = says(None, "tool_calls", tool_calls=[{**CALL, "index": 0}])
        async with world(tmp_path, says("bad", "length"), large) as w, client(w) as c:
            one = await c.responses.create(model="weir", input="?", tools=[TOOL], instructions="a")
            assert w.served.last().escalation == "truncated"
            result: Any = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
            await c.responses.create(
                model="weir", input=[result], tools=[TOOL], instructions="b", previous_response_id=one.id
            )
            record = w.served.last()
            assert (record.reason, record.served, len(record.attempts)) == ("tool_loop", "cloud", 1)

    asyncio.run(run())


def test_one_request_id_twice_is_two_responses(tmp_path: Path) -> None:
    """A caller may use its x-request-id again; a response's id is the gateway's."""

    async def run() -> None:
        async with world(tmp_path, says("x"), says("ok")) as w:
            headers = {"x-request-id": "mine"}
            body = {"model": "weir", "input": "1"}
            ids = [(await w.served.client.post("/v1/responses", json=body, headers=headers)).json()["id"] for _ in "ab"]
            assert len(set(ids)) == 2

    asyncio.run(run())


REDIS = "responses: {{store: redis, redis: {{url: 'redis://127.0.0.1:{port}/0'}}, key: '{key}', timeout: {seconds}}}"
KEY = "a long and random secret, surely"


@pytest.mark.live("redis")
def test_kept_in_redis(tmp_path: Path) -> None:
    """Two gateways with one Redis continue each other's responses; tenants stay apart; nothing can be read there."""

    async def run(port: int) -> None:
        more = f"{KEYS}\n{REDIS.format(port=port, key=KEY, seconds=30)}"
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        async with (
            world(tmp_path / "a", says("x"), says("one"), more=more) as a,
            world(tmp_path / "b", says("x"), says("two"), more=more) as b,
            client(a, "ann") as first,
            client(b, "ann") as second,
            client(b, "bob") as other,
        ):
            kept = await first.responses.create(model="weir", input="my secret")
            response = await second.responses.create(model="weir", input="2", previous_response_id=kept.id)
            assert response.output_text == "two"
            assert contents(b) == ["my secret", "one", "2"]
            with pytest.raises(NotFoundError):
                await other.responses.retrieve(kept.id)
            assert a.served.metric(PUT_OK) == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET weir:response:ann:{kept.id}\r\n".encode())
        length = int((await reader.readline())[1:])
        assert b"secret" not in await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    with redis_server(tmp_path) as port:
        asyncio.run(run(port))


def test_a_store_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that only wants its answer kept gets its answer; one that needs the store gets a 503 that says so."""
    monkeypatch.setattr("gateway.store.guard.PAUSE", 3600.0)

    async def run() -> None:
        more = REDIS.format(port=1, key=KEY, seconds=0.2)
        async with world(tmp_path, says("x"), says("ok"), more=more) as w, client(w) as c:
            await _needs_and_needs_not(w, c)

    asyncio.run(run())


def test_a_store_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with one that takes the connection and says nothing: no longer than `responses.timeout`, and only once."""
    monkeypatch.setattr("gateway.store.guard.PAUSE", 3600.0)

    async def run() -> None:
        async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        more = REDIS.format(port=server.sockets[0].getsockname()[1], key=KEY, seconds=0.2)
        async with world(tmp_path, says("x"), says("ok"), more=more) as w, client(w) as c:
            await _needs_and_needs_not(w, c)
        server.close()

    asyncio.run(run())


async def _needs_and_needs_not(w: World, c: Any) -> None:
    for _ in range(2):
        async with asyncio.timeout(PATIENCE):
            assert (await c.responses.create(model="weir", input="1")).output_text == "ok"
    assert w.served.metric(PUT_FAILED) == 1
    assert w.served.metric(PUT_SKIPPED) == 1, "a store that failed is left alone for a while"
    for call in (
        c.responses.create(model="weir", input="2", previous_response_id="resp_1"),
        c.responses.retrieve("resp_1"),
        c.responses.delete("resp_1"),
    ):
        with pytest.raises(InternalServerError) as caught:
            await call
        assert (caught.value.status_code, caught.value.code) == (503, "response_store_unavailable")
        assert caught.value.response.headers["retry-after"] == "1"
    assert len(w.cloud.asked) == 2
    assert w.served.metric('weir_response_store_total{op="get",result="error"}') == 2
