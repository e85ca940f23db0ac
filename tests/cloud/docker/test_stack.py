"""What the stack's containers run, against PostgreSQL and S3, with the secrets in files as there."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import psycopg2
import pytest
import requests
from mlflow.exceptions import MlflowException

from blocks.tracking import ServerTracking
from tests.cloud import free_ports
from tests.cloud.docker_engine import DockerEngine
from tests.cloud.mlflow_server import Postgres
from tests.cloud.s3_server import REGION, S3

ROOT = Path(__file__).resolve().parents[3]
STACK = ROOT / "containers" / "stack"
NAMES = (
    "mlflow_database_password",
    "prefect_database_password",
    "mlflow_admin_password",
    "mlflow_session_key",
)


@pytest.fixture(scope="module")
def environment(postgres: Postgres, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Lay out the secrets, make the databases, and return what the containers find in their environment."""
    folder = tmp_path_factory.mktemp("secrets")
    for name in NAMES:
        (folder / name).write_text(f"{uuid4().hex}\n")
    (folder / "postgres_password").write_text(f"{postgres.password}\n")
    (folder / "prefect_auth").write_text(f"flows:{uuid4().hex}\n")
    programs = [str(Path(sys.executable).parent), str(postgres.programs), os.environ["PATH"]]
    found = {
        "PATH": os.pathsep.join(programs),
        "HOME": str(folder),
        "SECRETS": str(folder),
        "POSTGRES": f"127.0.0.1:{postgres.port}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGUSER": "postgres",
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": s3.key,
        "AWS_SECRET_ACCESS_KEY": s3.secret,
    }
    # In the container, PostgreSQL trusts whoever is there while it is set up.
    variables = found | {"PGPASSWORD": postgres.password}
    subprocess.run(["sh", str(STACK / "databases.sh")], env=variables, check=True, timeout=60)
    return found


@contextmanager
def started(script: str, environment: dict[str, str], url: str, folder: Path) -> Iterator[None]:
    """Run a server's script until it answers; no argument of its processes is a secret."""
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["sh", str(STACK / script)], cwd=folder, env=environment, stdout=file, stderr=file
        )
    deadline = time.monotonic() + 180
    try:
        while True:
            try:
                urlopen(url, timeout=5).close()
                break
            except OSError as error:
                if isinstance(error, HTTPError) and error.code == 401:
                    break
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.3)
        shown = subprocess.check_output(["ps", "-eo", "args"], text=True) + log.read_text()
        for secret in Path(environment["SECRETS"]).iterdir():
            if secret.is_file():
                assert secret.read_text().strip() not in shown
        yield
    finally:
        process.terminate()
        process.wait(60)


