"""Fixtures: a Docker engine, and bases for the project's images that come from no registry."""

import os
import shutil
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from socket import SHUT_WR, create_connection, socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.cloud import missing, sudo
from tests.cloud.gateway import HOST

if TYPE_CHECKING:
    from docker import DockerClient

ROOT = Path(__file__).resolve().parents[2]
START = 60  # seconds that the engine may take to start
IMPORT = 300  # seconds that it may take to answer: it reads an image of gigabytes
RELEASE = "bookworm"  # the Debian that has Python 3.11
BASE, SLIM = "sentiment-test/base", "sentiment-test/slim"
NEEDLESS = (
    *("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/lib/python3/dist-packages/*"),
    *("./var/cache/*", "./var/lib/apt/lists/*", "./var/log/*", "*.pyc"),
)
HOME = "opt/sentiment-flows"  # WORKDIR of containers/train/Dockerfile


@dataclass(frozen=True)
class DockerEngine:
    """A Docker engine, which docker's own clients find in the environment, too."""

    address: str
    """For DOCKER_HOST."""

    @contextmanager
    def client(self) -> Iterator["DockerClient"]:
        from docker import DockerClient

        with closing(DockerClient(self.address, timeout=IMPORT)) as client:
            yield client

    @property
    def host(self) -> str:
        """Address of this machine for containers on the default bridge."""
        with self.client() as client:
            [network] = client.networks.list(names=["bridge"])
            return str(network.attrs["IPAM"]["Config"][0].get("Gateway") or "172.17.0.1")

    @contextmanager
    def door(self, port: int) -> Iterator[str]:
        """Let containers on the default bridge reach a port that only listens on loopback.

        Args:
            port: A port of this machine, which gets the same number on the bridge.

        Yields:
            Host and port for the containers.
        """
        with _Door((self.host, port), _Visitor) as door:
            threading.Thread(target=door.serve_forever, args=(0.05,), daemon=True).start()
            yield f"{self.host}:{port}"
            door.shutdown()


