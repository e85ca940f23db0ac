"""The serving image, built by a real engine from the lock, and run as SageMaker and careful hosts run it."""

import hashlib
import json
import logging
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.ecr import EcrImages
from blocks.images import ImagesError, LocalImages
from containers.serve.formats import MAX_BYTES
from tasks import image as module
from tasks.image import NAME, serving_image
from tests.bundles import build_bundle
from tests.cloud import free_ports
from tests.cloud.docker_engine import ROOT, DockerEngine
from tests.cloud.registry_server import REGION, Ecr
from tests.measures.endpoint import PART

if TYPE_CHECKING:
    from docker.models.containers import Container

VERSION = "7"
UNCOMPILED = """
import sys, multiprocessing.popen_spawn_posix, multiprocessing.spawn, containers.serve.app
from pathlib import Path
kept = [getattr(module, "__cached__", None) for module in list(sys.modules.values())]
print([file for file in kept if file and not Path(file).exists()])
"""
CAREFUL = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "user": "10001",
    "network_mode": "host",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    build_bundle(folder)
    for path in folder.iterdir():
        path.chmod(0o600)  # as some stores hand them out
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def digest(bundle: Path) -> str:
    return hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def build_args(slim_image: str) -> dict[str, str]:
    return {"BASE_IMAGE": slim_image}


@pytest.fixture(scope="module")
def image(
    docker_engine: DockerEngine, build_args: dict[str, str], bundle: Path, digest: str
) -> Iterator[str]:
    reference = serving_image(LocalImages(build_args=build_args), bundle, VERSION, digest)
    yield reference
    with docker_engine.client() as engine:
        engine.images.remove(engine.images.get(reference).id, force=True)


class Server:
    """A container that serves on a port of this machine."""

    def __init__(self, container: "Container", port: int) -> None:
        self.container = container
        self.port = port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)

    def ping(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get("/ping").raise_for_status().json()
        return answer

    def invoke(self, content: bytes | str, kind: str, accept: str = "application/json") -> httpx.Response:
        return self.client.post(
            "/invocations", content=content, headers={"Content-Type": kind, "Accept": accept}
        )

    def log(self) -> str:
        return self.container.logs().decode()

    def exit_status(self) -> int:
        return int(self.container.wait(timeout=60)["StatusCode"])


Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def serve(docker_engine: DockerEngine, image: str) -> Serve:
    @contextmanager
    def run(**options: Any) -> Iterator[Server]:
        [port] = free_ports(1)
        environment = {"SAGEMAKER_BIND_TO_PORT": str(port)}
        with docker_engine.client() as engine:
            options = {"command": "serve", "environment": environment} | CAREFUL | options
            container = engine.containers.run(image, detach=True, **options)
            try:
                server = Server(container, port)
                deadline = time.monotonic() + 60
                while True:
                    with suppress(httpx.HTTPError):
                        server.ping()
                        break
                    container.reload()
                    assert container.status != "exited" and time.monotonic() < deadline, server.log()
                    time.sleep(0.02)
                yield server
                server.client.close()
            finally:
                container.remove(force=True)

    return run


@pytest.fixture(scope="module")
def server(serve: Serve) -> Iterator[Server]:
    with serve(nano_cpus=10**9) as server:
        yield server


def test_the_image_holds_what_serves_and_nothing_that_installs(
    docker_engine: DockerEngine, image: str, digest: str
) -> None:
    assert re.fullmatch(rf"{NAME}:{VERSION}-{digest[:12]}-[0-9a-f]{{8}}", image)
    with docker_engine.client() as engine:
        found = engine.images.get(image)
        settings = found.attrs["Config"]
        command = ["-c", "ls /opt/serve/packages /opt/serve/containers/serve; command -v gcc pip pip3; id -u"]
        listed = engine.containers.run(image, command, entrypoint="sh", remove=True).decode()
        uncompiled = engine.containers.run(image, ["-c", UNCOMPILED], entrypoint="python3.11", remove=True)
    assert found.attrs["Size"] < 400e6
    assert uncompiled.decode() == "[]\n", "what each start would have to compile"
    assert settings["Labels"] == {
        "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
        "org.opencontainers.image.version": VERSION,
        "sentiment-flows.bundle": digest,
    }
    assert settings["Entrypoint"][0] == "python3.11", "not a shell, which would swallow SIGTERM"
    assert "onnxruntime" in listed and listed.endswith("10001\n")
    assert not re.search("huggingface|mlflow|prefect|tensorflow|model.py|gcc|pip", listed)


def test_it_says_what_it_serves_and_sends_nothing_home(server: Server, digest: str) -> None:
    found = server.ping()
    assert (found["version"], found["digest"]) == (VERSION, digest)
    assert server.client.get("/openapi.json").json()["info"]["version"] == VERSION
    assert "Serving version 7 of /opt/ml/model" in server.log()
    assert "telemetry" not in server.log()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json", '["I love it", "I hate it"]'),
        ("application/jsonlines", '"I love it"\n{"text": "I hate it"}\n'),
        ("text/csv", "id,text\n1,I love it\n2,I hate it\n"),
        ("text/plain", "I love it"),
    ],
)
def test_it_reads_and_writes_each_type(server: Server, kind: str, content: str, digest: str) -> None:
    answer = server.invoke(content, kind)
    labels = [prediction["label"] for prediction in answer.json()["predictions"]]
    assert labels == ["positive", "negative"][: len(labels)] != []
    attributes = answer.headers["X-Amzn-SageMaker-Custom-Attributes"]
    assert attributes == f"version={VERSION};digest={digest[:12]}"
    lines = server.invoke(content, kind, "application/jsonlines").text.splitlines()
    assert [json.loads(line)["label"] for line in lines] == labels
    rows = server.invoke(content, kind, "text/csv").text.splitlines()
    assert [row.split(",")[0] for row in rows] == ["label", *labels]


