"""What prefect.yaml declares, on a real server and run by a real worker."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

from blocks.lake import LocalLake
from blocks.warehouse import DuckDBWarehouse
from deployments.automations import LINKS
from deployments.declaration import TAG, Declaration
from deployments.sync import SyncError, SyncParameters, sync
from tests.cloud.prefect_server import Declare, PrefectServer
from tests.etl import GOOD, write

pytestmark = pytest.mark.timeout(600)

DECLARED = {entry.name: entry for entry in Declaration.read().deployments}
LOCAL = {name for name in DECLARED if name.endswith("/local")}


def run(file: str, *only: str, prune: bool = False, dry_run: bool = False) -> list[str]:
    return list(sync(SyncParameters(file=file, only=list(only), prune=prune, dry_run=dry_run)))


def names(client: SyncPrefectClient) -> set[str]:
    mine = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found = client.read_deployments(deployment_filter=mine)
    return {f"{client.read_flow(entry.flow_id).name}/{entry.name}" for entry in found}


def schedules(found: DeploymentResponse) -> dict[str | None, bool]:
    return {schedule.slug: schedule.active for schedule in found.schedules}


def test_prefect_deploy_makes_what_is_declared(
    prefect_server: PrefectServer, prefect_client: SyncPrefectClient, declare: Declare
) -> None:
    from prefect_docker.worker import DockerWorkerJobConfiguration

    file = declare()
    for pool, kind in Declaration.read(file).pools.items():
        prefect_server.prefect("work-pool", "create", pool, "--type", kind, "--overwrite")
    deployed = prefect_server.prefect("--no-prompt", "deploy", "--all", "--prefect-file", file)
    assert deployed.returncode == 0, deployed.stdout
    assert names(prefect_client) == DECLARED.keys()
    for name in ("etl/local", "train/docker", "train/docker-gpu"):
        assert set(schedules(prefect_client.read_deployment_by_name(name)).values()) == {False}
    # sync sees no difference to what Prefect has made of the file, and has the automations to add
    assert run(file, dry_run=True) == [f"automation {link.name}: created" for link in LINKS]
    gpu_parameters = prefect_client.read_deployment_by_name("train/docker-gpu").parameters
    assert gpu_parameters == {"parameters": {"require_gpu": True}}

    # what a docker worker makes of pool and deployment
    template = prefect_client.read_work_pool("sentiment-docker").base_job_template
    jobs = {}
    for name in ("train/docker", "train/docker-gpu"):
        variables = prefect_client.read_deployment_by_name(name).job_variables
        jobs[name] = asyncio.run(DockerWorkerJobConfiguration.from_template_and_values(template, variables))
    cpu, gpu = jobs.values()
    assert cpu.image == gpu.image == "sentiment-train:latest"
    assert cpu.container_create_kwargs == {"shm_size": "1g"} and cpu.mem_limit == "4g" and not cpu.auto_remove
    assert gpu.container_create_kwargs == {
        "shm_size": "2g",
        "device_requests": [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}],
    }
    queues = {name: prefect_client.read_deployment_by_name(name).work_queue_name for name in jobs}
    assert queues == {"train/docker": "default", "train/docker-gpu": "gpu"}


def test_sync_creates_what_is_declared_once(prefect_client: SyncPrefectClient, declare: Declare) -> None:
    file = declare()
    for pool in Declaration.read(file).pools:
        if any(found.name == pool for found in prefect_client.read_work_pools()):
            prefect_client.delete_work_pool(pool)
    planned = run(file, dry_run=True)
    assert names(prefect_client) == set()
    assert not [found for found in prefect_client.read_automations() if TAG in found.tags]
    assert planned == [
        "work pool sentiment: created, of type process",
        "work pool sentiment-docker: created, of type docker",
        *(f"deployment {name}: created" for name in DECLARED),
        *(f"automation {link.name}: created" for link in LINKS),
    ]
    assert run(file) == planned
    assert names(prefect_client) == DECLARED.keys()
    assert prefect_client.read_work_pool("sentiment-docker").type == "docker"
    assert run(file, dry_run=True) == []
    assert run(file, prune=True) == []


def test_sync_keeps_what_people_have_set(prefect_client: SyncPrefectClient, declare: Declare) -> None:
    def redecided(content: dict[str, Any]) -> None:
        for schedule in (s for entry in content["deployments"] for s in entry.get("schedules", [])):
            schedule["active"] = True  # the declaration's word counts for new schedules alone
        content["definitions"]["monthly-etl"]["cron"] = "0 4 2 * *"
        for entry in content["deployments"]:
            if entry["entrypoint"] == "flows/etl.py:etl":
                entry["schedules"] = [content["definitions"]["monthly-etl"] | {"active": False}]

    run(declare(), "local")
    etl = prefect_client.read_deployment_by_name("etl/local")
    train = prefect_client.read_deployment_by_name("train/local")
    prefect_client.update_deployment_schedule(etl.id, etl.schedules[0].id, active=True)
    prefect_client.create_deployment_schedules(etl.id, [(CronSchedule(cron="7 7 * * *"), True)])
    prefect_client.pause_deployment(train.id)
    [automation] = prefect_client.read_automations_by_name(LINKS[0].name)
    prefect_client.pause_automation(automation.id)
    assert run(declare(redecided), "local", prune=True) == ["deployment etl/local: updated schedules"]

    etl = prefect_client.read_deployment_by_name("etl/local")
    crons = {s.schedule.cron: s.active for s in etl.schedules}  # type: ignore[union-attr]
    assert crons == {"0 4 2 * *": True, "7 7 * * *": True}
    train = prefect_client.read_deployment_by_name("train/local")
    assert schedules(train) == {"monthly-train": False}
    assert train.paused
    [automation] = prefect_client.read_automations_by_name(LINKS[0].name)
    assert not automation.enabled
    assert run(declare(redecided), "local", prune=True) == []


def test_sync_undoes_what_drifts_and_prunes_what_is_gone(
    prefect_client: SyncPrefectClient, declare: Declare
) -> None:
    def shortened(content: dict[str, Any]) -> None:
        content["deployments"] = [
            e for e in content["deployments"] if e["entrypoint"] != "flows/deploy.py:deploy"
        ]
        for entry in content["deployments"]:
            entry.pop("schedules", None)

    run(declare(), "local")
    score = prefect_client.read_deployment_by_name("score/local")
    prefect_client.update_deployment(score.id, DeploymentUpdate(description="Changed", tags=["mine", TAG]))
    others = prefect_client.create_deployment(flow_id=score.flow_id, name="others", tags=["mine"])
    [chain] = prefect_client.read_automations_by_name(LINKS[0].name)
    core = AutomationCore.model_validate(chain.model_dump(exclude={"id", "owner_resource"}))
    theirs = prefect_client.create_automation(core.model_copy(update={"name": "theirs", "tags": ["mine"]}))
    prefect_client.update_automation(chain.id, core.model_copy(update={"description": "Changed"}))
    try:
        changes = [
            "deployment score/local: updated description, tags",
            f"automation {LINKS[0].name}: updated",
        ]
        assert run(declare(), "local", dry_run=True) == changes
        assert run(declare(), "local") == changes
        mended = prefect_client.read_deployment_by_name("score/local")
        assert mended.description == DECLARED["score/local"].fields["description"]

        assert run(declare(shortened), "local") == []  # nothing is deleted unasked
        gone = [
            "schedule monthly-etl of etl/local: deleted",
            "schedule monthly-train of train/local: deleted",
            "deployment deploy/local: deleted",
            f"automation {LINKS[2].name}: deleted",
        ]
        assert sorted(run(declare(shortened), "local", prune=True, dry_run=True)) == sorted(gone)
        assert names(prefect_client) == LOCAL
        assert sorted(run(declare(shortened), "local", prune=True)) == sorted(gone)
        assert names(prefect_client) == LOCAL - {"deploy/local"}
        assert prefect_client.read_deployment(others).name == "others"
        assert prefect_client.read_automation(theirs) is not None
        assert run(declare(shortened), "local", prune=True) == []
    finally:
        prefect_client.delete_deployment(others)
        prefect_client.delete_automation(theirs)


def test_sync_says_what_is_wrong(prefect_client: SyncPrefectClient, declare: Declare) -> None:
    def elsewhere(content: dict[str, Any]) -> None:
        content["definitions"]["pools"]["taken"] = "process"
        for entry in content["deployments"]:
            entry["work_pool"]["name"] = "taken"

    with pytest.raises(SyncError, match=r"no deployment named lokal: it has docker, docker-gpu, local\."):
        run(declare(), "lokal")
    prefect_client.create_work_pool(WorkPoolCreate(name="taken", type="docker"))
    try:
        with pytest.raises(SyncError, match=r"'taken' is of type docker, not process: delete it"):
            run(declare(elsewhere), "local")
    finally:
        prefect_client.delete_work_pool("taken")
    assert names(prefect_client) == set()


@pytest.fixture
def stores(prefect_client: SyncPrefectClient, tmp_path: Path) -> DuckDBWarehouse:
    """Save blocks of the test's own on the server, and return the warehouse."""
    LocalLake(folder=str(tmp_path / "lake")).appoint()
    warehouse = DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))
    warehouse.appoint()
    return warehouse


