"""The gateway forwards faithfully, and fails only as it is told."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cloud.gateway import HOST, Gateway, Request


class Echo(BaseHTTPRequestHandler):
    """Answers with what it got; the answer to /chunked comes in chunks."""

    protocol_version = "HTTP/1.1"

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.requestline.split()[1]
        got = {"method": self.command, "path": path, "headers": self.headers.items(), "body": body.decode()}
        answer = json.dumps(got).encode()
        self.send_response(200, "Fine")
        self.send_header("X-Twice", "1")
        self.send_header("X-Twice", "2")
        if path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            answer = b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer)
        else:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with ThreadingHTTPServer((HOST, 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Gateway(server.server_port) as gateway:
            yield gateway
        server.shutdown()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(HOST, gateway.port, timeout=10)
    yield connection
    connection.close()


def ask(client: http.client.HTTPConnection, path: str = "/", method: str = "GET") -> int:
    client.request(method, path)
    response = client.getresponse()
    response.read()
    return response.status


def test_a_request_arrives_as_it_was_sent(gateway: Gateway, client: http.client.HTTPConnection) -> None:
    headers = {
        "Host": "bucket.example:80",
        "x-amz-Date": "today",
        "Accept-Encoding": "identity",
        "Expect": "100-continue",
    }
    client.request("PUT", "//a%20b/%2F/c?x=1&y=%20", "body ü".encode(), headers)
    response = client.getresponse()
    assert (response.status, response.reason) == (200, "Fine")
    assert response.headers.get_all("X-Twice") == ["1", "2"]
    got = json.loads(response.read())
    assert (got["method"], got["path"], got["body"]) == ("PUT", "//a%20b/%2F/c?x=1&y=%20", "body ü")
    assert dict(got["headers"]) == headers | {"Content-Length": "7"}
    (request,) = gateway.requests
    assert (request.method, request.path, request.body) == (
        "PUT",
        "//a%20b/%2F/c?x=1&y=%20",
        "body ü".encode(),
    )
    assert request.headers["X-AMZ-DATE"] == "today"


def test_chunks_arrive_whole(client: http.client.HTTPConnection) -> None:
    client.request("POST", "/chunked", iter([b"one,", b"two"]), encode_chunked=True)
    got = json.loads(client.getresponse().read())
    assert got["body"] == "one,two"
    assert dict(got["headers"])["Content-Length"] == "7"


def test_half_a_request_is_not_forwarded(gateway: Gateway) -> None:
    for head in (b"Content-Length: 10\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\na\r\n"):
        with socket.create_connection((HOST, gateway.port), timeout=10) as client:
            client.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\n" + head + b"12345")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
    assert gateway.requests == []


def test_a_connection_is_kept(client: http.client.HTTPConnection) -> None:
    assert ask(client) == 200
    kept = client.sock
    client.request("HEAD", "/x")
    response = client.getresponse()
    assert (response.read(), int(response.headers["Content-Length"]) > 50) == (b"", True)
    assert ask(client, "/", "DELETE") == 200
    assert client.sock is kept is not None


def test_failures_are_counted_and_mended(gateway: Gateway, client: http.client.HTTPConnection) -> None:
    gateway.fail(503, 2, "key", b"<Code>SlowDown</Code>", {"Retry-After": "1"})
    assert ask(client, "/other") == 200
    client.request("PUT", "/key?x", b"data")
    response = client.getresponse()
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert response.read() == b"<Code>SlowDown</Code>"
    assert [ask(client, "/key") for _ in range(3)] == [503, 200, 200]
    gateway.fail(429, None)
    assert {ask(client) for _ in range(5)} == {429}
    gateway.mend()
    assert ask(client) == 200
    assert len(gateway.requests) == 11


def test_down_refuses_and_breaks_and_up_is_the_same_address(gateway: Gateway) -> None:
    kept = http.client.HTTPConnection(HOST, gateway.port, timeout=10)
    assert ask(kept) == 200
    gateway.down()
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(kept)
    with pytest.raises(ConnectionRefusedError):
        ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10))
    gateway.down()
    for _ in range(3):
        gateway.up()
        assert ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10)) == 200
        gateway.down()
    assert len(gateway.requests) == 4


def test_a_cut_comes_before_the_server_or_in_its_answer(gateway: Gateway) -> None:
    gateway.cut("/a")
    gateway.cut("/b", answered=True)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10), "/a")
    with pytest.raises(http.client.IncompleteRead):
        ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10), "/b")
    assert [request.path for request in gateway.requests] == ["/a", "/b"]
    assert ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10), "/a") == 200


def test_the_hook_sees_each_request_and_may_take_the_gateway_down(gateway: Gateway) -> None:
    seen = []

    def before(request: Request) -> None:
        seen.append(request.path)
        if request.path == "/now":
            gateway.down()

    gateway.before = before
    assert ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10), "/first") == 200
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10), "/now")
    with pytest.raises(ConnectionRefusedError):
        ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10))
    gateway.mend()
    gateway.up()
    assert ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10)) == 200
    assert seen == ["/first", "/now"]


def test_many_at_once(gateway: Gateway) -> None:
    gateway.fail(503, 40)
    answers: list[int] = []

    def client() -> None:
        connection = http.client.HTTPConnection(HOST, gateway.port, timeout=30)
        answers.extend(ask(connection, f"/{number}") for number in range(10))
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(20)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert (answers.count(503), answers.count(200), len(gateway.requests)) == (40, 160, 200)


def test_a_server_that_is_gone_is_a_bad_gateway() -> None:
    with ThreadingHTTPServer((HOST, 0), Echo) as server:
        port = server.server_port
    with Gateway(port) as gateway:
        assert ask(http.client.HTTPConnection(HOST, gateway.port, timeout=10)) == 502
