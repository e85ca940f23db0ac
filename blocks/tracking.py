"""Tracking: where MLflow keeps runs, figures, models and their versions."""

import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from blocks.role import BlockError, Resource, Role, causes, local_path, local_resources

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # seconds, of one request: a model may be large
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",  # after 0, 2, 4 and 8 seconds, and up to 1 more at random
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # it may say an hour; the steps wait in their own way
}
"""What MLflow's client waits for, unless the environment says otherwise: bursts, not outages."""

ONE_ATTEMPT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


class TrackingError(BlockError):
    """Raised when the tracking server cannot be used; says where it is and what to do."""


class Tracking(Role):
    """An MLflow tracking server and model registry."""

    slot: ClassVar[str] = "sentiment-tracking"
    kinds: ClassVar[Mapping[str, str]] = {
        "local-tracking": "blocks.tracking",
        "mlflow-server": "blocks.tracking",
    }

    experiment: str = Field(default="sentiment", description="MLflow experiment that the runs go to.")
    model: str = Field(default="sentiment", description="Name of the registered model.")

    @abstractmethod
    def uri(self) -> str:
        """Return MLflow's tracking URI; it holds no secret."""

    @abstractmethod
    def prepare(self) -> str:
        """Make ready what has to exist before the first run and return the experiment's id."""

    @abstractmethod
    def where(self) -> str:
        """Tell a person where to look at the runs."""

    def client(self) -> "MlflowClient":
        """Return a client of this server; one that asks for a password answers it within `opened` only."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri())

    @contextmanager
    def opened(self) -> Iterator["MlflowClient"]:
        """Point MLflow at this server for a while, with what it needs to be let in; yields a client."""
        import mlflow

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.uri())
        try:
            with environment(self._variables()):
                yield self.client()
        finally:
            mlflow.set_tracking_uri(before)

    @contextmanager
    def connected(self) -> Iterator[str]:
        """Point MLflow at this server for a while; yields the experiment's id."""
        with self.opened():
            yield self.prepare()

    def _variables(self) -> dict[str, str]:
        """Return the environment variables that MLflow's client needs for this server."""
        return {}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a while: MLflow's client reads them at each request."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def one_attempt() -> Iterator[None]:
    """Let MLflow's client try each request once, and not wait long for the answer.

    For what may be missed, and for what must not be made twice: the answer to a request that was carried
    out may get lost.
    """
    with environment(ONE_ATTEMPT):
        yield


class LocalTracking(Tracking):
    """MLflow on SQLite and a folder of this machine; no server runs."""

    _block_type_name = "Local Tracking"
    _block_type_slug = "local-tracking"

    folder: str = Field(default=".local/mlflow", description="Folder; a relative one starts at the checkout.")

    def uri(self) -> str:  # noqa: D102
        return f"sqlite:///{local_path(self.folder) / 'mlflow.db'}"

    def prepare(self) -> str:  # noqa: D102
        local_path(self.folder).mkdir(parents=True, exist_ok=True)
        client = self.client()
        found = client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        artifacts = (local_path(self.folder) / "artifacts").as_uri()
        return str(client.create_experiment(self.experiment, artifact_location=artifacts))

    def where(self) -> str:  # noqa: D102
        return "`make ui`, then http://127.0.0.1:5000"

    def check(self) -> str:  # noqa: D102
        self.prepare()
        return f"MLflow on {self.uri()}"

    def resources(self) -> list[Resource]:  # noqa: D102
        return local_resources("folder of MLflow", self.folder)