def test_mlflow_is_backed_up_and_restored(
    environment: dict[str, str], postgres: Postgres, s3: S3, bucket: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    own = {"PORT": str(port), "WORKERS": "1", "MLFLOW_ADMIN": "curator", "ALLOWED_HOSTS": host}
    own |= {"ARTIFACTS": f"s3://{bucket}/artifacts", "MLFLOW_S3_ENDPOINT_URL": s3.url}
    password = (Path(environment["SECRETS"]) / "mlflow_admin_password").read_text().strip()
    tracking = ServerTracking.model_validate(
        {"address": f"http://{host}", "user": "curator", "password": password}
    )
    with started("mlflow.sh", environment | own, f"http://{host}/health", tmp_path):
        tracking.check()
        with tracking.connected() as experiment:
            run = tracking.client().create_run(experiment, run_name="kept").info.run_id
        for origin, status in ((f"https://{host}", 200), ("https://elsewhere.example", 403)):
            answer = requests.post(  # as a browser does that shows the server's own page
                f"http://{host}/api/2.0/mlflow/runs/search",
                json={"experiment_ids": [experiment]},
                auth=("curator", password),
                headers={"Origin": origin},
                timeout=60,
            )
            assert answer.status_code == status, answer.text
        elsewhere = tracking.model_copy(update={"address": f"http://localhost:{port}"})
        with pytest.raises(MlflowException, match="Invalid Host header"):
            elsewhere.check()

    variables = environment | {"BACKUP_BUCKET": bucket, "DATABASES": "mlflow mlflow_users"}
    backup = [sys.executable, str(STACK / "backup.py")]
    said = subprocess.check_output([*backup, "now"], env=variables, text=True, timeout=120)
    dump, users = (line.split(f"s3://{bucket}/")[1] for line in said.splitlines())
    assert dump.endswith("-mlflow.dump") and users.endswith("-mlflow_users.dump")

    def names() -> list[str]:
        with closing(psycopg2.connect(postgres.address("mlflow"))) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT name FROM runs WHERE run_uuid = %s", (run,))
            return [name for (name,) in cursor.fetchall()]

    with closing(psycopg2.connect(postgres.address("mlflow"))) as connection:
        connection.cursor().execute("DELETE FROM tags; DELETE FROM runs")
        connection.commit()
    assert names() == []
    s3.client().put_object(Bucket=bucket, Key="damaged.dump", Body=b"PGDMP is not all that it takes")
    damaged = subprocess.run(
        [*backup, "restore", "damaged.dump", "mlflow"], env=variables, capture_output=True
    )
    assert damaged.returncode != 0 and names() == []
    subprocess.run([*backup, "restore", dump, "mlflow"], env=variables, check=True, timeout=120)
    assert names() == ["kept"]


def test_prefect_asks_for_a_password(environment: dict[str, str], tmp_path: Path) -> None:
    import base64

    (port,) = free_ports(1)
    own = {"PORT": str(port), "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    url = f"http://127.0.0.1:{port}/api"
    with started("prefect.sh", environment | own, f"{url}/admin/version", tmp_path):
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"{url}/admin/version", timeout=30)
        auth = (Path(environment["SECRETS"]) / "prefect_auth").read_bytes().strip()
        headers = {"Authorization": f"Basic {base64.b64encode(auth).decode()}"}
        with urlopen(Request(f"{url}/admin/version", headers=headers), timeout=30) as response:
            assert response.status == 200


@pytest.fixture(scope="module")
def image(docker_engine: DockerEngine, base_image: str) -> str:
    """Build MLflow's image; pip in it trusts whom this machine trusts."""
    tags = {name: f"sentiment-test/{name}:latest" for name in ("stack-base", "stack-mlflow")}
    base = f"FROM {base_image}\nENV PIP_CERT=/etc/ssl/certificates.pem\n".encode()
    with docker_engine.client() as client:
        client.images.build(fileobj=io.BytesIO(base), tag=tags["stack-base"], rm=True)
        client.images.build(
            path=str(ROOT),
            dockerfile="containers/stack/Dockerfile",
            target="mlflow",
            buildargs={"BASE_IMAGE": tags["stack-base"]},
            tag=tags["stack-mlflow"],
            network_mode="host",
            rm=True,
        )
    return tags["stack-mlflow"]


@pytest.mark.slow
def test_the_image_runs_with_the_rights_of_the_stack(
    image: str, docker_engine: DockerEngine, environment: dict[str, str], s3: S3, bucket: str
) -> None:
    (port,) = free_ports(1)
    host, secrets = f"127.0.0.1:{port}", Path(environment["SECRETS"])
    secrets.chmod(0o755)  # its parents keep other users out
    password = (secrets / "mlflow_admin_password").read_text().strip()
    given = {name: environment[name] for name in environment if name.startswith(("AWS_", "POSTGRES"))}
    given |= {"PORT": str(port), "WORKERS": "1", "MLFLOW_ADMIN": "curator", "ALLOWED_HOSTS": host}
    given |= {"ARTIFACTS": f"s3://{bucket}/artifacts", "MLFLOW_S3_ENDPOINT_URL": s3.url}
    tracking = ServerTracking.model_validate(
        {"address": f"http://{host}", "user": "curator", "password": password}
    )
    with docker_engine.client() as client:
        container = client.containers.run(
            image,
            detach=True,
            environment=given,
            volumes={str(secrets): {"bind": "/run/secrets", "mode": "ro"}},
            network_mode="host",
            read_only=True,
            tmpfs={"/tmp": ""},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
        )
        try:
            deadline = time.monotonic() + 180
            while not _healthy(host):
                container.reload()
                assert container.status == "running", container.logs().decode()[-3000:]
                assert time.monotonic() < deadline, container.logs().decode()[-3000:]
                time.sleep(0.5)
            assert "MLflow 3." in tracking.check()
            assert container.exec_run("id -un").output.decode().strip() == "mlflow"
            layers = str(client.images.get(image).history()) + str(container.attrs)
            assert password not in layers + container.logs().decode()
        finally:
            container.remove(force=True)


def _healthy(host: str) -> bool:
    try:
        with urlopen(f"http://{host}/health", timeout=5):
            return True
    except OSError:
        return False
