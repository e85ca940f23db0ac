"""Fixtures: fakesnow as Snowflake, behind a gateway that lets in only who proves to be its user."""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request as Call
from urllib.request import urlopen
from uuid import uuid4

import pytest

from blocks.role import ROOT
from tests.cloud import free_ports
from tests.cloud.gateway import HOST, Cut, Fault, Gateway, Request

if TYPE_CHECKING:
    from prefect_snowflake import SnowflakeConnector, SnowflakeCredentials

    from blocks.snowflake import SnowflakeWarehouse

START = 60  # seconds that the server may take to start
LOGIN = "/session/v1/login-request"
UPLOAD = "/fs_bucket/"
QUERY = "/queries/v1/query-request"
STATEMENT = "with the statement: "


class Snowflake(Gateway):
    """A gateway to fakesnow that checks what fakesnow does not: users, passwords, keys and roles.

    Args:
        port: Port of fakesnow.
    """

    account, user, role, compute = "ORGANISATION-ACCOUNT", "LOADER", "LOADERS", "COMPUTE"

    def __init__(self, port: int) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        super().__init__(port)
        self.password = f"secret-{uuid4().hex}"
        self.passphrase = f"secret-{uuid4().hex}"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.sessions: list[str] = []
        """Tokens of the sessions that were begun."""

    @property
    def pem(self) -> bytes:
        """The private key, encrypted with the passphrase."""
        return pem(self.key, self.passphrase)

    def credentials(self, **changes: Any) -> "SnowflakeCredentials":
        """Return the credentials block of the user's password."""
        from prefect_snowflake import SnowflakeCredentials

        values = {"account": self.account, "user": self.user, "password": self.password, "role": self.role}
        return SnowflakeCredentials(**values | changes)

    def key_pair(self, **changes: Any) -> "SnowflakeCredentials":
        """Return the credentials block of the user's key."""
        from prefect_snowflake import SnowflakeCredentials

        values: dict[str, Any] = {
            "account": self.account,
            "user": self.user,
            "role": self.role,
            "authenticator": "snowflake_jwt",
            "private_key": self.pem,
            "private_key_passphrase": self.passphrase,
        }
        return SnowflakeCredentials(**values | changes)

    def connector(self, **changes: Any) -> "SnowflakeConnector":
        """Return the connector block to a database of its own."""
        from prefect_snowflake import SnowflakeConnector

        values: dict[str, Any] = {
            "credentials": self.credentials(),
            "database": f"TEST_{uuid4().hex[:12]}",
            "schema": "PUBLIC",
            "warehouse": self.compute,
        }
        return SnowflakeConnector(**values | changes)

    def warehouse(self, **changes: Any) -> "SnowflakeWarehouse":
        """Return the warehouse block to a database of its own."""
        from blocks.snowflake import SnowflakeWarehouse

        place = {"host": HOST, "port": self.port, "protocol": "http"}
        return SnowflakeWarehouse(**{"connector": self.connector(), **place} | changes)

    def refuse(self, statement: str, answer: int | bytes, times: int | None = 1) -> None:
        """Answer statements in the server's place.

        Args:
            statement: How they begin.
            answer: HTTP status, or the body of a `refusal`.
            times: Number of requests that get it; None until `mend`.
        """
        status, body = (200, answer) if isinstance(answer, bytes) else (answer, b"")
        self.fail(status, times, f"{STATEMENT}{statement}", body)

    def statements(self) -> list[str]:
        """Return what clients have sent, in order."""
        return [statement for request in self.requests if (statement := sql(request))]

    def end_sessions(self) -> None:
        """End the sessions of clients that went away, as Snowflake does after a while."""
        while self.sessions:
            with suppress(HTTPError):  # the client has ended it
                self._post(
                    "/session?delete=true", b"{}", {"Authorization": _authorization(self.sessions.pop())}
                )

    def _fault(self, request: Request) -> Fault | Cut | None:
        # A fault can be meant for a statement, which is in the body.
        fault = super()._fault(replace(request, path=f"{request.path} {STATEMENT}{sql(request)}"))
        if fault is None and LOGIN in request.path:
            return Fault(LOGIN, 1, 200, self._login(request), {"Content-Type": "application/json"})
        return fault

    def _login(self, request: Request) -> bytes:
        data = json.loads(_body(request))["data"]
        if data.get("AUTHENTICATOR") == "SNOWFLAKE_JWT":
            if not self._knows(data["TOKEN"]):
                return refusal(390144, "JWT token is invalid. [0e63]", "08001")
        elif (data.get("LOGIN_NAME"), data.get("PASSWORD")) != (self.user, self.password):
            return refusal(390100, "Incorrect username or password was specified.", "08001")
        if f"roleName={self.role}" not in request.path.split("&"):
            return refusal(
                390189, f"Role specified in the connect string is not granted to {self.user}.", "08001"
            )
        headers = {name: request.headers[name] for name in ("Content-Type", "Content-Encoding")}
        answer = json.loads(self._post(request.path, request.body, headers))
        self.sessions.append(answer["data"]["token"])
        # What fakesnow leaves out: without a master token, the client could not end the session.
        compute = self.compute if f"warehouse={self.compute}" in request.path else None
        answer["data"]["masterToken"] = answer["data"]["token"]
        answer["data"]["sessionInfo"] |= {"roleName": self.role, "warehouseName": compute}
        return json.dumps(answer).encode()

    def _knows(self, token: str) -> bool:
        import jwt

        try:
            claims = jwt.decode(token, self.key.public_key(), algorithms=["RS256"])
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == f"{self.account}.{self.user}")

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        call = Call(f"http://{HOST}:{self.target}{path}", data=body, headers=headers, method="POST")
        with urlopen(call, timeout=START) as response:
            found: bytes = response.read()
        return found


