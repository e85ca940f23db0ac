"""The declaration, against Prefect's own reading of it."""

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

from deployments.declaration import FILE, ROOT, TAG, Declaration

DECLARED = {entry.name: entry for entry in Declaration.read().deployments}


def stored(name: str, **changes: Any) -> DeploymentResponse:
    """Return what a server answers for a deployment, with changes."""
    fields = dict(DECLARED[name].fields)
    schedules = [
        DeploymentSchedule(slug=slug, schedule=CronSchedule(cron=cron, timezone=zone), active=True)
        for slug, (cron, zone) in fields.pop("schedules").items()
    ]
    values = fields | {"name": name, "flow_id": uuid4(), "schedules": schedules, "paused": False} | changes
    return DeploymentResponse.model_validate(values)


def test_prefect_reads_every_entry() -> None:
    content = yaml.safe_load((ROOT / FILE).read_text())
    read = PrefectYamlModel.model_validate(content).deployments
    assert [(entry.entrypoint, entry.name) for entry in read] == [
        (entry.config["entrypoint"], entry.config["name"]) for entry in DECLARED.values()
    ]
    pools = Declaration.read().pools
    for entry in read:
        assert entry.tags == [TAG]
        assert entry.work_pool is not None
        assert entry.work_pool.name in pools


@pytest.mark.parametrize("name", DECLARED)
def test_default_parameters_are_those_of_the_flow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # Prefect lengthens it, and each import looks through it
    entry = DECLARED[name]
    flow = load_flow_from_entrypoint(str(ROOT / entry.config["entrypoint"]))
    if entry.fields["parameters"]:
        flow.validate_parameters(entry.fields["parameters"])
    if name.endswith("-gpu"):
        assert entry.fields["parameters"] == {"parameters": {"require_gpu": True}}
        request = entry.fields["job_variables"]["container_create_kwargs"]["device_requests"]
        assert request == [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}]


def test_what_was_deployed_does_not_differ() -> None:
    for name, entry in DECLARED.items():
        assert entry.differences(stored(name)) == []
    built = DECLARED["train/docker"].fields["job_variables"] | {"image": "sentiment-train:latest"}
    assert DECLARED["train/docker"].differences(stored("train/docker", job_variables=built)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "Another"),
        ("entrypoint", "flows/train.py:other"),
        ("job_variables", {"image": "sentiment-train:latest"}),
        ("parameter_openapi_schema", {"type": "object"}),
        ("parameters", {"parameters": {"epochs": 1}}),
        ("pull_steps", []),
        ("schedules", []),
        ("tags", [TAG, "more"]),
        ("work_pool_name", "another"),
        ("work_queue_name", "another"),
    ],
)
def test_each_field_that_differs_is_named(field: str, value: Any) -> None:
    assert field in DECLARED["train/docker"].fields
    assert DECLARED["train/docker"].differences(stored("train/docker", **{field: value})) == [field]


def test_a_schedule_with_other_times_differs_and_one_added_by_hand_does_not() -> None:
    daily = CronSchedule(cron="0 9 * * *", timezone="Etc/UTC")
    moved = DeploymentSchedule(slug="monthly-etl", schedule=daily)
    assert DECLARED["etl/local"].differences(stored("etl/local", schedules=[moved])) == ["schedules"]
    kept = stored("etl/local").schedules
    added = DeploymentSchedule(schedule=daily)
    assert DECLARED["etl/local"].differences(stored("etl/local", schedules=[*kept, added])) == []


def test_what_people_have_set_goes_to_prefect_deploy() -> None:
    entry = DECLARED["etl/local"]
    assert entry.keeping(None) == entry.config
    assert entry.config["schedules"][0]["active"] is False
    kept = entry.keeping(stored("etl/local", paused=True))
    assert kept["paused"] is True
    assert kept["schedules"] == [entry.config["schedules"][0] | {"active": True}]
    assert entry.keeping(stored("etl/local", schedules=[]))["schedules"] == entry.config["schedules"]


def test_another_file_may_declare(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / FILE).read_text())
    content["deployments"] = content["deployments"][:1]
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(content))
    assert [entry.name for entry in Declaration.read(path).deployments] == ["pipeline/local"]
