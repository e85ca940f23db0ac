"""The documentation names all there is, and nothing that is not."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from flows.deploy import DeployParameters
from flows.score import ScoreParameters
from flows.summary import schema
from tasks.benchmark import BenchmarkParameters
from tasks.etl import EtlParameters
from tasks.training import TrainParameters

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARAMETERS = [
    ("etl", EtlParameters),
    ("train", TrainParameters),
    ("benchmark", BenchmarkParameters),
    ("deploy", DeployParameters),
    ("deploy", ScoreParameters),
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
    assert {deployment["entrypoint"] for deployment in declared} == {f"flows/{f}.py:{f}" for f in flows}
    readme = (ROOT / "README.md").read_text()
    assert all(f"`flows.{flow}`" in readme for flow in flows)


def test_schedules_are_monthly_off_and_have_a_time_zone() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    schedules = {d["entrypoint"]: d["schedules"] for d in declared if "schedules" in d}
    assert schedules.keys() == {"flows/etl.py:etl", "flows/train.py:train"}
    for (schedule,) in schedules.values():
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
