"""The automations, fired on a real server: by their events, and by runs of a real worker."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event
from prefect.states import Completed, Failed, State

from blocks.lake import LocalLake
from blocks.process import LocalEndpoint
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from deployments.automations import COMPLETED, LINKS
from deployments.sync import SyncParameters, sync
from tasks import registry
from tasks.benchmark import PROMOTED
from tests.cloud.prefect_server import Declare, PrefectServer
from tests.policies import write_policy
from tests.tweets import tiny_tokenizer, tweets

pytestmark = pytest.mark.timeout(900)

PATIENCE = 300  # seconds that a chain of runs may take
QUIET = 4  # seconds in which nothing must happen
LENIENT: dict[str, Any] = {"minimum_rows": 20, "minimum_class_rows": 1, "ceilings": {}}


def started(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the flow runs that our automations have started."""
    ours = {link.name for link in LINKS}
    return [run for run in client.read_flow_runs() if run.created_by and run.created_by.display_value in ours]


def wait_for(condition: Callable[[], bool], timeout: float, said: Callable[[], object]) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, said()
        time.sleep(0.5)


@pytest.fixture
def cleared(prefect_client: SyncPrefectClient) -> Iterator[None]:
    """Leave no run to the workers of other tests."""
    yield
    for run in started(prefect_client):
        prefect_client.delete_flow_run(run.id)


def test_each_automation_fires_once(
    prefect_client: SyncPrefectClient, declare: Declare, cleared: None
) -> None:
    list(sync(SyncParameters(file=declare())))
    ids = {
        name: prefect_client.read_deployment_by_name(name).id
        for name in {part for link in LINKS for part in (link.run, link.after)}
    }

    def end(name: str, state: Any) -> None:
        run = prefect_client.create_flow_run_from_deployment(ids[name])
        prefect_client.set_flow_run_state(run.id, state, force=True)

    def promote(name: str) -> None:
        deployment = {
            "prefect.resource.id": f"prefect.deployment.{ids[name]}",
            "prefect.resource.role": "deployment",
        }
        resource = {"prefect.resource.id": "sentiment.model.tweets.7"}
        event = Event(event=PROMOTED, resource=resource, related=[deployment])  # type: ignore[arg-type, list-item]
        prefect_client.request("POST", "/events", json=[event.model_dump(mode="json")])

    for after in sorted({link.after for link in LINKS}):
        end(after, Failed(message="no good"))
    for link in LINKS:
        promote(link.after) if link.event == PROMOTED else end(link.after, Completed())

    def counts() -> Counter[tuple[str, str]]:
        names = {id: name for name, id in ids.items()}
        return Counter(
            (names[run.deployment_id], str(run.created_by and run.created_by.display_value))  # type: ignore[index]
            for run in started(prefect_client)
        )

    wanted = Counter((link.run, link.name) for link in LINKS)
    assert len(wanted) == len(LINKS)
    wait_for(lambda: counts() >= wanted, 60, counts)
    time.sleep(QUIET)
    assert counts() == wanted
    # what completes a benchmark promotes nothing by that
    assert {link.event for link in LINKS if link.after.startswith("benchmark/")} == {PROMOTED}
    assert {link.event for link in LINKS if not link.after.startswith("benchmark/")} == {COMPLETED}


def test_the_chain_runs_by_itself_and_the_main_job_does_not_start_it(
    prefect_server: PrefectServer,
    prefect_client: SyncPrefectClient,
    declare: Declare,
    cleared: None,
    tracking: LocalTracking,
    endpoint: LocalEndpoint,
    tmp_path: Path,
) -> None:
    path = tmp_path / "tweets.csv"
    rows = tweets(train=900, validation=0, test=0).unique("text", maintain_order=True)
    # "it's" gives the behavioural tests a contraction to expand.
    rows.select(pl.lit("it's ").add(pl.col("text")).alias("text"), "label").write_csv(path)
    labels = {"0": "neutral", "1": "negative", "2": "positive"}
    small: dict[str, dict[str, Any]] = {
        "etl": {"source": "file", "path": str(path), "label_mapping": labels},
        "train": {
            "labels": "human",
            "tokenizer": tiny_tokenizer(tmp_path / "words"),
            "epochs": 6,
            "learning_rate": 0.01,
        },
        "benchmark": {"policy": write_policy(tmp_path / "policy.toml", **LENIENT)},
    }
    small["pipeline"] = small["etl"] | small["train"] | small["benchmark"]

    def smaller(content: dict[str, Any]) -> None:
        for entry in content["deployments"]:
            flow = entry["entrypoint"].split(":")[1]
            if flow in small:
                entry["parameters"] = {"parameters": small[flow]}

    def run(name: str) -> None:
        deployment = prefect_client.read_deployment_by_name(name)
        asked = prefect_client.create_flow_run_from_deployment(deployment.id)
        wait_for(lambda: state(asked).is_final(), PATIENCE, lambda: state(asked))
        assert state(asked).is_completed(), state(asked)

    def state(run: FlowRun) -> State[Any]:
        found = prefect_client.read_flow_run(run.id).state
        assert found is not None
        return found

    def settled(**wanted: int) -> None:
        """Wait until that many runs of each flow have completed, and see that nothing follows."""

        def counts() -> Counter[str]:
            names = Counter[str]()
            for found in started(prefect_client):
                names[str(prefect_client.read_flow(found.flow_id).name)] += found.state_type == "COMPLETED"
            return names

        wait_for(
            lambda: counts() == Counter(wanted),
            PATIENCE,
            lambda: [(run.name, run.state, run.created_by) for run in started(prefect_client)],
        )
        time.sleep(QUIET)
        assert Counter(wanted) == counts()
        assert len(started(prefect_client)) == sum(wanted.values())

    LocalLake(folder=str(tmp_path / "lake")).appoint()
    DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb")).appoint()
    tracking.appoint()
    endpoint.appoint()
    list(sync(SyncParameters(file=declare(smaller), only=["local"])))
    with prefect_server.worker("sentiment"):
        run("etl/local")
        settled(train=1, benchmark=1, deploy=1)
        assert endpoint.predict(["love great"])[0]["label"] == "positive"

        # with unchanged rows the next training finds the same version, which is in production
        run("train/local")
        settled(train=1, benchmark=2, deploy=1)
        assert list(registry.versions(tracking)) == ["1"]

        # in an empty registry the main job trains and promotes, too, but by itself
        tracking.model_copy(update={"model": "another"}).appoint()
        run("pipeline/local")
        settled(train=1, benchmark=2, deploy=1)
        assert list(registry.versions(tracking.model_copy(update={"model": "another"}))) == ["1"]
        events = prefect_client.request(
            "POST", "/events/filter", json={"filter": {"event": {"name": [PROMOTED]}}}
        ).json()["events"]
        promoted = {event["resource"]["prefect.resource.id"] for event in events}
        assert {f"sentiment.model.{tracking.model}.1", "sentiment.model.another.1"} <= promoted
