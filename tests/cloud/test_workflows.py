"""The scripts of the workflows that run deployments, as GitHub's machines run them, against a real server."""

import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from blocks.process import LocalEndpoint
from blocks.tracking import LocalTracking
from tasks import registry
from tests.bundles import build_bundle
from tests.cloud.prefect_server import PrefectServer
from tests.workflows import ROOT, loaded

PROBE = """
from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact


@flow(name="workflow-probe")
def probe(parameters: dict = {"text": "by default"}):
    create_markdown_artifact(f"The verdict on {parameters['text']}", key="workflow-probe")
    create_table_artifact([{"step": "rows in", "rows": 3}], key="workflow-probe-rows", description="Rows")
    if parameters.get("fail"):
        raise RuntimeError("The warehouse is away.")
"""


class Ran(NamedTuple):
    """What came of a script."""

    status: int
    output: str
    summary: str


Script = Callable[..., Ran]


@pytest.fixture(scope="module")
def deployments(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Deploy a flow that ends at will twice: `served` has a worker, `orphaned` has none."""
    from prefect import flow

    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.py").write_text(dedent(PROBE))
    with prefect_server.here():
        for name in ("served", "orphaned"):
            created = prefect_server.prefect("work-pool", "create", f"workflows-{name}", "--type", "process")
            assert created.returncode == 0, created.stdout
            probe = flow.from_source(str(folder), "probe.py:probe")
            given = {"parameters": {"text": "what the deployment says"}}
            pool = f"workflows-{name}"
            probe.deploy(name, work_pool_name=pool, parameters=given, print_next_steps=False)
    with prefect_server.worker("workflows-served"):
        yield


@pytest.fixture
def script(prefect_server: PrefectServer, deployments: None, tmp_path: Path) -> Script:
    """Return a function that runs the script of a workflow's step `Run`."""

    def run(workflow: str, *, replace: tuple[str, str] = ("", ""), **variables: str) -> Ran:
        (step,) = [
            step
            for job in loaded(ROOT / ".github" / "workflows" / workflow)["jobs"].values()
            for step in job["steps"]
            if step.get("name") == "Run"
        ]
        file, summary = tmp_path / "script.sh", tmp_path / "summary.md"
        file.write_text(step["run"].replace(*replace) if replace[0] else step["run"])
        summary.touch()
        given = dict.fromkeys(step["env"], "") | {  # GitHub gives an empty text for a secret that is not set
            "RUN": f"github-{tmp_path.name}",
            "PREFECT_API_URL": prefect_server.url,
            "GITHUB_STEP_SUMMARY": str(summary),
        }
        assert variables.keys() <= given.keys()
        result = subprocess.run(
            ["bash", "-e", str(file)],
            cwd=ROOT,
            env=prefect_server.environment | given | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        return Ran(result.returncode, result.stdout, summary.read_text())

    return run


def test_a_run_that_completes_is_a_success_and_parameters_stay_text(script: Script, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    hostile = f"'$(touch {planted})' `touch {planted}` ; touch {planted} #"
    ran = script(
        "run_flows.yml",
        DEPLOYMENT="workflow-probe/served",
        PARAMETERS=f'{{"text": "{hostile}"}}',
    )
    assert ran.status == 0, ran.output
    assert not planted.exists()
    assert f"## Completed: [github-{tmp_path.name}](http" in ran.summary
    assert f"The verdict on {hostile}" in ran.summary
    assert "| step | rows |\n| --- | --- |\n| rows in | 3 |" in ran.summary


def test_a_run_that_fails_fails_the_job_and_says_why(script: Script) -> None:
    ran = script(
        "run_flows.yml",
        DEPLOYMENT="workflow-probe/served",
        PARAMETERS='{"text": "nothing", "fail": true}',
    )
    assert ran.status == 1, ran.output
    assert "## Failed: " in ran.summary
    assert "The warehouse is away." in ran.summary


@pytest.mark.parametrize(
    ("deployment", "parameters"),
    [("served", '"; touch PLANTED; echo "'), ("served", "-"), ("absent", "{}")],
    ids=["no JSON", "a dash", "unknown deployment"],
)
def test_what_cannot_be_run_fails_the_job(
    script: Script, tmp_path: Path, deployment: str, parameters: str
) -> None:
    planted = tmp_path / "planted"
    ran = script(
        "run_flows.yml",
        DEPLOYMENT=f"workflow-probe/{deployment}",
        PARAMETERS=parameters.replace("PLANTED", str(planted)),
    )
    assert ran.status == 1, ran.output
    assert not planted.exists()
    assert "There is no flow run" in ran.summary


def test_without_an_address_no_server_of_its_own_is_started(script: Script) -> None:
    ran = script("run_flows.yml", DEPLOYMENT="workflow-probe/served", PARAMETERS="{}", PREFECT_API_URL="")
    assert ran.status != 0
    assert "PREFECT_API_URL: is no secret" in ran.output
    assert ran.summary == ""


def test_a_run_that_nobody_takes_ends_the_wait_in_time(script: Script) -> None:
    ran = script(
        "run_flows.yml",
        replace=("--watch-timeout 18000", "--watch-timeout 3"),
        DEPLOYMENT="workflow-probe/orphaned",
        PARAMETERS="{}",
    )
    assert ran.status == 1, ran.output
    assert "it goes on" in ran.summary


@pytest.mark.parametrize(
    ("workflow", "variables"),
    [("benchmark.yml", {}), ("run_flows.yml", {"DEPLOYMENT": "workflow-probe/served"})],
    ids=["benchmark", "run flows"],
)
def test_without_parameters_those_of_the_deployment_hold(
    script: Script, workflow: str, variables: dict[str, str]
) -> None:
    ran = script(workflow, replace=("benchmark/docker", "workflow-probe/served"), **variables)
    assert ran.status == 0, ran.output
    assert "The verdict on what the deployment says" in ran.summary


@pytest.fixture
def production(
    prefect_server: PrefectServer, tracking: LocalTracking, endpoint: LocalEndpoint, tmp_path: Path
) -> Callable[[], None]:
    """Make this test's tracking and endpoint the server's; return what puts version 1 into production."""
    with prefect_server.here():
        tracking.appoint()
        endpoint.appoint()

    def put() -> None:
        build_bundle(tmp_path / "model" / "artifacts" / "bundle")
        digest = sha256((tmp_path / "model/artifacts/bundle/bundle.json").read_bytes()).hexdigest()
        with tracking.connected() as experiment:
            run = tracking.client().create_run(experiment).info.run_id
        model = (tmp_path / "model").as_uri()
        version = registry.register(tracking, model, run, {"digest": digest})
        tracking.client().set_registered_model_alias(tracking.model, registry.PRODUCTION, version.number)

    return put


def test_the_production_version_is_deployed_and_stopped(
    script: Script, production: Callable[[], None], endpoint: LocalEndpoint, tmp_path: Path
) -> None:
    production()
    ran = script("deploy.yml", ACTION="deploy")
    assert ran.status == 0, ran.output
    serving = endpoint.serving()
    assert serving is not None and serving.version == "1"
    assert "## Completed: " in ran.summary
    assert f"[{serving.url}]({serving.url}/ping)" in ran.summary
    assert "There is no flow run" not in ran.summary
    stopped = script("deploy.yml", ACTION="stop", RUN=f"stop-{tmp_path.name}")
    assert stopped.status == 0, stopped.output
    assert "## Completed: " in stopped.summary.removeprefix(ran.summary)
    assert endpoint.serving() is None


def test_a_deployment_that_fails_fails_the_job_and_says_why(
    script: Script, production: Callable[[], None]
) -> None:
    ran = script("deploy.yml", ACTION="deploy")
    assert ran.status == 1, ran.output
    assert "## Failed: " in ran.summary
    assert "has no version in production" in ran.summary


@pytest.mark.parametrize("action", ["", "deploy; touch PLANTED", "$(touch PLANTED)"])
def test_another_action_is_none(script: Script, tmp_path: Path, action: str) -> None:
    planted = tmp_path / "planted"
    ran = script("deploy.yml", ACTION=action.replace("PLANTED", str(planted)))
    assert ran.status != 0
    assert not planted.exists()