def test_it_refuses_clearly(server: Server) -> None:
    assert server.invoke(b" " * MAX_BYTES, "text/plain").status_code == 200
    refused = [
        (server.invoke(b" " * (MAX_BYTES + 1), "text/plain"), 413, "6,291,456 bytes"),
        (server.invoke("[", "application/json"), 400, "not JSON"),
        (server.invoke("a", "image/png"), 415, "Content-Type"),
        (server.invoke("a", "text/plain", "image/png"), 406, "Accept"),
        (server.client.get("/execution-parameters"), 404, "/ping"),
    ]
    for answer, status, message in refused:
        assert answer.status_code == status
        assert message in answer.json()["error"]


def test_ping_is_answered_within_two_seconds_under_load(server: Server) -> None:
    body = json.dumps(["a"] * 40_000)
    statuses: list[int] = []

    def work() -> None:
        with httpx.Client(base_url=str(server.client.base_url), timeout=120, trust_env=False) as client:
            headers = {"Content-Type": "application/json"}
            statuses.append(client.post("/invocations", content=body, headers=headers).status_code)

    clients = [threading.Thread(target=work) for _ in range(6)]
    for client in clients:
        client.start()
    waits = []
    while any(client.is_alive() for client in clients):
        began = time.monotonic()
        server.ping()
        waits.append(time.monotonic() - began)
        time.sleep(0.05)
    assert statuses == [200] * 6
    assert len(waits) > 5 and max(waits) < 2


def test_a_model_that_is_mounted_answers_in_place_of_the_baked_one(serve: Serve, tmp_path: Path) -> None:
    other = build_bundle(tmp_path / "model", flipped=True)
    volumes = {str(tmp_path / "model"): {"bind": "/opt/ml/model", "mode": "ro"}}
    tmp_path.chmod(0o755)
    with serve(volumes=volumes) as server:
        found = server.ping()
        assert (found["version"], found["digest"]) == (other[:12], other), "not the baked one's number"
        answer = server.invoke("I love it", "text/plain")
    assert answer.json()["predictions"][0]["label"] == "negative"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_finishes_what_it_has_begun_when_it_is_told_to_stop(
    serve: Serve, workers: str, docker_engine: DockerEngine
) -> None:
    with serve(command=["serve", "--workers", workers]) as server:
        answers: list[httpx.Response] = []
        body = json.dumps(["a"] * 150_000)
        client = threading.Thread(target=lambda: answers.append(server.invoke(body, "application/json")))
        client.start()
        time.sleep(0.5)
        assert client.is_alive(), "the batch is too short for this test"
        server.container.kill("SIGTERM")
        client.join(60)
        assert answers and len(answers[0].json()["predictions"]) == 150_000
        assert server.exit_status() == 0


