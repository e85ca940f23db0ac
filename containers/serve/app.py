"""The HTTP app that answers with a bundle: as a local endpoint, and in the container that SageMaker runs.

One process uses one core. After `serve`, there is one for each core that the container may use.

    python -m containers.serve.app --bundle FOLDER --port 8080
    curl 127.0.0.1:8080/invocations -H 'Content-Type: application/json' -d '["Lovely day!"]'

The contract is in the Amazon SageMaker AI Developer Guide, "Custom Inference Code with Hosting Services".
"""

import argparse
import errno
import math
import os
import re
import socket
import sys
from asyncio import get_running_loop
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.supervisors import Multiprocess

from containers.serve.formats import MAX_BYTES, WRITERS, choose, read_texts
from containers.serve.openapi import describe
from containers.serve.predictor import WINDOW, BundleError, Predictor

VERSION = re.compile(r"[A-Za-z0-9._+-]{1,64}")
VERSION_FILE = "version"  # in the bundle's folder: a bundle that is mounted over another brings its own
GRACE = 25  # seconds to finish what has begun; SageMaker kills 30 s after SIGTERM
BUSY = 4  # requests worked on at a time; more would only keep each other, and /ping, from the one core
SHORT = 16_384  # bytes of a body, some hundred tweets, that is answered before a thread would pay
HUNG = 60  # seconds after which a process that does not answer its parent is replaced
CGROUP = Path("/sys/fs/cgroup")


def create_app(predictor: Predictor, version: str) -> Starlette:
    """Return the app.

    Args:
        predictor: What answers.
        version: Model version to report.

    Raises:
        ValueError: `version` does not fit into a header or a file name.
    """
    if not VERSION.fullmatch(version):
        raise ValueError(f"The version {version[:100]!r} is not 1 to 64 letters, digits, dots, _, + or -.")
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": f"version={version};digest={predictor.digest[:12]}"}
    description = describe(version, predictor.columns)
    threads = ThreadPoolExecutor(BUSY)

    async def ping(_: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "version": version, "digest": predictor.digest, "labels": predictor.labels}
        )

    async def invocations(request: Request) -> Response:
        kind = choose(", ".join(request.headers.getlist("accept")))
        body = await _body(request)
        content_type = request.headers.get("content-type")
        if len(body) <= SHORT:
            return answer(content_type, body, kind)
        # In a thread, as a long batch must not keep /ping waiting: SageMaker gives it 2 seconds.
        return await get_running_loop().run_in_executor(threads, answer, content_type, body, kind)

    async def openapi(_: Request) -> Response:
        return JSONResponse(description)

    def answer(content_type: str | None, body: bytes, kind: str) -> Response:
        texts = read_texts(content_type, body)
        parts = (predictor.predict(texts[i : i + WINDOW]) for i in range(0, len(texts), WINDOW))
        content = bytearray()
        for piece in WRITERS[kind](parts):
            content += piece.encode()
        return Response(bytes(content), headers=attributes, media_type=kind)

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    def missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        wanted = f"{request.method[:20]} {request.url.path[:100]}"
        message = (
            f"There is no {wanted}: use GET /ping or POST /invocations; GET /openapi.json describes them."
        )
        return JSONResponse({"error": message}, error.status_code, error.headers)

    def gone(*_: object) -> Response:
        return Response(status_code=400)  # nobody reads it

    def fail(*_: object) -> Response:
        return JSONResponse({"error": "The server failed: its log says why."}, 500)

    return Starlette(
        routes=[
            Route("/ping", ping, methods=["GET"]),
            Route("/invocations", invocations, methods=["POST"]),
            Route("/openapi.json", openapi, methods=["GET"]),
        ],
        exception_handlers={
            404: missing,
            405: missing,
            HTTPException: refuse,
            ClientDisconnect: gone,
            Exception: fail,
        },
    )


async def _body(request: Request) -> bytes:
    """Return the body, and refuse one that is too large, whatever its declared length.

    As much again is read and dropped: a client that cannot finish sending does not get to read the answer.
    """
    too_large = HTTPException(
        413,
        f"The body is larger than {MAX_BYTES:,} bytes: send fewer texts at a time.",
        headers={"Connection": "close"},
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > 2 * MAX_BYTES:
        raise too_large
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BYTES:
            body += chunk
        if size > 2 * MAX_BYTES:
            break
    if size > MAX_BYTES:
        raise too_large
    return bytes(body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m containers.serve.app", description="Serve a bundle over HTTP."
    )
    parser.add_argument("command", nargs="?", choices=["serve"], help="what SageMaker calls a container with")
    parser.add_argument("--bundle", type=Path, default=Path("/opt/ml/model"), help="folder (%(default)s)")
    parser.add_argument("--host", help="address to listen on (127.0.0.1; all of them after `serve`)")
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"),
        help="port to listen on (SAGEMAKER_BIND_TO_PORT, else 8080)",
    )
    parser.add_argument(
        "--version", help=f"model version to report (the file `{VERSION_FILE}`'s, else the digest)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads a request may use (%(default)s)")
    parser.add_argument("--workers", type=int, help="processes (1; one a core after `serve`)")
    options = parser.parse_args(arguments)
    host = options.host or ("0.0.0.0" if options.command else "127.0.0.1")
    workers = options.workers or (cores() if options.command else 1)
    try:
        predictor = Predictor(options.bundle, options.threads)
        version = options.version or _version(options.bundle) or predictor.digest[:12]
        app = create_app(predictor, version)
        listener = _listen(host, options.port)
    except (BundleError, ListenError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    port = listener.getsockname()[1]
    print(
        f"Serving version {version} of {options.bundle} on {host}:{port} with {workers} process(es)",
        flush=True,
    )
    configure = partial(uvicorn.Config, access_log=False, timeout_graceful_shutdown=GRACE, lifespan="off")
    if workers == 1:
        uvicorn.Server(configure(app)).run(sockets=[listener])
    else:
        # Each process loads the bundle itself, as threads of libraries do not survive a fork. This one had
        # to, so that a broken bundle ends the server instead of one process after the other.
        del predictor, app
        load = partial(_load, options.bundle, options.threads, version)
        config = configure(load, factory=True, workers=workers, timeout_worker_healthcheck=HUNG)
        Multiprocess(config, sockets=[listener]).run()
    return 0


def _load(bundle: Path, threads: int, version: str) -> Starlette:
    return create_app(Predictor(bundle, threads), version)


def _version(bundle: Path) -> str | None:
    file = bundle / VERSION_FILE
    return file.read_text().strip() if file.is_file() else None


def cores(cgroup: Path = CGROUP) -> int:
    """Return how many cores this process may keep busy: those it may run on, or its container's quota.

    Args:
        cgroup: Where the kernel shows the control group, of version 2 or 1
            (https://docs.kernel.org/admin-guide/cgroup-v2.html, `cpu.max`).
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((cgroup / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue  # the other version, or no container
        if quota not in ("max", "-1"):
            return max(1, min(available, math.ceil(int(quota) / int(period))))
    return available


class ListenError(OSError):
    """Raised when the address cannot be listened on; names it and the remedy."""


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            reason, remedy = "is in use by another process", "stop that process or choose another --port"
        else:
            reason, remedy = f"cannot be listened on ({error})", "choose another --host or --port"
        raise ListenError(f"Port {port} of {host} {reason}: {remedy}.") from error


if __name__ == "__main__":
    sys.exit(main())
