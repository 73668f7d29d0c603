"""A proxy before a server of HTTP that does to some requests what networks and busy servers do."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit

PASS, BUSY, LOSE_REPLY, CUT = "pass", "busy", "lose the reply", "cut"


@dataclass(frozen=True)
class Reply:
    """An answer that the proxy gives itself."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


SLOW_DOWN = Reply(
    503,
    (("Content-Type", "application/xml"),),
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
)


class FaultyProxy:
    """Passes requests on, but for those that ``choose`` wants otherwise.

    Attributes
    ----------
    url : str
        The address of the proxy.
    choose : Callable
        Takes method, path and headers of a request and returns one of ``PASS``, ``BUSY`` (answers 503), ``LOSE_REPLY``
        (the server does it, the caller hears nothing) and ``CUT`` (nothing reaches the server), or the ``Reply`` that
        is given in the place of the server's. One call at a time.
    chosen : list of str or Reply
        What was done so far that was not ``PASS``.
    """

    def __init__(self, target: str):
        self._target, self._lock = urlsplit(target).netloc, Lock()
        self.choose: Callable[[str, str, dict], str | Reply] = lambda method, path, headers: PASS
        self.chosen: list[str | Reply] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                proxy._answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._lock:
            fault = self.choose(handler.command, handler.path, {k.lower(): v for k, v in handler.headers.items()})
            if fault != PASS:
                self.chosen.append(fault)
        if fault == CUT:
            handler.close_connection = True
            return
        reply = SLOW_DOWN if fault == BUSY else fault
        if isinstance(reply, Reply):
            self._reply(handler, reply.status, list(reply.headers), reply.body)
            return
        connection = http.client.HTTPConnection(self._target, timeout=120)
        # The headers as they are: the host is among what was signed.
        connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
        for name, value in handler.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == LOSE_REPLY:
            handler.close_connection = True
            return
        hop_by_hop = {"transfer-encoding", "connection", "content-length", "keep-alive"}
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in hop_by_hop]
        if handler.command == "HEAD":
            headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
        self._reply(handler, answer.status, headers, content)

    @staticmethod
    def _reply(handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        handler.send_response_only(status)
        for name, value in headers:
            handler.send_header(name, value)
        if handler.command != "HEAD":
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)


@contextmanager
def before(target: str) -> Iterator[FaultyProxy]:
    """Run a proxy before a server until the end of the block."""
    proxy = FaultyProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
