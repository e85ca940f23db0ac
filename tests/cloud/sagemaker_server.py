"""SageMaker: moto answers its API, and an endpoint is the container of its model's image, run by Docker.

`main` is moto's server with what it lacks: names that are taken, states that take time, UpdateEndpoint with
its shift of traffic and its roll-back, and invocations that reach the containers, as AWS documents them.
Transform jobs are in transform_server.py.
"""

import io
import json
import random
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cloud import free_ports, transform_server
from tests.cloud.docker_engine import HOME, ROOT, DockerEngine
from tests.cloud.gateway import Gateway, Request
from tests.cloud.registry_server import ACCOUNT, REGION, Ecr, running
from tests.cloud.s3_server import S3

LABEL = "sentiment-test.endpoint"
LOGIN = {"username": "AWS", "password": f"{ACCOUNT}-auth-token"}
PATIENCE = 5.0  # seconds until a container must answer /ping; AWS gives it minutes
MAX_BODY = 6_291_456
PACKAGES = (
    "anyio click flatbuffers google h11 idna numpy numpy.libs onnxruntime starlette tokenizers uvicorn "
    "typing_extensions.py"
)
"""What the app needs of this environment."""

Build = Callable[..., str]


# The server


@dataclass
class Fleet:
    """What runs for an endpoint."""

    containers: dict[str, Any] = field(default_factory=dict)  # by name of the configuration
    ports: dict[str, int] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)  # of the traffic


class Hosting:
    """The machines of SageMaker."""

    def __init__(self) -> None:
        from docker import DockerClient

        self.engine = DockerClient.from_env()
        self.fleets: dict[str, Fleet] = {}
        self.storage: Callable[[], Any] = lambda: None  # a client of the S3 that transform jobs use
        self.delay = 0.0  # seconds that a change takes beside what it has to do; may be cut short

    def start(self, endpoint: str, config: str, image: str, wanted: Callable[[], bool] = lambda: True) -> str:
        """Start a container, as long as it is wanted; returns why it does not answer, or nothing."""
        from docker.errors import APIError, ImageNotFound

        fleet, port = self.fleets.setdefault(endpoint, Fleet()), free_ports(1)[0]
        began = time.monotonic()
        while wanted() and time.monotonic() - began < self.delay:
            time.sleep(0.05)
        if not wanted():
            return "It was stopped."
        try:
            try:
                self.engine.images.get(image)
            except ImageNotFound:
                self.engine.images.pull(image, auth_config=LOGIN)
            container = self.engine.containers.run(
                image,
                "serve",
                detach=True,
                ports={"8080/tcp": ("127.0.0.1", port)},
                labels={LABEL: endpoint},
            )
        except APIError as error:
            return f"Failed to pull or run the image: {error}"
        fleet.containers[config], fleet.ports[config] = container, port
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/ping", timeout=2, trust_env=False).is_success:
                    return ""
            time.sleep(0.1)
        self.stop(endpoint, config)
        return "The primary container did not pass the ping health check. Please check CloudWatch logs."

    def stop(self, endpoint: str, config: str) -> None:
        fleet = self.fleets.get(endpoint, Fleet())
        fleet.weights.pop(config, None)
        container = fleet.containers.pop(config, None)
        if container is not None:
            container.remove(force=True)

    def ask(self, endpoint: str, body: bytes, headers: dict[str, str]) -> httpx.Response | None:
        fleet = self.fleets.get(endpoint)
        if not fleet or not fleet.weights:
            return None
        config = random.choices(list(fleet.weights), list(fleet.weights.values()))[0]
        address = f"http://127.0.0.1:{fleet.ports[config]}/invocations"
        return httpx.post(address, content=body, headers=headers, timeout=60, trust_env=False)