def refusal(code: int, message: str, state: str) -> bytes:
    """Return the body of an answer in which Snowflake refuses to do something."""
    data = {"errorCode": f"{code:06d}", "sqlState": state}
    answer = {"data": data, "code": f"{code:06d}", "message": message, "success": False}
    return json.dumps(answer).encode()


def pem(key: Any, passphrase: str) -> bytes:
    """Return a private key as an encrypted PEM file."""
    from cryptography.hazmat.primitives import serialization as how

    encryption = how.BestAvailableEncryption(passphrase.encode())
    content: bytes = key.private_bytes(how.Encoding.PEM, how.PrivateFormat.PKCS8, encryption)
    return content


def sql(request: Request) -> str:
    """Return the statement in a request, or nothing."""
    return json.loads(_body(request))["sqlText"] if QUERY in request.path else ""


def _body(request: Request) -> bytes:
    zipped = request.headers.get("Content-Encoding") == "gzip"
    return gzip.decompress(request.body) if zipped else request.body


def _authorization(token: str) -> str:
    return f'Snowflake Token="{token}"'


@pytest.fixture(scope="session")
def snowflake_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("snowflake") / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", __name__, str(port)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        with Snowflake(port) as gateway:
            _wait(port, process, log)
            yield gateway
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            urlopen(Call(f"http://{HOST}:{port}/queries/v1/abort-request", data=b"{}"), timeout=5).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"fakesnow does not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)


@pytest.fixture
def snowflake(snowflake_gateway: Snowflake) -> Iterator[Snowflake]:
    """The server, without what other tests have done to it."""
    snowflake_gateway.requests.clear()
    yield snowflake_gateway
    snowflake_gateway.mend()
    snowflake_gateway.up()
    snowflake_gateway.end_sessions()


def _serve(port: int) -> None:
    """Serve fakesnow with two of its gaps closed."""
    import fakesnow.arrow
    import fakesnow.server
    import fakesnow.transforms
    import pyarrow
    import uvicorn
    from sqlglot import exp

    comment_of = fakesnow.transforms.extract_comment_on_table
    structure_of = fakesnow.arrow.timestamp_to_sf_struct

    def comment(expression: Any) -> Any:
        # It notes in a database of its own that a new table has no comment; in a transaction that has
        # changed another database, as every MERGE does, DuckDB allows no such thing.
        found = comment_of(expression)
        if isinstance(found, exp.Create) and found.args.get("table_comment", (None, ""))[1] is None:
            del found.args["table_comment"]
        return found

    def structure(moments: Any) -> Any:
        # It sends moments that are NULL as 1970.
        found, mask = structure_of(moments), moments.combine_chunks().is_null()
        return pyarrow.StructArray.from_arrays(found.flatten(), fields=list(found.type), mask=mask)

    fakesnow.transforms.extract_comment_on_table = comment
    fakesnow.arrow.timestamp_to_sf_struct = structure
    uvicorn.run(fakesnow.server.app, host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
