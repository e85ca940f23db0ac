"""The HTTP app that answers with a bundle: as a local endpoint, and in the container that SageMaker runs.

    python -m containers.serve.app --bundle FOLDER --port 8080
    curl 127.0.0.1:8080/invocations -H 'Content-Type: application/json' -d '["Lovely day!"]'

The contract is in the Amazon SageMaker AI Developer Guide, "Custom Inference Code with Hosting Services".
"""

import argparse
import errno
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from containers.serve.formats import MAX_BYTES, WRITERS, choose, read_texts
from containers.serve.predictor import BundleError, Predictor

VERSION = re.compile(r"[A-Za-z0-9._+-]{1,64}")
GRACE = 25  # seconds to finish what has begun; SageMaker kills 30 s after SIGTERM


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

    async def ping(_: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "version": version, "digest": predictor.digest, "labels": predictor.labels}
        )

    async def invocations(request: Request) -> Response:
        kind = choose(", ".join(request.headers.getlist("accept")))
        body = await _body(request)
        # In a thread, as a long batch must not keep /ping waiting: SageMaker gives it 2 seconds.
        return await run_in_threadpool(answer, request.headers.get("content-type"), body, kind)

    def answer(content_type: str | None, body: bytes, kind: str) -> Response:
        predictions = predictor.predict(read_texts(content_type, body))
        return Response(WRITERS[kind](predictions), headers=attributes, media_type=kind)

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    def missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        wanted = f"{request.method[:20]} {request.url.path[:100]}"
        message = f"There is no {wanted}: use GET /ping or POST /invocations."
        return JSONResponse({"error": message}, error.status_code, error.headers)

    def gone(*_: object) -> Response:
        return Response(status_code=400)  # nobody reads it

    def fail(*_: object) -> Response:
        return JSONResponse({"error": "The server failed: its log says why."}, 500)

    return Starlette(
        routes=[
            Route("/ping", ping, methods=["GET"]),
            Route("/invocations", invocations, methods=["POST"]),
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
    """Return the body, and stop reading as soon as it is too large, whatever its declared length."""
    too_large = HTTPException(
        413,
        f"The body is larger than {MAX_BYTES:,} bytes: send fewer texts at a time.",
        headers={"Connection": "close"},  # the rest of it is not read
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
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
    parser.add_argument("--version", help="model version to report (that of bundle.json, else its digest)")
    parser.add_argument("--threads", type=int, default=1, help="threads a request may use (%(default)s)")
    options = parser.parse_args(arguments)
    host = options.host or ("0.0.0.0" if options.command else "127.0.0.1")
    try:
        predictor = Predictor(options.bundle, options.threads)
        version = options.version or str(predictor.metadata.get("version", predictor.digest[:12]))
        app = create_app(predictor, version)
        listener = _listen(host, options.port)
    except (BundleError, ListenError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    port = listener.getsockname()[1]
    print(f"Serving version {version} of {options.bundle} on {host}:{port}", flush=True)
    config = uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=GRACE, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])
    return 0


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