def test_a_broken_bundle_ends_it_with_the_reason(
    docker_engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    from docker.errors import ContainerError

    tmp_path.chmod(0o755)
    volumes = {str(tmp_path): {"bind": "/opt/ml/model", "mode": "ro"}}
    with docker_engine.client() as engine, pytest.raises(ContainerError) as ended:
        engine.containers.run(image, "serve", volumes=volumes, remove=True)
    assert "bundle.json is missing" in str(ended.value.stderr)


def test_an_image_is_built_and_pushed_once(
    docker_engine: DockerEngine,
    bundle: Path,
    digest: str,
    ecr: Ecr,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"Dockerfile": b"FROM scratch\nCOPY bundle /\n", "unique": secrets.token_bytes(8)}
    monkeypatch.setattr(module, "_app", lambda: small)  # the same path, with less to push
    caplog.set_level(logging.INFO, "sentiment")
    credentials = AwsCredentials(
        aws_access_key_id="key", aws_secret_access_key=SecretStr("secret"), region_name=REGION
    )
    images = EcrImages(
        repository=f"{ecr.repository()}-serve",
        registry=ecr.host,
        endpoint=ecr.api.url,
        credentials=credentials,
    )
    ecr.registry.fail(401, None)
    with pytest.raises(ImagesError, match="push again"):
        serving_image(images, bundle, VERSION, digest)
    ecr.registry.mend()
    assert caplog.text.count("Building") == 1
    reference = serving_image(images, bundle, VERSION, digest)
    assert caplog.text.count("Building") == 1, "what was built for the push that failed is pushed now"
    assert re.fullmatch(f"{ecr.host}/{images.repository}@sha256:[0-9a-f]{{64}}", reference)
    assert f"Published {reference}" in caplog.text

    with docker_engine.client() as engine:
        [built] = [one for one in engine.images.list() if any(images.repository in tag for tag in one.tags)]
        engine.images.remove(built.id, force=True)
    # Somebody else was faster: the other image has other bytes, and the same in it.
    missed = EcrImages.find
    monkeypatch.setattr(EcrImages, "find", lambda self, image: monkeypatch.setattr(EcrImages, "find", missed))
    assert serving_image(images, bundle, VERSION, digest) == reference
    assert caplog.text.count("Building") == 2
    with docker_engine.client() as engine:
        engine.images.remove(f"{NAME}:{module_tag(digest, small)}", force=True)

    ecr.registry.requests.clear()
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")  # an image that is there needs no engine
    assert serving_image(images, bundle, VERSION, digest) == reference
    assert ecr.registry.requests == []


def module_tag(digest: str, app: dict[str, bytes]) -> str:
    return f"{VERSION}-{digest[:12]}-{module._sum(app, {})[:8]}"


def test_a_build_that_fails_says_why(
    build_args: dict[str, str], bundle: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = LocalImages(build_args={"BASE_IMAGE": "127.0.0.1:1/none"})
    with pytest.raises(ImagesError, match="127.0.0.1:1.*refused"):
        serving_image(elsewhere, bundle, VERSION, digest)
    monkeypatch.setattr(module, "packages", lambda _: f"idna==3.10 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(
        ImagesError, match="(?s)pip install.*returned a non-zero code.*DO NOT MATCH THE HASHES"
    ):
        serving_image(LocalImages(build_args=build_args), bundle, VERSION, digest)
    assert LocalImages().find(f"{NAME}:{VERSION}") is None


def test_the_bench_measures_the_container(
    docker_engine: DockerEngine, image: str, slim_image: str, tmp_path: Path
) -> None:
    """The limits are wide, for machines that do other work, too."""
    out = tmp_path / "bench.json"

    def bench(only: str, image: str) -> "subprocess.CompletedProcess[str]":
        flags = ["--smoke", "--only", only, "--image", image, "--out", str(out)]
        command = [sys.executable, "-m", "tests.bench", *flags]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    def containers() -> set[str]:
        with docker_engine.client() as engine:
            made = [
                found
                for each in (image, slim_image)
                for found in engine.containers.list(all=True, filters={"ancestor": each}, ignore_removed=True)
            ]
            return {str(container.id) for container in made}

    before = containers()
    done = bench("endpoint", image)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(out.read_text())
    found = {figure["name"]: figure["median"] for figure in record["figures"]}
    assert {figure["part"] for figure in record["figures"]} == {f"{PART}, in a container"}
    assert record["image"] == image
    assert found["first answer after the start"] < 9
    assert 10 < found["memory after all requests"] < 150
    assert found["one text a request, 4 connections"] > 100
    assert found["one text a request, p99 at half of that"] < 1000

    for only, other, said in (
        ("endpoint", "sentiment-test/none:1", "No such image: sentiment-test/none:1"),
        ("serving", image, "--image is of --only endpoint"),
        ("endpoint", slim_image, "executable file"),
    ):
        done = bench(only, other)
        assert done.returncode != 0 and said in done.stderr, done.stderr[-3000:]
    assert containers() == before
