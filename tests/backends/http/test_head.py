"""Heads in both directions, without a socket."""

import string
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.http.base import Standing
from backends.http.head import Target, answer_head, ends_with_the_connection, request_head, target

HERE = target("http://127.0.0.1:8000/v1/chat/completions")
TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-", min_size=1, max_size=12)


def test_a_request_head() -> None:
    """Line, host, our defaults, the caller's headers in lower case, the length last."""
    assert (
        request_head(HERE, {"Content-Type": "application/json", "x": "ä"}, 7)
        == (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nuser-agent: weir\r\naccept-encoding: identity\r\n"
            "content-type: application/json\r\nx: ä\r\ncontent-length: 7\r\n\r\n"
        ).encode()
    )


@given(st.dictionaries(TOKEN, st.text(max_size=20), max_size=5), st.text(max_size=20), st.integers(0, 10**9))
def test_standing_headers(headers: dict[str, str], request_id: str, length: int) -> None:
    """Written once or each time, one place or another, the request's id in its own argument or among them: the same lines, or refused."""

    def lines(to: Target, headers: Mapping[str, str], request_id: str = "") -> list[bytes] | None:
        try:
            return sorted(request_head(to, headers, length, request_id).split(b"\r\n"))
        except ValueError:
            return None

    headers = {name: value for name, value in headers.items() if name.lower() != "x-request-id"}
    named = {**headers, "x-request-id": request_id} if request_id else headers
    standing = Standing(headers)
    for to in (HERE, target("http://h/%25"), HERE):
        assert lines(to, standing, request_id) == lines(to, headers, request_id) == lines(to, named)


def test_standing_headers_are_written_for_so_many_places() -> None:
    """However many are asked, as where replicas come and go: what is kept is bounded."""
    standing = Standing({"x": "1"})
    kept: set[int] = set()
    for number in range(200):
        assert b"host: h%d\r\n" % number in request_head(target(f"http://h{number}"), standing, 0)
        kept.add(len(standing.written))
    assert max(kept) == 64


def test_what_the_caller_may_overrule() -> None:
    """Host, user agent and accepted codings are the caller's where it names them: each stands there once."""
    head = request_head(HERE, {"Host": "vllm", "User-Agent": "me", "accept-encoding": "gzip"}, 0)
    assert head.count(b"host: ") == head.count(b"user-agent: ") == head.count(b"accept-encoding: ") == 1
    assert b"host: vllm\r\n" in head


def test_a_name_twice_in_other_letters() -> None:
    """The last one counts, and stands there once."""
    head = request_head(HERE, {"X-A": "1", "b": "2", "x-a": "3"}, 0)
    assert b"\r\nb: 2\r\nx-a: 3\r\n" in head
    assert head.lower().count(b"x-a:") == 1


def test_percent_signs_stay() -> None:
    """In the path, in a name and in a value."""
    head = request_head(target("http://h/a%20b%s"), {"x%d": "100%s"}, 5)
    assert head.startswith(b"POST /a%20b%s HTTP/1.1\r\n")
    assert head.endswith(b"\r\nx%d: 100%s\r\ncontent-length: 5\r\n\r\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "5"}, {"Content-Length": "5"}, {"transfer-encoding": "chunked"}, {"connection": "close"}, {"expect": "x"},
        {"upgrade": "h2c"}, {"te": "trailers"}, {"": "x"}, {"a b": "x"}, {"a:": "x"}, {"ä": "x"}, {"a\r\nb": "x"}, {"x": "a\r\nb: c"},
        {"x": "a\nb"}, {"x": "a\rb"}, {"x": "a\0b"}, {"x": "a\ud800"},
    ],
)  # fmt: skip
def test_what_may_not_be_sent(headers: dict[str, str]) -> None:
    """Framing is ours, names are tokens, values are one line: anything else is refused, and its value is not repeated."""
    with pytest.raises(ValueError):
        request_head(HERE, headers, 0)


