"""The declaration: what prefect.yaml says that a server should hold."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import yaml
from prefect import Flow
from prefect.client.schemas.responses import DeploymentResponse
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ConfigDict, Field

from blocks.role import ROOT

FILE = "prefect.yaml"
TAG = "sentiment-flows"
"""Mark of the deployments and automations that are this repository's."""

Fields = dict[str, Any]


class Deployment(BaseModel):
    """A deployment as declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Flow and deployment, such as etl/local.")
    config: Fields = Field(description="Entry in prefect.yaml, for `prefect deploy`.")
    fields: Fields = Field(
        description="What `prefect deploy` makes of it, by name of the field; not the version, it is git's."
    )

    @classmethod
    def of(cls, config: Fields) -> Self:
        """Return the deployment that an entry of prefect.yaml declares."""
        flow = _flow(config["entrypoint"])
        here = {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
        pool = config["work_pool"]
        fields = {
            "description": config.get("description") or flow.description,
            "entrypoint": config["entrypoint"],
            "job_variables": pool.get("job_variables", {}),
            "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
            "parameters": config.get("parameters", {}),
            "pull_steps": config.get("pull", [here]),
            "schedules": {s["slug"]: (s["cron"], s["timezone"]) for s in config.get("schedules", [])},
            "tags": sorted(config.get("tags", [])),
            "work_pool_name": pool["name"],
            "work_queue_name": pool.get("work_queue_name", "default"),
        }
        return cls(name=f"{flow.name}/{config['name']}", config=config, fields=fields)

    def differences(self, found: DeploymentResponse) -> list[str]:
        """Return the names of the fields in which a server's deployment differs from this one."""
        stored = found.model_dump(include=set(self.fields), warnings=False)
        stored["tags"] = sorted(found.tags)
        stored["schedules"] = {
            s.slug: _times(s.schedule) for s in found.schedules if s.slug in self.schedules
        }
        return [name for name, value in self.fields.items() if not _matches(value, stored[name])]

    @property
    def schedules(self) -> Mapping[str, Any]:
        """The schedules by slug."""
        schedules: Mapping[str, Any] = self.fields["schedules"]
        return schedules

    def keeping(self, found: DeploymentResponse | None) -> Fields:
        """Return the entry for `prefect deploy` with what people have paused or turned on since.

        Prefect sets both back to what the file says.
        """
        if found is None:
            return self.config
        active = {schedule.slug: {"active": schedule.active} for schedule in found.schedules}
        schedules = [
            schedule | active.get(schedule["slug"], {}) for schedule in self.config.get("schedules", [])
        ]
        return self.config | {"paused": found.paused, "schedules": schedules}


class Declaration(BaseModel):
    """All that prefect.yaml declares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pools: dict[str, str] = Field(description="Type of each work pool.")
    deployments: tuple[Deployment, ...] = Field(description="All deployments, in order.")

    @classmethod
    def read(cls, path: str | Path = FILE) -> Self:
        """Return what a file declares.

        Args:
            path: Absolute, or relative to the root of the repository.
        """
        content = yaml.safe_load((ROOT / path).read_text())
        deployments = tuple(map(Deployment.of, content["deployments"]))
        return cls(pools=content["definitions"]["pools"], deployments=deployments)


@cache  # each load runs the file anew, and lengthens sys.path
def _flow(entrypoint: str) -> Flow[..., Any]:
    path, function = entrypoint.split(":")
    return load_flow_from_entrypoint(f"{ROOT / path}:{function}")


def _times(schedule: Any) -> tuple[str | None, str | None]:
    return getattr(schedule, "cron", None), getattr(schedule, "timezone", None)


def _matches(declared: Any, stored: Any) -> bool:
    """Compare values; what a template will be is known only once it is built."""
    if isinstance(declared, str) and "{{" in declared:
        return True
    if isinstance(declared, dict) and isinstance(stored, dict):
        return declared.keys() == stored.keys() and all(_matches(declared[k], stored[k]) for k in declared)
    return bool(declared == stored)