def newest(client: SyncPrefectClient, name: str) -> FlowRun:
    deployment = client.read_deployment_by_name(name)
    runs = [found for found in client.read_flow_runs() if found.deployment_id == deployment.id]
    return max(runs, key=lambda found: found.created)  # type: ignore[arg-type, return-value]


def test_a_worker_runs_them(
    prefect_server: PrefectServer, prefect_client: SyncPrefectClient, stores: DuckDBWarehouse, tmp_path: Path
) -> None:
    def start(**parameters: Any) -> tuple[int, str]:
        given = f"parameters={json.dumps(parameters)}"
        watch = ("--watch", "--watch-timeout", "300")
        done = prefect_server.prefect("deployment", "run", "etl/local", "--param", given, *watch)
        return done.returncode, done.stdout

    prefect_server.prefect("work-pool", "create", "sentiment", "--type", "process", "--overwrite")
    deployed = prefect_server.prefect("--no-prompt", "deploy", "-n", "local")
    assert deployed.returncode == 0, deployed.stdout
    assert names(prefect_client) == LOCAL
    with prefect_server.worker("sentiment"):
        status, said = start(source="file", path=write(tmp_path, *GOOD), minimum_count=1)
        assert status == 0, said
        assert "finished successfully" in said
        [loaded] = stores.query("SELECT count(*) AS rows FROM {table}")
        assert loaded.item() == len(GOOD)

        status, said = start(source="file", path=str(tmp_path / "missing.csv"))
        assert status == 1, said
        state = newest(prefect_client, "etl/local").state
        assert state is not None and state.is_failed()
        assert f"SourceError: {tmp_path / 'missing.csv'}" in str(state.message)

    # what cannot be right is turned away before it is a run
    before = newest(prefect_client, "etl/local").id
    status, said = start(minimum_count="three")
    assert status == 1
    assert "minimum_count" in said
    assert newest(prefect_client, "etl/local").id == before