class ServerTracking(Tracking):
    """An MLflow server that keeps the artifacts itself, reached over HTTP with basic authentication."""

    _block_type_name = "MLflow Server"
    _block_type_slug = "mlflow-server"

    address: str = Field(description="Address of the server, such as https://mlflow.example.com.")
    user: str | None = Field(default=None, description="User of its basic authentication.")
    password: SecretStr | None = Field(default=None, description="Password of that user.")

    @field_validator("address")
    @classmethod
    def _plain(cls, address: str) -> str:
        parts = urlsplit(address)
        if "@" in parts.netloc:
            raise ValueError("the address must not hold a user or a password: they have fields of their own")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("the address must be like https://mlflow.example.com")
        return address.rstrip("/")

    def uri(self) -> str:  # noqa: D102
        return self.address

    def prepare(self) -> str:  # noqa: D102
        from mlflow.exceptions import MlflowException

        client = self.client()
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                client.create_experiment(self.experiment)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was faster
                    raise
            found = client.get_experiment_by_name(self.experiment)
            assert found is not None
        if urlsplit(found.artifact_location).scheme in ("", "file"):
            raise TrackingError(
                f"The experiment {self.experiment!r} of {self.address} keeps artifacts in "
                f"{found.artifact_location}, a folder of the server that clients cannot reach: start it with "
                "--serve-artifacts and --artifacts-destination, and give this block another experiment."
            )
        return str(found.experiment_id)

    def where(self) -> str:  # noqa: D102
        return self.address

    def check(self) -> str:
        """Make and delete a run with an artifact, as a training run would, and look into the registry."""
        import mlflow
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        with self.connected() as experiment:
            server = get_default_host_creds(self.address)  # type: ignore[no-untyped-call]
            answer = http_request(server, "/version", "GET")  # type: ignore[no-untyped-call]
            version = verify_rest_response(answer, "/version").text
            client = self.client()
            versions = len(client.search_model_versions(f"name = '{self.model}'"))
            run = client.create_run(experiment, run_name="check").info
            try:
                client.log_text(run.run_id, "checked", "check.txt")
                mlflow.artifacts.load_text(f"{run.artifact_uri}/check.txt")
            finally:
                client.delete_run(run.run_id)
        user = f"user {self.user}" if self.user else "no user"
        return f"MLflow {version} at {self.address}, {user}, {versions} versions of {self.model!r}"

    def resources(self) -> list[Resource]:  # noqa: D102
        what = f"experiment {self.experiment}, models {self.model} and {self.model}-production"
        by_hand = f"delete them at {self.address}"
        return [Resource(kind="runs and models", name=what, detail=self.address, by_hand=by_hand)]

    def explain(self, error: BaseException) -> BlockError | None:  # noqa: D102
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        found = [e for e in causes(error) if isinstance(e, MlflowException | RequestException)]
        others = any(
            isinstance(e, BlockError)
            or type(e).__module__ == "docker.errors"  # which speaks by the same library as MLflow's client
            for e in causes(error)
        )
        if not found or others:
            return None
        told = "\n".join(map(str, found))
        for pattern, cause, transient in _CAUSES:
            if re.search(pattern, told, re.IGNORECASE):
                user = f"the user {self.user!r}" if self.user else "requests without a user"
                text = cause.format(user=user, experiment=self.experiment, model=self.model)
                return TrackingError(f"The MLflow server {self.address} {text}", transient)
        return None

    def _variables(self) -> dict[str, str]:
        variables = {name: value for name, value in PATIENCE.items() if name not in os.environ}
        if self.user is not None and self.password is not None:
            variables["MLFLOW_TRACKING_USERNAME"] = self.user
            variables["MLFLOW_TRACKING_PASSWORD"] = self.password.get_secret_value()
        return variables


_AWAY = "Start it, or wait and run again: finished steps are not repeated."
_STATUS = r"(error code {0} !=|\b{0} (Client|Server) Error|too many {0} error responses)"
_SAVE = "save the right one with `python -m blocks.register aws`"

_CAUSES: tuple[tuple[str, str, bool], ...] = (
    (
        r"Invalid Host header",
        "does not answer to this name (403, Invalid Host header): start it with --allowed-hosts and the host "
        "(and port) of the address, or have the proxy in front of it pass on a name that it knows.",
        False,
    ),
    (
        _STATUS.format("401") + r"|UNAUTHENTICATED|CUSTOMER_UNAUTHORIZED",
        f"refuses {{user}} (401): wrong user or password; {_SAVE} (MLFLOW_TRACKING_USERNAME, "
        "MLFLOW_TRACKING_PASSWORD).",
        False,
    ),
    (
        _STATUS.format("403") + r"|PERMISSION_DENIED",
        "denies {user} what is needed (403): let an administrator grant EDIT on the experiment "
        "{experiment!r} and MANAGE on the models {model!r} and '{model}-production'.",
        False,
    ),
    (
        _STATUS.format("413"),
        "or the proxy in front of it takes no file of that size (413): raise the proxy's limit for bodies.",
        False,
    ),
    (
        _STATUS.format("429") + r"|REQUEST_LIMIT_EXCEEDED|RESOURCE_EXHAUSTED",
        "asks for fewer requests (429). Wait and run again: finished steps are not repeated.",
        True,
    ),
    (
        _STATUS.format(r"(408|5\d\d)") + r"|TEMPORARILY_UNAVAILABLE",
        f"fails (5xx): its log, or that of the proxy in front of it, says why. {_AWAY}",
        True,
    ),
    (
        r"error code 404 !=|not in a valid JSON format",
        f"is none: something else answers at this address; {_SAVE} (MLFLOW_TRACKING_URI).",
        False,
    ),
    (
        r"NameResolutionError|Failed to resolve|Name or service not known|getaddrinfo",
        "has a name that nobody knows: correct the address (MLFLOW_TRACKING_URI) or the name service.",
        True,
    ),
    (r"SSLEOFError|UNEXPECTED_EOF", f"breaks connections off. {_AWAY}", True),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER",
        "cannot be trusted (TLS): give it a certificate for its name, name the authority's in "
        "MLFLOW_TRACKING_SERVER_CERT_PATH, or write http:// if it speaks no TLS.",
        False,
    ),
    (r"Connection refused", f"is not running: it refuses connections. {_AWAY}", True),
    (r"timed out|timeout", f"does not answer in time: it is down, busy or behind a firewall. {_AWAY}", True),
    (
        r"Connection aborted|Connection reset|RemoteDisconnected|IncompleteRead|ChunkedEncodingError"
        r"|Connection broken|failed with exception|Network is unreachable|No route to host",
        f"cannot be reached, or breaks connections off. {_AWAY}",
        True,
    ),
)
"""Text of MLflow's and requests' errors, what it means, and whether waiting may help; the first one counts.

Text, since MLflow flattens the causes: a failed download, for one, is told as a list of lines.
"""
