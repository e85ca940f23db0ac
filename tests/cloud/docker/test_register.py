"""Saving a team's blocks and the doctor, from the command line, on a real Prefect server."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocks.cloud import VariablesError
from blocks.endpoint import Endpoint
from blocks.hosting import Instances
from blocks.process import LocalEndpoint
from blocks.register import Aws
from blocks.sagemaker import SageMakerEndpoint
from tests.cloud.gateway import HOST
from tests.cloud.mlflow_server import MlflowServer
from tests.cloud.prefect_server import PrefectServer
from tests.cloud.registry_server import REGION, Ecr
from tests.cloud.s3_server import S3
from tests.cloud.sagemaker_server import SageMaker
from tests.cloud.snowflake_server import Snowflake

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def variables(
    s3: S3,
    bucket: str,
    snowflake: Snowflake,
    mlflow_server: MlflowServer,
    ecr: Ecr,
    sagemaker: SageMaker,
) -> dict[str, str]:
    return {
        "SENTIMENT_BUCKET": bucket,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": s3.key,
        "AWS_SECRET_ACCESS_KEY": s3.secret,
        "AWS_ENDPOINT_URL": s3.url,
        "SENTIMENT_REPOSITORY": ecr.repository(),
        "SENTIMENT_REGISTRY": ecr.host,
        "SENTIMENT_BUILD_ARGS": '{"BASE_IMAGE": "python:3.11-slim"}',
        "AWS_ENDPOINT_URL_ECR": ecr.api.url,
        "SAGEMAKER_ROLE_ARN": sagemaker.role,
        "SENTIMENT_ENDPOINT": "sentiment-registered",
        "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker.api.url,
        "SNOWFLAKE_ACCOUNT": snowflake.account,
        "SNOWFLAKE_USER": snowflake.user,
        "SNOWFLAKE_PASSWORD": snowflake.password,
        "SNOWFLAKE_ROLE": snowflake.role,
        "SNOWFLAKE_WAREHOUSE": snowflake.compute,
        "SNOWFLAKE_DATABASE": snowflake.connector().database,
        "SNOWFLAKE_HOST": HOST,
        "SNOWFLAKE_PORT": str(snowflake.port),
        "SNOWFLAKE_PROTOCOL": "http",
        "MLFLOW_TRACKING_URI": mlflow_server.url,
        "MLFLOW_TRACKING_USERNAME": mlflow_server.user,
        "MLFLOW_TRACKING_PASSWORD": mlflow_server.password,
    }


@pytest.fixture
def register(prefect_server: PrefectServer, tmp_path: Path) -> Run:
    def run(command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        flags = ["--env-file", write(tmp_path, variables)] if command == "aws" else []
        none = dict.fromkeys(variables, "")  # MLflow leaves some behind in the environment, which goes first
        return prefect_server.command(sys.executable, "-m", "blocks.register", command, *flags, **none)

    return run


def write(folder: Path, variables: dict[str, str]) -> str:
    file = folder / "variables"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    return str(file)


def documents(server: PrefectServer, secrets: bool = False) -> dict[str, dict[str, Any]]:
    with server.client() as client:
        return {
            str(document.name): document.data
            for document in client.read_block_documents(include_secrets=secrets, limit=200)
            if document.name
        }


def findings(output: str) -> dict[str, str]:
    """Return the doctor's verdict and line for each service."""
    lines = re.findall(r"^(ok|FAILED) +(sentiment-\w+): (.*)$", output, re.MULTILINE)
    return {name: f"{verdict} {line}" for verdict, name, line in lines}


def test_saving_twice_changes_nothing_and_shows_no_secret(
    register: Run, variables: dict[str, str], prefect_server: PrefectServer
) -> None:
    first, again = register("aws", **variables), register("aws", **variables)
    assert first.returncode == 0, first.stdout
    assert again.stdout == first.stdout
    names = [f"sentiment-{role}" for role in ("lake", "warehouse", "tracking", "images", "endpoint")]
    assert [line.split(":")[0] for line in first.stdout.splitlines()] == names
    planted = [value for name, value in variables.items() if "SECRET" in name or "PASSWORD" in name]
    assert len(planted) == 3
    assert "build_args={'BASE_IMAGE': 'python:3.11-slim'}" in first.stdout
    plain, whole = documents(prefect_server), documents(prefect_server, secrets=True)
    assert {*names, "sentiment-aws", "sentiment-snowflake"} <= plain.keys()
    for secret in planted:
        assert secret in str(whole), "it is there for those who may have it"
        assert secret not in first.stdout
        assert secret not in str(plain)

    checked = register("check")
    assert checked.returncode == 0, checked.stdout
    found = findings(checked.stdout)
    assert all(line.startswith("ok ") for line in found.values())
    for name, part in (
        ("sentiment-lake", variables["SENTIMENT_BUCKET"]),
        ("sentiment-warehouse", variables["SNOWFLAKE_DATABASE"]),
        ("sentiment-tracking", variables["MLFLOW_TRACKING_URI"]),
        ("sentiment-images", variables["SENTIMENT_REPOSITORY"]),
        ("sentiment-endpoint", "sentiment-registered"),
    ):
        assert part.lower() in found[name].lower()
    assert not any(secret in checked.stdout for secret in planted)