def extend(hosting: Hosting) -> None:
    """Give moto what it lacks."""
    from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
    from moto.cloudwatch.exceptions import ResourceNotFoundException
    from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends
    from moto.core.responses import ActionResult
    from moto.core.utils import utcnow
    from moto.sagemaker.exceptions import ValidationError
    from moto.sagemaker.models import FakeEndpoint, SageMakerModelBackend
    from moto.sagemaker.responses import SageMakerResponse
    from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

    moto: Any = SageMakerModelBackend
    plain = {
        name: getattr(moto, name)
        for name in ("create_model", "create_endpoint_config", "create_endpoint", "delete_endpoint")
    }
    alarms: Any = cloudwatch_backends[ACCOUNT][REGION].alarms
    lock = threading.RLock()

    def image(self: Any, config: str) -> str:
        [variant] = self.endpoint_configs[config].production_variants
        return str(self._models[variant["ModelName"]].primary_container["Image"])

    def settle(endpoint: Any, status: str, reason: str = "") -> None:
        endpoint.failure_reason = reason or None
        endpoint.pending_deployment_summary = None
        endpoint.last_modified_time = utcnow()
        endpoint.endpoint_status = status

    def fresh(found: Any, kind: str, name: str) -> None:
        if name in found:
            raise ValidationError(f'Cannot create already existing {kind} "arn:aws:sagemaker:::{name}".')

    def create_model(self: Any, **given: Any) -> Any:
        with lock:
            fresh(self._models, "model", given["model_name"])
            return plain["create_model"](self, **given)

    def create_endpoint_config(self: Any, **given: Any) -> Any:
        with lock:
            fresh(self.endpoint_configs, "endpoint configuration", given["endpoint_config_name"])
            return plain["create_endpoint_config"](self, **given)

    def create_endpoint(self: Any, **given: Any) -> Any:
        with lock:
            name, config = given["endpoint_name"], given["endpoint_config_name"]
            fresh(self.endpoints, "endpoint", name)
            self.describe_endpoint_config(config)
            reference = image(self, config)
            endpoint = plain["create_endpoint"](self, **given)
            endpoint.endpoint_status = "Creating"

        def work() -> None:
            if reason := hosting.start(name, config, reference):
                settle(endpoint, "Failed", reason)
                return
            hosting.fleets[name].weights = {config: 1.0}
            settle(endpoint, "InService")

        threading.Thread(target=work, daemon=True).start()
        return endpoint

    def still(self: Any, name: str) -> Any:
        """Return an endpoint that may be changed."""
        self.describe_endpoint(name)
        endpoint = self.endpoints[name]
        if endpoint.endpoint_status not in ("InService", "Failed", "OutOfService"):
            raise ValidationError(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        return endpoint

    def update_endpoint(self: Any, name: str, config: str, how: dict[str, Any]) -> Any:
        with lock:
            endpoint = still(self, name)
            if endpoint.endpoint_status == "Failed":
                raise ValidationError(f'Cannot update failed endpoint "{endpoint.arn}".')
            self.describe_endpoint_config(config)
            old = endpoint.endpoint_config_name
            [new_variant] = self.endpoint_configs[config].production_variants
            policy = how.get("BlueGreenUpdatePolicy", {})
            routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE"})
            watched = [a["AlarmName"] for a in how.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
            if lacking := [alarm for alarm in watched if alarm not in alarms]:
                raise ValidationError(f"Alarms {lacking} do not exist.")
            if policy and new_variant["VariantName"] != endpoint.production_variants[0]["VariantName"]:
                raise ValidationError("Variant names must be the same.")
            if routing["Type"] != "ALL_AT_ONCE" and new_variant["InitialInstanceCount"] < 2:
                raise ValidationError("The step must be 50% of the instances at most.")
            reference = image(self, config)
            endpoint.endpoint_status, endpoint.last_modified_time = "Updating", utcnow()
            endpoint.pending_deployment_summary = {"EndpointConfigName": config, "StartTime": utcnow()}

        def baking(seconds: float) -> str:
            deadline = time.monotonic() + seconds
            while True:
                for alarm in watched:
                    if alarms[alarm].state_value == "ALARM":
                        return f"Alarm {alarm} is in the ALARM state: rolled back."
                if time.monotonic() >= deadline:
                    return ""
                time.sleep(0.05)

        def work() -> None:
            reason = hosting.start(name, config, reference)
            weights = hosting.fleets[name].weights
            size = routing.get("CanarySize") or routing.get("LinearStepSize") or {"Value": 100}
            share = 0
            while not reason and share < 100:
                canary = routing["Type"] == "CANARY" and share > 0
                share = 100 if canary else min(share + size["Value"], 100)
                weights |= {old: 100 - share, config: share}
                reason = baking(routing.get("WaitIntervalInSeconds", 0))
            loser, winner = (config, old) if reason else (old, config)
            weights |= {winner: 100, loser: 0}
            with lock:
                endpoint.endpoint_config_name = winner
                settle(endpoint, "InService", reason)
            if loser != winner:
                hosting.stop(name, loser)

        threading.Thread(target=work, daemon=True).start()
        return endpoint

    def delete_endpoint(self: Any, name: str) -> None:
        with lock:
            endpoint = still(self, name)
            endpoint.endpoint_status = "Deleting"

        def work() -> None:
            for config in list(hosting.fleets.get(name, Fleet()).containers):
                hosting.stop(name, config)
            with lock:
                plain["delete_endpoint"](self, name)

        threading.Thread(target=work, daemon=True).start()

    def found(self: Any, arn: str) -> Any:
        resource = self._get_resource_from_arn(arn)
        if resource is None:
            raise ValidationError(f"Resource {arn} does not exist.")
        return resource

    def add_tags(self: Any, arn: str, tags: list[dict[str, str]]) -> Any:
        resource = found(self, arn)
        keys = {tag["Key"] for tag in tags}
        resource.tags = [tag for tag in resource.tags if tag["Key"] not in keys] + tags
        return resource.tags

    listed = moto.list_tags

    def list_tags(self: Any, arn: str, **page: Any) -> Any:
        found(self, arn)
        return listed(self, arn=arn, **page)

    for function in (
        create_model,
        create_endpoint_config,
        create_endpoint,
        update_endpoint,
        delete_endpoint,
        add_tags,
        list_tags,
    ):
        setattr(moto, function.__name__, function)

    def update(self: Any) -> ActionResult:
        given = (self._get_param(name) for name in ("EndpointName", "EndpointConfigName"))
        endpoint = self.sagemaker_backend.update_endpoint(*given, self._get_param("DeploymentConfig") or {})
        return ActionResult({"EndpointArn": endpoint.arn})

    def invoke(self: Any) -> tuple[int, dict[str, str], str]:
        name = self.path.split("/")[2]
        body = self.body.encode() if isinstance(self.body, str) else self.body
        headers = {key: self.headers.get(key, "application/json") for key in ("Content-Type", "Accept")}
        answer = hosting.ask(name, body, headers) if len(body) <= MAX_BODY else None
        if answer is None:
            message = "too large" if len(body) > MAX_BODY else f"Endpoint {name} of account not found."
            return 400, {"x-amzn-ErrorType": "ValidationError"}, json.dumps({"message": message})
        if not answer.is_success:
            said = {
                "message": f"Received error ({answer.status_code}) from primary with message {answer.text}",
                "OriginalStatusCode": answer.status_code,
            }
            return 424, {"x-amzn-ErrorType": "ModelError"}, json.dumps(said)
        custom = "X-Amzn-SageMaker-Custom-Attributes"
        kept = {custom: answer.headers.get(custom, ""), "Content-Type": answer.headers["Content-Type"]}
        return 200, kept | {"x-Amzn-Invoked-Production-Variant": "AllTraffic"}, answer.text

    responses: Any = SageMakerResponse
    responses.update_endpoint = update
    runtime: Any = SageMakerRuntimeResponse
    runtime.invoke_endpoint = invoke
    fake: Any = FakeEndpoint
    fake.pending_deployment_summary = None

    watch: Any = CloudWatchBackend
    tags_of = watch.list_tags_for_resource

    def list_tags_for_resource(self: Any, arn: str) -> Any:
        if arn.rpartition(":")[2] not in self.alarms:
            raise ResourceNotFoundException
        return tags_of(self, arn)

    watch.list_tags_for_resource = list_tags_for_resource

    scaling: Any = ApplicationAutoscalingBackend
    deregister = scaling.deregister_scalable_target

    def deregister_scalable_target(self: Any, namespace: str, r_id: str, dimension: str) -> None:
        deregister(self, namespace, r_id, dimension)
        for key in [key for key, policy in self.policies.items() if policy.resource_id == r_id]:
            del self.policies[key]  # as AWS does

    scaling.deregister_scalable_target = deregister_scalable_target


def main(port: int) -> None:
    """Serve."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    hosting = Hosting()
    extend(hosting)
    transform_server.extend(hosting)
    application = DomainDispatcherApplication(create_backend_app)

    def controlled(environ: Any, start: Any) -> Any:
        if environ["PATH_INFO"].startswith("/delay/"):
            hosting.delay = float(environ["PATH_INFO"].rpartition("/")[2])
            start("204 No Content", [])
            return []
        if environ["PATH_INFO"] == "/storage":
            given = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            hosting.storage = lambda: transform_server.storage(given)
            start("204 No Content", [])
            return []
        return application(environ, start)

    run_simple("127.0.0.1", port, controlled, threaded=True)


# The fixtures


@dataclass(frozen=True)
class SageMaker:
    """Where the APIs of SageMaker and its helpers answer."""

    api: Gateway
    engine: DockerEngine
    role: str

    def client(self, service: str) -> Any:
        import boto3

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, region_name=REGION, endpoint_url=self.api.url, **keys)

    def delay(self, seconds: float) -> None:
        """Let each change of an endpoint, and each transform job, take longer."""
        httpx.get(f"http://127.0.0.1:{self.api.target}/delay/{seconds}", trust_env=False)

    def store(self, s3: S3) -> None:
        """Let transform jobs use an S3."""
        keys = {"aws_access_key_id": s3.admin.key, "aws_secret_access_key": s3.admin.secret}
        given = keys | {"endpoint_url": s3.url}
        httpx.post(f"http://127.0.0.1:{self.api.target}/storage", json=given, trust_env=False)

    def containers(self, endpoint: str) -> list[str]:
        """Return the images of the containers that run for an endpoint."""
        with self.engine.client() as client:
            found = client.containers.list(filters={"label": f"{LABEL}={endpoint}"})
            return [str(container.attrs["Config"]["Image"]) for container in found]

    def calls(self, key: str) -> set[str]:
        """Return the calls that were made with an access key, such as sagemaker:CreateModel."""
        signed = f"Credential={key}/"
        made = [r for r in self.api.requests if signed in r.headers.get("Authorization", "")]
        return set(map(operation, made))


def operation(request: Request) -> str:
    """Return which call of AWS's APIs a request is, as policies name it."""
    target = request.headers.get("X-Amz-Target", "")
    scope = request.headers.get("Authorization", "").split("Credential=")[-1].split("/")
    service = {"monitoring": "cloudwatch"}.get(scope[3], scope[3]) if len(scope) > 3 else ""
    if request.path.endswith("/invocations"):
        return "sagemaker:InvokeEndpoint"
    if target:
        return f"{service}:{target.rpartition('.')[2]}"
    for part in (request.body.decode("latin-1") + "&" + request.path.partition("?")[2]).split("&"):
        if part.startswith("Action="):
            return f"{service}:{part[7:]}"
    if "/operation/" in request.path:
        return f"{service}:{request.path.rpartition('/')[2]}"
    return ""


@pytest.fixture(scope="session")
def sagemaker_session(
    ecr_session: Ecr, docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SageMaker]:
    [port] = free_ports(1)
    folder = tmp_path_factory.mktemp("sagemaker")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {__name__} import main; main({port})"
    command = [sys.executable, "-c", code]
    with running(command, port, folder), Gateway(port) as api:
        role = f"sentiment-{port}"
        sagemaker = SageMaker(api, docker_engine, f"arn:aws:iam::{ACCOUNT}:role/{role}")
        trust = (ROOT / "deployments" / "iam" / "endpoint-trust.json").read_text()
        sagemaker.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=trust)
        yield sagemaker
        with docker_engine.client() as client:
            for container in client.containers.list(all=True, filters={"label": LABEL}):
                container.remove(force=True)


@pytest.fixture
def sagemaker(sagemaker_session: SageMaker) -> Iterator[SageMaker]:
    """Give out SageMaker, sound again after each test."""
    sagemaker_session.api.requests.clear()
    yield sagemaker_session
    sagemaker_session.api.up()
    sagemaker_session.api.mend()
    sagemaker_session.delay(0)


@pytest.fixture(scope="session")
def serving_base(docker_engine: DockerEngine, base_image: str) -> Iterator[str]:
    """Make a base for serving images: Python and the app's packages, and no more."""
    name = "sentiment-test/serving-base:latest"
    site = f"{HOME}/.venv/lib/python3.11/site-packages"
    lines = [
        f"FROM {base_image} AS full",
        "FROM scratch",
        "COPY --from=full /lib64 /lib64",
        "COPY --from=full /lib/x86_64-linux-gnu /lib/x86_64-linux-gnu",
        "COPY --from=full /usr/bin/python3.11 /usr/bin/python3.11",
        "COPY --from=full /usr/lib/python3.11 /usr/lib/python3.11",
        *(f"COPY --from=full /{site}/{package} /site/{package}" for package in PACKAGES.split()),
        "ENV PYTHONPATH=/site:/app PATH=/usr/bin",
    ]
    with docker_engine.client() as client:
        _build(client, name, {"Dockerfile": "\n".join(lines).encode()})
        yield name
        client.images.remove(name, force=True)


@pytest.fixture(scope="session")
def build_serving(docker_engine: DockerEngine, serving_base: str) -> Iterator[Build]:
    """Return a function that builds a serving image of a bundle, and returns its name."""
    made: set[str] = set()
    with docker_engine.client() as client:

        def build(bundle: Path, version: str, digest: str, serves: bool = True) -> str:
            name = f"sentiment-serve:{version}-{digest[:12]}" + ("" if serves else "-silent")
            serve = ROOT / "containers" / "serve"
            files = {f"containers/serve/{path.name}": path.read_bytes() for path in serve.glob("*.py")}
            files |= {f"bundle/{path.name}": path.read_bytes() for path in bundle.iterdir()}
            app = ["-m", "containers.serve.app", "--bundle", "/app/bundle", "--version", version]
            entry = ["/usr/bin/python3.11", *(app if serves else ["-c", "import time; time.sleep(600)"])]
            lines = [f"FROM {serving_base}", "COPY . /app", f"ENTRYPOINT {json.dumps(entry)}"]
            _build(client, name, files | {"Dockerfile": "\n".join(lines).encode()})
            made.add(name)
            return name

        yield build
        for name in made:
            client.images.remove(client.images.get(name).id, force=True)  # with the names it was pushed by


def _build(client: Any, name: str, files: dict[str, bytes]) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.seek(0)
    client.images.build(fileobj=archive, custom_context=True, tag=name, rm=True)
