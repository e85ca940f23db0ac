"""A stand-in for the internet: a server on this machine that answers for all hosts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import requests


class Answer(NamedTuple):
    body: str
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})


class Request(NamedTuple):
    url: str
    headers: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.url).query).items()}


class Internet:
    """What the server is to answer, and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda _: Answer("", 404)


@contextmanager
def played() -> Iterator[Internet]:
    """Lead all that goes through requests to the server instead."""
    site = Internet()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            request = Request(self.headers["X-Url"], dict(self.headers))
            site.requests.append(request)
            answer = site.answer(request)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    send = requests.adapters.HTTPAdapter.send

    def redirected(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        url = request.url
        request.headers["X-Url"] = url
        request.url = f"http://127.0.0.1:{server.server_port}/"
        try:
            response = send(self, request, *args, **kwargs | {"proxies": {}})
        finally:
            request.url = url
        response.url = url
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.adapters.HTTPAdapter, "send", redirected)
        yield site
    server.shutdown()
    server.server_close()