@given(st.dictionaries(TOKEN, st.text(max_size=20), max_size=5))
def test_no_header_becomes_two(headers: dict[str, str]) -> None:
    """Whatever the values hold: either refused, or as many lines as headers, and one end."""
    try:
        head = request_head(HERE, headers, 3)
    except ValueError:
        return
    assert head.endswith(b"\r\ncontent-length: 3\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1
    names = {name.lower() for name in headers} | {"host", "user-agent", "accept-encoding"}
    lines = head[:-4].split(b"\r\n")
    assert {line.partition(b":")[0].decode() for line in lines[1:-1]} == names
    assert len(lines) == len(names) + 2
    assert head.count(b"\n") == head.count(b"\r") == len(lines) + 1


@pytest.mark.parametrize(
    ("url", "host", "port", "netloc", "line"),
    [
        ("http://a", "a", 80, "a", b"POST / HTTP/1.1\r\n"),
        ("HTTP://A:81/x?y=z#f", "a", 81, "A:81", b"POST /x?y=z HTTP/1.1\r\n"),
        ("http://[::1]:8000/v1", "::1", 8000, "[::1]:8000", b"POST /v1 HTTP/1.1\r\n"),
        ("http://a?q", "a", 80, "a", b"POST /?q HTTP/1.1\r\n"),
    ],
)
def test_where_a_url_leads(url: str, host: str, port: int, netloc: str, line: bytes) -> None:
    """Host, port (80 unless said), what `host:` says, and the request line; a fragment stays here."""
    to = target(url)
    assert (*to.place, to.netloc, to.line) == (host, port, netloc, line)


@given(st.text(max_size=30).map("http://h/".__add__))
def test_no_url_breaks_the_request_line(url: str) -> None:
    """Whatever the path: either refused or one line of three words."""
    try:
        line = target(url).line
    except ValueError:
        return
    assert line.endswith(b" HTTP/1.1\r\n")
    assert line.count(b" ") == 2
    assert line.count(b"\n") == line.count(b"\r") == 1


def test_an_answer_head() -> None:
    """Lower-case names; repeated ones joined; what is for one hop only, and what `connection` names, stays here."""
    head = answer_head(
        [
            (b"Content-Type", b"application/json"), (b"X-A", b"1 "), (b"x-a", b"2"), (b"Connection", b"keep-alive, X-Hop"),
            (b"X-Hop", b"1"), (b"Keep-Alive", b"timeout=5"), (b"Content-Length", b"5"), (b"Set-Cookie", b"a=b"), (b"x-latin", b"\xe4"),
        ]
    )  # fmt: skip
    assert head.headers == {"content-type": "application/json", "x-a": "1, 2", "x-latin": "ä"}
    assert head.coding == ""


@pytest.mark.parametrize(
    ("fields", "coding"),
    [
        ([], ""),
        ([(b"Content-Encoding", b"GZip")], "gzip"),
        ([(b"content-encoding", b"identity")], ""),
        ([(b"content-encoding", b"gzip"), (b"content-encoding", b"br")], "gzip, br"),
    ],
)
def test_the_content_coding(fields: list[tuple[bytes, bytes]], coding: str) -> None:
    """The content coding is told to whoever decodes, and not passed on."""
    head = answer_head(fields)
    assert (head.coding, head.headers) == (coding, {})


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b""])
def test_transfer_codings_that_nobody_asked_for(coding: bytes) -> None:
    """Only `chunked` says where the body ends."""
    with pytest.raises(ValueError, match="transfer coding"):
        answer_head([(b"Transfer-Encoding", coding)])


@pytest.mark.parametrize(
    ("status", "fields", "ends"),
    [
        (200, [], True),
        (500, [(b"content-type", b"x")], True),
        (200, [(b"Content-Length", b"5")], False),
        (200, [(b"Transfer-Encoding", b"chunked")], False),
        (204, [], False),
        (304, [], False),
    ],
)
def test_where_a_body_ends(status: int, fields: list[tuple[bytes, bytes]], ends: bool) -> None:
    """The connection's end is the body's only where nothing else says where it ends (RFC 9112, 6.3)."""
    assert ends_with_the_connection(status, fields) is ends
