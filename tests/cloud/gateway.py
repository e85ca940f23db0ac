"""A reverse proxy in front of a real server, which a test can make fail, cut connections or go away."""

import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"

# Headers that are about the connection to the gateway, or that it sets itself.
OWN = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Request:
    """A request as it reached the gateway; its path includes the query, its headers know no case."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Fault:
    """An answer instead of the server's, to the next `times` requests with `path` in their path."""

    path: str
    times: int | None
    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass
class Cut:
    """A dropped connection for the next request with `path` in its path."""

    path: str
    answered: bool


class Gateway:
    """Forwards every request unchanged, Host included: signatures made for its address hold at the server.

    Args:
        port: Port of the server on this machine.
        after: Called with each request that the server has answered and the answer's status, before the
            client gets it.
    """

    def __init__(self, port: int, after: Callable[[Request, int], None] | None = None) -> None:
        self.target = port
        self.after = after
        self.requests: list[Request] = []
        self.before: Callable[[Request], None] | None = None
        """Called with each request before anything else is done with it; may take the gateway down."""
        self._faults: list[Fault | Cut] = []
        self._lock = threading.RLock()
        self._listen(0)
        self.port: int = self._listener.server_port

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    def fail(
        self,
        status: int,
        times: int | None,
        path: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer requests in the server's place.

        Args:
            status: HTTP status of the answer.
            times: Number of requests that get it; None until `mend`.
            path: Text that must occur in a request's path or query.
            body: Body of the answer.
            headers: Headers of the answer, beside Content-Length.
        """
        with self._lock:
            self._faults.append(Fault(path, times, status, body, headers or {}))

    def cut(self, path: str = "", answered: bool = False) -> None:
        """Drop the connection of the next request.

        Args:
            path: Text that must occur in the request's path or query.
            answered: False: the server never sees the request. True: it does, and the connection breaks
                half-way through its answer.
        """
        with self._lock:
            self._faults.append(Cut(path, answered))

    def mend(self) -> None:
        """Forget all faults, and the hook."""
        with self._lock:
            self._faults.clear()
            self.before = None

    def down(self) -> None:
        """Refuse connections, and break those that are open."""
        with self._lock:
            listener, self._up = self._listener, False
        listener.shutdown()
        listener.server_close()
        listener.drop_connections()

    def up(self) -> None:
        """Listen again, on the same port."""
        with self._lock:
            if not self._up:
                self._listen(self.port)

    def _listen(self, port: int) -> None:
        self._listener = _Listener(self, port)
        self._up = True
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def _fault(self, request: Request) -> Fault | Cut | None:
        with self._lock:
            for fault in self._faults:
                if fault.path not in request.path:
                    continue
                if isinstance(fault, Cut):
                    self._faults.remove(fault)
                elif fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                return fault
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._up:
            self.down()


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, gateway: Gateway, port: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.gateway = gateway
        self._open: set[socket.socket] = set()
        self._closed = False
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._lock:
            self._closed = True
            for connection in self._open:
                _drop(connection)

    def is_closed(self) -> bool:
        return self._closed

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client may go away, and `drop_connections` breaks connections on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def forward(self) -> None:
        # self.path has one slash where the request may have two.
        body = self._body()
        if body is None:  # the client died while it wrote
            self._hang_up()
            return
        request = Request(self.command, self.requestline.split()[1], self.headers, body)
        gateway = self.server.gateway
        gateway.requests.append(request)
        before = gateway.before
        if before is not None:
            before(request)
        fault = gateway._fault(request)
        if self.server.is_closed() or (isinstance(fault, Cut) and not fault.answered):
            self._hang_up()
        elif isinstance(fault, Fault):
            self._answer(fault.status, None, list(fault.headers.items()), fault.body)
        else:
            self._ask(request, half=fault is not None)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = forward  # noqa: N815

    def _body(self) -> bytes | None:
        """Return the body, or None if the client did not send all of it."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(size)
            return body if len(body) == size else None
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunk = self.rfile.read(size + 2)
            if len(chunk) < size + 2:
                return None
            body += chunk[:size]
        while self.rfile.readline().strip():
            pass  # trailers
        return body

    def _ask(self, request: Request, half: bool) -> None:
        target = http.client.HTTPConnection(HOST, self.server.gateway.target)
        try:
            target.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in OWN:
                    target.putheader(name, value)
            if request.body or "Content-Length" in request.headers or "Transfer-Encoding" in request.headers:
                target.putheader("Content-Length", str(len(request.body)))
            target.endheaders(request.body or None)
            response = target.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._answer(502, None, [], f"The server behind the gateway does not answer: {error!r}".encode())
        else:
            if self.server.gateway.after:
                self.server.gateway.after(request, response.status)
            self._answer(response.status, response.reason, response.getheaders(), body, half)
        finally:
            target.close()

    def _answer(
        self,
        status: int,
        reason: str | None,
        headers: list[tuple[str, str]],
        body: bytes,
        half: bool = False,
    ) -> None:
        length = str(len(body))
        self.send_response_only(status, reason)
        for name, value in headers:
            if name.lower() not in OWN:
                self.send_header(name, value)
            elif name.lower() == "content-length" and self.command == "HEAD":
                length = value
        if status not in (204, 304):
            self.send_header("Content-Length", length)
        if self.command == "HEAD":
            body = b""
        if not half:
            self.end_headers()
            self.wfile.write(body)
            return
        if body:
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        _drop(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `requests` holds what came."""


def _drop(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster
