"""The splitter: the same events however the network cuts the bytes, and not one byte lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.sse import BOM, Event, EventTooLarge, Splitter, encode

_LINES = [
    b"data: {}", b"data:x", b"data:  two spaces", b"data", b"data: \xe2\x82\xac\xf0\x9f\x98\x80", b": comment", b":", b"event: error",
    b"event:", b"id: 1", b"retry: 10", b"data: [DONE]", b"nonsense", b"",
]  # fmt: skip
_streams = st.lists(
    st.tuples(st.sampled_from(_LINES), st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b""]))
)


def _split(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    splitter = Splitter()
    events: list[Event] = []
    at = 0
    for cut in sorted(cuts or []):
        events += splitter.feed(data[at:cut])
        at = max(at, cut)
    return events + splitter.feed(data[at:]) + splitter.close()


def _oracle(data: bytes) -> list[tuple[bytes, str]]:
    """The events that say something, by the letter of the specification and in the slowest way."""
    events: list[tuple[bytes, str]] = []
    lines = data.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    said: list[bytes] = []
    name = b""
    for line in [*lines, b""]:
        if not line:
            if b"\n".join(said):
                events.append((b"\n".join(said), name.decode()))
            said, name = [], b""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            said.append(value)
        elif field == b"event":
            name = value
    return events


@given(_streams, st.booleans(), st.data())
def test_any_cut(parts: list[tuple[bytes, bytes]], bom: bool, data: st.DataObject) -> None:
    """Cutting the stream at any positions gives the same events, raws included."""
    stream = (BOM if bom else b"") + b"".join(line + end for line, end in parts)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    whole = _split(stream)
    assert _split(stream, cuts) == whole
    assert _split(stream, list(range(len(stream)))) == whole


@given(_streams, st.booleans())
def test_nothing_is_lost(parts: list[tuple[bytes, bytes]], bom: bool) -> None:
    """The raws joined are the input; the events that say something are those of the specification."""
    stream = (BOM if bom else b"") + b"".join(line + end for line, end in parts)
    events = _split(stream)
    assert b"".join(event.raw for event in events) == stream
    assert [(event.data, event.event) for event in events if event.data] == _oracle(stream)


@given(st.binary(max_size=200))
def test_any_bytes(stream: bytes) -> None:
    """Bytes that are no event stream at all are split without an error, and without a loss."""
    assert b"".join(event.raw for event in _split(stream)) == stream


def test_at_once() -> None:
    """An event is given with the byte that completes it, a keep-alive comment too."""
    splitter = Splitter()
    assert splitter.feed(b": keep-alive\n\n") == [Event(b"", "", b": keep-alive\n\n")]
    assert splitter.feed(b"data: {}\n") == []
    assert splitter.feed(b"\n") == [Event(b"{}", "", b"data: {}\n\n")]
    assert splitter.feed(b"data: {}\r\n\r") == []
    assert splitter.feed(b"\n") == [Event(b"{}", "", b"data: {}\r\n\r\n")]
    assert splitter.close() == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_bound(size: int) -> None:
    """An event longer than the limit is an error, however it comes; one as long as the limit is none."""
    fits = b"data: " + b"x" * 92 + b"\n\n"
    for stream, good in ((fits, True), (b"data: x" + fits[6:], False), (b"data: " + b"x" * 1000, False)):
        splitter = Splitter(limit=100)
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        if good:
            assert [e for piece in pieces for e in splitter.feed(piece)] == [Event(b"x" * 92, "", fits)]
            continue
        with pytest.raises(EventTooLarge):
            [splitter.feed(piece) for piece in pieces]


@given(st.lists(st.text().map(str.encode), min_size=1, max_size=4), st.sampled_from(["", "error", "response.created"]))
def test_encode(lines: list[bytes], name: str) -> None:
    """What `encode` writes, the splitter reads back: one event, its line ends made LF."""
    data = b"\n".join(lines)
    (event,) = _split(encode(data, name))
    assert event.data == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert event.event == name


def test_encode_refuses_two_lines_in_a_name() -> None:
    """An event name with a line end would smuggle a second field in."""
    with pytest.raises(ValueError, match="one line"):
        encode(b"{}", "a\ndata: b")


@given(_streams, st.lists(st.integers(0, 200), max_size=8))
def test_given_back_and_fed_again(parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """What has come of an event may be taken back before the next feed: fed again, nothing changes. What is too long stays."""
    stream = b"".join(line + end for line, end in parts)
    splitter = Splitter()
    events: list[Event] = []
    bounds = sorted(min(cut, len(stream)) for cut in cuts)
    for begin, end in zip([0, *bounds], [*bounds, len(stream)], strict=True):
        left = splitter.give_back(10)
        events += splitter.feed((left or b"") + stream[begin:end])
    assert events + splitter.close() == _split(stream)
    assert splitter.give_back(10) in (None, b"")
    splitter.feed(b"data: {}\n\ndata: long")
    assert splitter.give_back(5) is None
    assert splitter.give_back(10) == b"data: long"


def test_a_line_feed_behind_an_event_is_kept() -> None:
    """A read that ends with one more line feed than its events: every byte that came in comes out."""
    splitter = Splitter()
    found = splitter.feed(b"data: x\n\n\n") + splitter.feed(b"data: y\n\n")
    assert [event.data for event in found if event.data] == [b"x", b"y"]
    assert b"".join(event.raw for event in found) == b"data: x\n\n\ndata: y\n\n"
