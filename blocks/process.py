"""The endpoint as a process of this machine."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import httpx
import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.endpoint import TEXTS, Check, Deployment, Endpoint, EndpointError, Release, invoke
from blocks.lake import Lake
from blocks.role import DEFAULTS, ROOT, Resource, local_path, local_resources

VERSION = re.compile(r"[A-Za-z0-9._+-]{1,64}")  # goes into a folder's name and a header
GRACE = 30.0  # seconds that a server gets to finish its requests, before it is killed
BYTES = 2**20  # of texts answered at a time when files are transformed
LOCK_WAIT = 300.0  # seconds that a deploy waits for another one


class _Record(BaseModel):
    """What endpoint.json says about the process that serves, or did when it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    digest: str
    port: int
    url: str
    pid: int
    created: float  # seconds since the epoch; a pid alone may by now be another process
    previous: str | None  # folder name of the bundle that served before

    def deployment(self) -> Deployment:
        detail = f"process {self.pid}"
        page = f"{self.url}/ping"
        return Deployment(version=self.version, digest=self.digest, url=self.url, page=page, detail=detail)


class LocalEndpoint(Endpoint):
    """A process of this machine, which goes on when the flow has ended.

    Its folder holds `endpoint.json` (what serves), `endpoint.log`, and under `bundles/` a copy of the bundle
    that serves and of the one before. Each server runs on a copy in there, and is told from other processes
    by that path on its command line: so also one that a killed deploy left behind, at whatever step.
    """

    _block_type_name = "Local Endpoint"
    _block_type_slug = "local-endpoint"

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    folder: str = Field(
        default=".local/endpoint", description="Folder; a relative one starts at the checkout."
    )
    timeout: float = Field(default=60, gt=0, description="Seconds until a server must have answered /ping.")

    def serving(self) -> Deployment | None:  # noqa: D102
        record = self._record()
        works = record and self._process(record) and _answers(record)
        return record.deployment() if record and works else None

    def deploy(self, release: Release, check: Check) -> Deployment:  # noqa: D102
        if not VERSION.fullmatch(release.version):
            raise EndpointError(
                f"The version {release.version!r} is not 1 to 64 letters, digits, dots, _, + or -."
            )
        if os.environ.get(DEFAULTS) == "off":
            raise EndpointError(
                f"The block {self.slot!r} is a {self._block_type_slug}, which would end with this container: "
                "save another kind with `python -m blocks.register aws`."
            )
        with self._locked():
            try:
                return self._deploy(release, check).deployment()
            finally:
                self._prune()

    def stop(self) -> bool:  # noqa: D102
        with self._locked():
            return self._end_all()

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:  # noqa: D102
        return invoke(self._url(self.port), texts)

    def transform(  # noqa: D102
        self, release: Release, lake: Lake, folder: str, on_files: Callable[[int], object]
    ) -> dict[str, str]:
        answers = {}
        with TemporaryDirectory() as temporary, _answering(release.bundle) as ask:
            source, target = Path(temporary, "texts"), Path(temporary, "answers")
            for file in lake.find(f"{folder}/{TEXTS}"):
                name = file.key.rpartition("/")[2]
                lake.fetch(file.key, source)
                with source.open("rb") as texts, target.open("w") as out:
                    while lines := texts.readlines(BYTES):
                        out.writelines(f"{json.dumps(answer)}\n" for answer in ask(lines))
                answers[name] = f"{folder}/answers/{name}"
                lake.put(answers[name], target)
                on_files(1)
        return answers

    def check(self) -> str:  # noqa: D102
        found = self.serving()
        return (
            f"{found.url} serves version {found.version}" if found else f"nothing serves on port {self.port}"
        )

    def resources(self) -> list[Resource]:  # noqa: D102
        where = f"port {self.port} of {self.host}"
        servers = [Resource(kind="process", name=str(p.pid), detail=where) for p in self._servers()]
        return [*servers, *local_resources("folder of the endpoint", self.folder)]

    def _deploy(self, release: Release, check: Check) -> _Record:
        version, digest = release.version, release.digest
        old = self._record()
        process = self._process(old) if old else None
        self._end_all(keep=process)
        works = old and process and _answers(old)
        if old and works and (old.version, old.digest, old.url) == (version, digest, self._url(self.port)):
            return old
        if not (old and process and old.port == self.port):
            self._require_free_port()
        self._copy(release.bundle, version, digest)
        try:
            candidate = self._start(version, digest, _free_port(self.host))
            self._await(candidate)
            check(partial(invoke, candidate.url))
        finally:
            self._end_all(keep=process)
        self._end_all()
        previous = self._bundle(old.version, old.digest).name if old else None
        if old and previous == self._bundle(version, digest).name:
            previous = old.previous
        try:
            return self._serve(version, digest, self.port, previous)
        except BaseException:
            self._end_all()
            if old and works:
                self._serve(old.version, old.digest, old.port, old.previous)
            raise

    # Processes

    def _start(self, version: str, digest: str, port: int, previous: str | None = None) -> _Record:
        """Start a server that no longer depends on this process."""
        command = [sys.executable, "-m", "containers.serve.app", "--version", version]
        command += ["--bundle", str(self._bundle(version, digest)), "--host", self.host, "--port", str(port)]
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl+C and the end of the flow's session are not for it
            )
        child.returncode = 0  # nobody waits for it: without this, Python warns that it still runs
        return _Record(
            version=version,
            digest=digest,
            port=port,
            url=self._url(port),
            pid=child.pid,
            created=psutil.Process(child.pid).create_time(),
            previous=previous,
        )

    def _await(self, server: _Record) -> None:
        """Wait until a server answers."""
        deadline = time.monotonic() + self.timeout
        while not _answers(server):
            ended = not _runs(server.pid)
            if ended or time.monotonic() > deadline:
                why = "ended" if ended else f"did not answer within {self.timeout:g} seconds"
                said = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise EndpointError(
                    f"The server of version {server.version} at {server.url} {why}. The last line of "
                    f"{self._log} is: {said[-1][:500]}"
                )
            time.sleep(0.1)

    def _serve(self, version: str, digest: str, port: int, previous: str | None) -> _Record:
        """Start a server, write down that it is the one that serves, and wait until it answers."""
        server = self._start(version, digest, port, previous)
        part = self._folder / "endpoint.json.part"
        part.write_text(server.model_dump_json(indent=2) + "\n")
        part.replace(self._folder / "endpoint.json")
        self._await(server)
        return server

    def _servers(self) -> list[psutil.Process]:
        """Return the living processes that serve a bundle of this folder."""
        prefix = f"{self._folder / 'bundles'}{os.sep}"
        return [
            process
            for process in psutil.process_iter(["cmdline", "create_time"])
            if "containers.serve.app" in (command := process.info["cmdline"] or [])
            and any(argument.startswith(prefix) for argument in command)
        ]

    def _process(self, record: _Record) -> psutil.Process | None:
        for process in self._servers():
            # Clocks are set now and then: a second more or less is still the same process.
            if process.pid == record.pid and abs(process.info["create_time"] - record.created) < 1:
                return process
        return None

    def _end_all(self, keep: psutil.Process | None = None) -> bool:
        """End this folder's servers but one: politely first, and wait for it."""
        ended = False
        for end in (psutil.Process.terminate, psutil.Process.kill):
            servers = [process for process in self._servers() if process != keep]
            for process in servers:
                with suppress(psutil.NoSuchProcess):
                    end(process)
                    ended = True
            deadline = time.monotonic() + GRACE
            while any(_runs(process.pid) for process in servers) and time.monotonic() < deadline:
                time.sleep(0.05)
            psutil.wait_procs(servers, timeout=0)  # those that this process started stay zombies until then
        return ended

    # Folder

    @property
    def _folder(self) -> Path:
        return local_path(self.folder).resolve()

    @property
    def _log(self) -> Path:
        return self._folder / "endpoint.log"

    def _bundle(self, version: str, digest: str) -> Path:
        return self._folder / "bundles" / f"{version}-{digest[:12]}"

    def _record(self) -> _Record | None:
        try:
            return _Record.model_validate_json((self._folder / "endpoint.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _copy(self, bundle: Path, version: str, digest: str) -> None:
        """Copy the bundle, so that the endpoint outlives where it came from."""
        try:
            found = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
            if found != digest:
                raise EndpointError(
                    f"{bundle / 'bundle.json'} has the SHA-256 {found}, but {digest} is to be deployed: copy "
                    "the bundle of that version again from where it is registered."
                )
            target = self._bundle(version, digest)
            part = target.with_name(f".{target.name}")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(bundle, part)
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
        except OSError as error:
            raise EndpointError(
                f"Cannot copy the bundle {bundle} to {self._folder}: {error}. Check that it is there, and "
                "that there is room and leave to write."
            ) from error

    def _prune(self) -> None:
        """Remove all bundles but the one that serves and the one before."""
        record = self._record()
        keep = (self._bundle(record.version, record.digest).name, record.previous) if record else ()
        for path in (self._folder / "bundles").glob("*"):
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one deploy act at a time. The lock ends with the process that holds it, however that ends."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / "lock").open("w")
        except OSError as error:
            raise EndpointError(
                f"Cannot write to {self._folder}: {error.strerror}. Make it writable, or save a "
                f"`{self._block_type_slug}` block with another folder as {self.slot!r}."
            ) from error
        with file:
            deadline = time.monotonic() + LOCK_WAIT
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EndpointError(
                            f"Another deploy has held {self._folder / 'lock'} for {LOCK_WAIT:g} seconds: let "
                            "it finish or stop it, then run again."
                        ) from None
                    time.sleep(0.1)
            yield

    # Address

    def _url(self, port: int) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _require_free_port(self) -> None:
        try:
            _listen(self.host, self.port).close()
        except OSError as error:
            raise EndpointError(
                f"Cannot listen on port {self.port} of {self.host}: {_reason(error)}{_listener(self.port)}. "
                f"Stop what uses it, or choose another for the block {self.slot}: "
                "`python -m blocks.register local --port 8081`."
            ) from error


@contextmanager
def _answering(bundle: Path) -> Iterator[Callable[[list[bytes]], list[dict[str, Any]]]]:
    """Run the app without HTTP on a bundle; yields a function from lines of JSON to their answers."""
    command = [sys.executable, "-m", "containers.serve.batch", str(bundle)]
    pipe = subprocess.PIPE
    with TemporaryFile() as said:
        child = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdin=pipe, stdout=pipe, stderr=said)
        source: Any = child.stdin
        target: Any = child.stdout

        def ask(lines: list[bytes]) -> list[dict[str, Any]]:
            with suppress(BrokenPipeError):  # it has said why
                source.write(b"[%s]\n" % b",".join(line.rstrip() for line in lines))
                source.flush()
            answer = target.readline()
            if not answer:
                child.wait()
                said.seek(0)
                why = said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
                raise EndpointError(f"The model in {bundle} does not answer. It said last: {why[-1][:500]}")
            predictions: list[dict[str, Any]] = json.loads(answer)["predictions"]
            return predictions

        try:
            yield ask
        finally:
            child.kill()
            child.communicate()


def _answers(server: _Record) -> bool:
    try:
        response = httpx.get(f"{server.url}/ping", timeout=5, trust_env=False)
        reply = response.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return False
    wanted = {"version": server.version, "digest": server.digest}
    return isinstance(reply, dict) and wanted.items() <= reply.items()


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _environment() -> dict[str, str]:
    """Return what Python needs; the tokens and passwords of the flow's environment are not for the server."""
    names = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH"}
    return {name: value for name, value in os.environ.items() if name in names or name.startswith("PYTHON")}


def _listen(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _free_port(host: str) -> int:
    with _listen(host, 0) as listener:
        return int(listener.getsockname()[1])


def _listener(port: int) -> str:
    """Tell who listens on `port`, as far as this user may know."""
    with suppress(psutil.Error):  # only the superuser may know it of other users' processes
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f" by {psutil.Process(found.pid).name()}, process {found.pid}"
    return ""


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
