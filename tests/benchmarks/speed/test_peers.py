"""That a peer which is to check answers does so is seen before it is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import cycle
from threading import Thread

import pytest

from benchmarks.speed import _peers
from benchmarks.speed._bench import Dead, Target


@contextmanager
def answering(*statuses: int, page: bytes = b"") -> Iterator[Target]:
    """A gateway that answers requests with these statuses in turn, and its metrics page with `page`."""
    turns = cycle(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._say(next(turns), b"{}")

        def do_GET(self) -> None:
            self._say(200 if self.headers["authorization"] else 401, page)

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to tell."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Target("peer", server.server_port)
        finally:
            server.shutdown()
            thread.join()


def test_a_peer_that_refuses_the_answers_that_break_the_schema_is_measured() -> None:
    """The mock's tenth answer breaks it; all others pass."""
    with answering(*[200] * 9, 446) as target:
        _peers.checking(target)


@pytest.mark.parametrize("status", [200, 500])
def test_a_peer_that_lets_all_pass_or_none_is_not_measured(status: int) -> None:
    """Its figures would be those of another set of features, or of a failure."""
    with answering(status) as target, pytest.raises(Dead, match="does not check answers"):
        _peers.checking(target)


def test_litellms_own_page_tells_how_many_requests_it_counted() -> None:
    """Over all labels; the page wants the key."""
    page = b"# HELP x\n" + b"".join(
        b'litellm_proxy_total_requests_metric_total{model="%b"} 2.0\n' % model for model in (b"a", b"b")
    )
    with answering(200, page=page) as target:
        assert _peers.metrics_of(target) == 4


def test_both_gateways_are_measured_with_the_features_and_without() -> None:
    """So that what the features cost them is told too."""
    assert set(_peers.PEERS) == {"nginx", "litellm", "litellm_plain", "portkey", "portkey_plain"}
