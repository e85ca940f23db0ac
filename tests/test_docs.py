"""The documentation names all there is, and nothing that is not."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from deployments.automations import COMPLETED, LINKS
from deployments.declaration import Declaration
from deployments.sync import SyncParameters
from flows.deploy import DeployParameters
from flows.score import ScoreParameters
from flows.summary import schema
from tasks.benchmark import PROMOTED, BenchmarkParameters
from tasks.curve import CurveParameters
from tasks.etl import EtlParameters
from tasks.rollback import RollbackParameters
from tasks.search import SearchParameters
from tasks.teardown import TeardownParameters
from tasks.training import TrainParameters
from tasks.transform import TransformParameters

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARAMETERS = [
    ("etl", EtlParameters),
    ("train", TrainParameters),
    ("search", SearchParameters),
    ("curve", CurveParameters),
    ("benchmark", BenchmarkParameters),
    ("deploy", DeployParameters),
    ("deploy", ScoreParameters),
    ("rollback", RollbackParameters),
    ("deploy", TeardownParameters),
    ("transform", TransformParameters),
]


@pytest.mark.parametrize(("page", "model"), PARAMETERS, ids=lambda value: getattr(value, "__name__", value))
def test_every_parameter_is_documented_with_its_default(page: str, model: type[BaseModel]) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    for name, field in model.model_fields.items():
        assert name in rows, f"docs/{page}.md does not name {name}"
        default = field.default
        if isinstance(default, int | float) and not isinstance(default, bool):
            shown = re.split(r" \| ", rows[name])[0]
            assert float(shown) == default, f"docs/{page}.md: {name} defaults to {default}"
        if isinstance(default, str) and default:
            assert f"`{default}`" in rows[name]


def test_every_parameter_has_a_description() -> None:
    for _, model in PARAMETERS:
        assert all(field.description for field in model.model_fields.values())


def test_every_flow_is_deployed_and_in_the_readme() -> None:
    flows = {path.stem for path in (ROOT / "flows").glob("*.py") if "@flow" in path.read_text()}
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    for place in ("local", "docker"):
        deployed = {entry["entrypoint"] for entry in declared if entry["name"] == place}
        assert deployed == {f"flows/{flow}.py:{flow}" for flow in flows}
    readme = (ROOT / "README.md").read_text()
    assert all(f"`flows.{flow}`" in readme for flow in flows)


def test_every_deployment_pool_automation_and_flag_is_documented() -> None:
    text = (ROOT / "docs" / "deployments.md").read_text()
    declaration = Declaration.read()
    names = {entry.name for entry in declaration.deployments}
    table = text[: text.index("## Deploying")]
    assert set(re.findall(r"`([a-z]+/[a-z-]+)`", table)) == names
    monthly = {entry.name for entry in declaration.deployments if entry.schedules}
    assert set(re.findall(r"`([a-z]+/[a-z-]+)`, monthly", table)) == monthly
    links = re.findall(r"^\| `(\S+)` \| a run of `(\S+)` has (completed|promoted)", text, re.MULTILINE)
    events = {COMPLETED: "completed", PROMOTED: "promoted"}
    assert links == [(link.run, link.after, events[link.event]) for link in LINKS]
    pools = dict(re.findall(r"^\| `(\S+)` \| `(process|docker)` \|", text, re.MULTILINE))
    assert pools == declaration.pools
    flags = set(re.findall(r"^\| `--([a-z-]+)", text, re.MULTILINE))
    assert flags == {name.replace("_", "-") for name in SyncParameters.model_fields}


def test_schedules_are_monthly_off_and_have_a_time_zone() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    schedules = [(d["entrypoint"], schedule) for d in declared for schedule in d.get("schedules", [])]
    assert {entrypoint for entrypoint, _ in schedules} == {"flows/etl.py:etl", "flows/train.py:train"}
    for _, schedule in schedules:
        assert re.fullmatch(r"\d+ \d+ 1 \* \*", schedule["cron"])
        assert schedule["timezone"]
        assert schedule["slug"]
        assert schedule["active"] is False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_schema_of_the_run_file_is_up_to_date() -> None:
    stored = json.loads((ROOT / "docs" / "run.schema.json").read_text())
    assert stored == schema(), "write docs/run.schema.json anew from flows.summary.schema()"