def test_what_people_set_in_the_endpoint_is_kept(
    register: Run, variables: dict[str, str], prefect_server: PrefectServer
) -> None:
    def saved(**changes: str) -> dict[str, Any]:
        done = register("aws", **variables | changes)
        assert done.returncode == 0, done.stdout
        return documents(prefect_server)["sentiment-endpoint"]

    assert saved()["hosting"]["type"] == "ml.c5.large"
    with prefect_server.here():
        endpoint = Endpoint.current()
        assert isinstance(endpoint, SageMakerEndpoint)
        endpoint.keep, endpoint.hosting = 5, Instances(count=3)
        endpoint.appoint()
    changed = saved(SENTIMENT_INSTANCE_TYPE="ml.m5.large", SENTIMENT_ENDPOINT="another")
    assert changed["keep"] == 5
    assert changed["name"] == "another"
    assert (changed["hosting"]["type"], changed["hosting"]["count"]) == ("ml.m5.large", 3)
    assert saved(SENTIMENT_INSTANCE_TYPE="serverless")["hosting"]["kind"] == "serverless"
    assert saved()["hosting"]["kind"] == "serverless"
    with prefect_server.here():
        LocalEndpoint().appoint()


def test_the_key_is_kept_not_its_path(
    register: Run, variables: dict[str, str], snowflake: Snowflake, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(snowflake.pem)
    del variables["SNOWFLAKE_PASSWORD"]
    variables["SNOWFLAKE_PRIVATE_KEY_PATH"] = str(key)
    variables["SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"] = snowflake.passphrase
    assert register("aws", **variables).returncode == 0
    key.unlink()
    found = findings(register("check").stdout)
    assert found["sentiment-warehouse"].startswith("ok ")


WRONG = "planted-wrong"
ROLE = "arn:aws:iam::123456789012:role/"
FAULTS: dict[str, dict[str, tuple[dict[str, str], str]]] = {
    "secrets": {
        "sentiment-lake": ({"AWS_SECRET_ACCESS_KEY": WRONG}, "secret"),
        "sentiment-warehouse": ({"SNOWFLAKE_PASSWORD": WRONG}, "LOADER"),
        "sentiment-tracking": ({"MLFLOW_TRACKING_PASSWORD": WRONG}, "password"),
        "sentiment-endpoint": ({"SAGEMAKER_ROLE_ARN": f"{ROLE}no-such"}, "endpoint-trust.json"),
    },
    "names": {
        "sentiment-lake": ({"SENTIMENT_BUCKET": "no-such-bucket"}, "no-such-bucket"),
        "sentiment-warehouse": ({"SNOWFLAKE_ROLE": "STRANGERS"}, "STRANGERS"),
        "sentiment-tracking": ({"MLFLOW_TRACKING_URI": "http://localhost:{port}"}, "--allowed-hosts"),
    },
}
"""What is wrong with the variables of each service, and what its line has to name."""


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_the_doctor_names_causes_and_remedies(
    register: Run,
    variables: dict[str, str],
    mlflow_server: MlflowServer,
    faults: dict[str, tuple[dict[str, str], str]],
) -> None:
    for changes, _ in faults.values():
        variables |= changes
    address = variables["MLFLOW_TRACKING_URI"].format(port=mlflow_server.gateway.port)
    variables["MLFLOW_TRACKING_URI"] = address
    assert register("aws", **variables).returncode == 0
    checked = register("check")
    assert checked.returncode == 1
    found = findings(checked.stdout)
    assert {name for name, line in found.items() if line.startswith("FAILED")} == faults.keys()
    for name, (_, says) in faults.items():
        assert says.lower() in found[name].lower()
    assert WRONG not in checked.stdout
    assert "Traceback" not in checked.stdout


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"SENTIMENT_BUCKET": None, "SNOWFLAKE_USER": None}, ("SENTIMENT_BUCKET", "SNOWFLAKE_USER")),
        ({"AWS_SESSION_TOKEN": WRONG}, ("AWS_SESSION_TOKEN", "AWS_ROLE_ARN")),
        ({"AWS_ACCESS_KEY_ID": None}, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        ({"SNOWFLAKE_PASSWORD": None}, ("SNOWFLAKE_PASSWORD", "SNOWFLAKE_PRIVATE_KEY_PATH")),
        (
            {"SNOWFLAKE_PASSWORD": None, "SNOWFLAKE_PRIVATE_KEY_PATH": "/no/such/key.pem"},
            ("SNOWFLAKE_PRIVATE_KEY_PATH", "/no/such/key.pem"),
        ),
        ({"SNOWFLAKE_PORT": WRONG}, ("SNOWFLAKE_PORT",)),
        ({"SAGEMAKER_ROLE_ARN": "sentiment"}, ("SAGEMAKER_ROLE_ARN", "role")),
        ({"SENTIMENT_INSTANCE_TYPE": "large"}, ("SENTIMENT_INSTANCE_TYPE", "type")),
        ({"MLFLOW_TRACKING_URI": f"http://user:{WRONG}@127.0.0.1"}, ("MLFLOW_TRACKING_URI",)),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_what_is_missing_is_named_at_once_and_nothing_is_saved(
    variables: dict[str, str],
    prefect_server: PrefectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    names: tuple[str, ...],
) -> None:
    kept = {name: value for name, value in (variables | changes).items() if value is not None}
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    before = documents(prefect_server, secrets=True)
    with prefect_server.here(), pytest.raises(VariablesError) as refused:
        Aws(env_file=write(tmp_path, kept)).run()
    assert all(name in str(refused.value) for name in names)
    assert WRONG not in str(refused.value)
    assert documents(prefect_server, secrets=True) == before
