"""A proxy on loopback in front of a tracking server, which fails where a test wants it to."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

HTML = b"<!doctype html><title>Sign in</title>"


@dataclass
class Proxy:
    """``is_faulty`` is asked about each request, by its path and its body; ``fault`` is what then happens.

    That is a status, or a word: ``html`` (a page for people), ``drop`` (the connection), ``hang``, ``cut`` (the
    connection, in the middle of the answer), ``short`` (half the answer, as if it were all), ``empty`` (JSON of
    nothing).
    """

    url: str
    upstream: str
    fault: int | str = 500
    is_faulty: Callable[[str, bytes], bool] = lambda _path, _body: False
    faults: int = 0
    """How many requests failed."""
    is_over: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        proxy: Proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not proxy.is_faulty(self.path, body):
            self.forward(proxy, body)
            return
        proxy.faults += 1
        if proxy.fault == "hang":
            proxy.is_over.wait(90)
        if proxy.fault in ("hang", "drop"):
            self.close_connection = True
        elif proxy.fault == "html":
            self.answer(200, [("Content-Type", "text/html")], HTML)
        elif proxy.fault == "empty":
            self.answer(200, [("Content-Type", "application/json")], b"{}")
        elif proxy.fault in ("cut", "short"):
            self.forward(proxy, body, is_cut=True)
        else:
            # Those below 500 come from what stands in front of MLflow, which speaks no JSON.
            content = b'{"error_code": "INTERNAL_ERROR", "message": "no"}' if int(proxy.fault) >= 500 else b"no"
            self.answer(int(proxy.fault), [("Retry-After", "1")], content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that the server looks for

    def forward(self, proxy: Proxy, body: bytes, *, is_cut: bool = False) -> None:
        connection = http.client.HTTPConnection(urlsplit(proxy.upstream).netloc, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, body, kept)
        answer = connection.getresponse()
        content = answer.read()
        dropped = ("transfer-encoding", "content-length", "connection")
        headers = [item for item in answer.getheaders() if item[0].lower() not in dropped]
        connection.close()
        announced = len(content)
        if is_cut:
            content = content[: announced // 2]
            announced = announced if proxy.fault == "cut" else len(content)
            self.close_connection = True
        self.answer(answer.status, headers, content, announced)

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, announced: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if announced is None else announced))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve_faults(upstream: str):
    """A `Proxy` in front of the server at ``upstream``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    proxy = Proxy(url=f"http://127.0.0.1:{server.server_address[1]}", upstream=upstream)
    server.proxy = proxy
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.is_over.set()
        server.shutdown()
        server.server_close()