class _Door(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


class _Visitor(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with create_connection((HOST, self.request.getsockname()[1])) as target:
            back = threading.Thread(target=_pour, args=(target, self.request), daemon=True)
            back.start()
            _pour(self.request, target)
            back.join()


def _pour(source: socket, sink: socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(SHUT_WR)
    except OSError:
        return  # one of the two has gone away; the other one notices by itself


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """Find a running engine; as root, start one without one."""
    if address := _running():
        yield DockerEngine(address)
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        missing("No Docker engine runs, and without dockerd and root's rights none can be started.")
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    address = f"unix://{folder}/socket"
    flags = [f"--{name}={folder}/{name}" for name in ("data-root", "exec-root", "pidfile")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["dockerd", f"--host={address}", *flags], stdout=log, stderr=log)
    try:
        _wait(address, process, folder / "log")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", address)
            yield DockerEngine(address)
    finally:
        process.terminate()
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _running() -> str | None:
    """Return the address of the engine that docker's clients would use, if there is one."""
    import docker
    from docker.errors import DockerException

    try:
        with closing(docker.from_env()) as client:
            client.ping()
    except DockerException:
        return None
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    from docker import DockerClient
    from docker.errors import DockerException

    deadline = time.monotonic() + START
    while True:
        try:
            with closing(DockerClient(address)) as client:
                client.ping()
            return
        except DockerException as error:
            if process.poll() is not None or time.monotonic() > deadline:
                missing(f"dockerd does not start here: {error}\n{log.read_text()[-2000:]}")
            time.sleep(0.2)


@pytest.fixture(scope="session")
def debian() -> Iterator[Callable[[], Path]]:
    """Return a function that makes a Debian with Python 3.11 when it is first called, and returns its folder.

    Beside the `root` there are `certificates.pem`: what this machine trusts. It may have a proxy of its own
    between itself and the package index.
    """
    import certifi

    folder = Path(tempfile.mkdtemp(prefix="debian-"))

    @cache
    def make() -> Path:
        if shutil.which("debootstrap") is None:
            missing("debootstrap is not installed: `apt-get install debootstrap`.")
        _debootstrap(folder / "root")
        shutil.copy(ssl.get_default_verify_paths().cafile or certifi.where(), folder / "certificates.pem")
        return folder

    yield make
    subprocess.run([*sudo(), "rm", "-rf", str(folder)], check=True)


@pytest.fixture(scope="session")
def base_image(docker_engine: DockerEngine, debian: Callable[[], Path]) -> str:
    """Make an image that stands in for TensorFlow's: Debian, Python 3.11, and this environment's packages.

    The packages lie where the Dockerfile installs them. Its `make setup` reads the index all the same, and
    corrects what differs, but downloads next to nothing. An engine that was not started here keeps the image
    for the next time.
    """
    image = f"{BASE}:{_tag((ROOT / 'requirements.lock').read_bytes())}"
    with docker_engine.client() as client, tempfile.TemporaryDirectory() as staged:
        if not client.images.list(image):
            folder = debian()
            _stage(Path(staged))
            move = rf"--transform=s,^\(bin\|lib\|share\)\(/\|$\),{HOME}/.venv/&,S"
            environment = ["--directory", sys.prefix, "lib", "share"]
            flags = ("--exclude=tensorflow/include", move)
            _import(client, image, folder, flags, ["--directory", staged, "bin", *environment])
    return image


@pytest.fixture(scope="session")
def slim_image(docker_engine: DockerEngine, debian: Callable[[], Path]) -> str:
    """Make an image that stands in for python:3.11-slim: that Debian, no packages, manuals or bytecode."""
    image = f"{SLIM}:{_tag()}"
    with docker_engine.client() as client:
        if not client.images.list(image):
            _import(client, image, debian(), [f"--exclude={path}" for path in NEEDLESS])
    return image


def _tag(content: bytes = b"") -> str:
    return sha256(content + Path(__file__).read_bytes()).hexdigest()[:12]


def _debootstrap(root: Path) -> None:
    packages = "python3,python3-venv,python3-pip,ca-certificates,libgomp1,make"
    command = [*sudo(), "debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, str(root)]
    done = subprocess.run([*command, *_mirror()], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        missing(f"debootstrap fails: {done.stdout[-1000:]}{done.stderr[-1000:]}")


def _mirror() -> list[str]:
    """Return the address that this machine's apt has for the release; debootstrap knows one by itself."""
    if shutil.which("apt-get") is None:
        return []
    filters = ["--format", "$(REPO_URI)", f"Codename: {RELEASE}", "Origin: Debian"]
    targets = subprocess.run(["apt-get", "indextargets", *filters], capture_output=True, text=True)
    return sorted(set(targets.stdout.split()))[:1]


def _stage(folder: Path) -> None:
    """Lay out what has to differ from this environment: its programs name their interpreter by its path."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for program in (Path(sys.prefix) / "bin").iterdir():
        if program.name == "uv":
            shutil.copy(program, programs)
        elif program.is_file() and program.read_bytes()[:2] == b"#!":
            (programs / program.name).write_text(program.read_text().replace(sys.prefix, f"/{HOME}/.venv"))
            (programs / program.name).chmod(0o755)


def _import(
    client: "DockerClient", image: str, debian: Path, flags: Sequence[str], more: Sequence[str] = ()
) -> None:
    """Make an image of a Debian's root, its certificates, and what else tar is told to add."""
    command = [
        *(*sudo(), "tar", "--create", "--transform=s,^certificates,etc/ssl/&,", *flags),
        *("--directory", str(debian / "root"), "."),
        *("--directory", str(debian), "certificates.pem", *more),
    ]
    repository, _, tag = image.partition(":")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
        names = ("SSL_CERT_FILE", "PIP_CERT")
        settings = [f"ENV {name}=/etc/ssl/certificates.pem" for name in names]
        stream: Any = tar.stdout
        client.api.import_image(src=stream, repository=repository, tag=tag, changes=settings)
    assert tar.returncode == 0, f"tar ended with {tar.returncode}"
