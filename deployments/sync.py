"""Bring a Prefect server in line with this repository: `python -m deployments.sync`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type
from pydantic import BaseModel, ConfigDict, Field

from blocks.role import ROOT
from deployments.automations import LINKS
from deployments.declaration import FILE, TAG, Declaration, Deployment
from flows import cli

THEIRS = "kept-"
"""First letters of the slugs that schedules get which were added by hand."""


class SyncError(RuntimeError):
    """Raised when a server cannot be brought in line; says why."""


class SyncParameters(BaseModel):
    """Create and update work pools, deployments and automations; what people paused stays paused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    only: list[str] = Field(default=[], description="Names of deployments, such as local; all by default.")
    prune: bool = Field(default=False, description="Delete what the repository declared once, and no longer.")
    dry_run: bool = Field(default=False, description="Say what would change, and change nothing.")
    file: str = Field(default=FILE, description="The declaration.")


class Sync:
    """A server, and what should be there.

    Its methods yield a line for each change, which is made before the line is given.

    Args:
        client: Of the server.
        parameters: What to do.
    """

    def __init__(self, client: SyncPrefectClient, parameters: SyncParameters) -> None:
        self.client, self.dry_run, self.prunes = client, parameters.dry_run, parameters.prune
        self.declared = Declaration.read(parameters.file)
        names = {deployment.config["name"] for deployment in self.declared.deployments}
        if unknown := set(parameters.only) - names:
            raise SyncError(
                f"{parameters.file} declares no deployment named {' or '.join(sorted(unknown))}: it has "
                f"{', '.join(sorted(names))}."
            )
        chosen = set(parameters.only) or names
        self.chosen = [entry for entry in self.declared.deployments if entry.config["name"] in chosen]

    def run(self) -> Iterator[str]:
        """Bring the server in line."""
        yield from self.pools()
        yield from self.deployments()
        yield from self.automations()
        if self.prunes:
            yield from self.prune()

    def pools(self) -> Iterator[str]:
        """Create the work pools that are missing; what was set in one of them by hand is left as it is.

        Raises:
            SyncError: A pool is of another type.
        """
        for name in sorted({entry.fields["work_pool_name"] for entry in self.chosen}):
            kind = self.declared.pools[name]
            try:
                found = self.client.read_work_pool(name)
            except ObjectNotFound:
                if not self.dry_run:
                    template = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
                    self.client.create_work_pool(
                        WorkPoolCreate(name=name, type=kind, base_job_template=template or {})
                    )
                yield f"work pool {name}: created, of type {kind}"
            else:
                if found.type != kind:
                    raise SyncError(
                        f"The work pool {name!r} is of type {found.type}, not {kind}: delete it with "
                        f"`prefect work-pool delete {name}`, or name another one in {FILE}."
                    )

    def deployments(self) -> Iterator[str]:
        """Create and update the deployments by `prefect deploy`.

        Raises:
            SyncError: `prefect deploy` fails.
        """
        found = {entry.name: self.deployment(entry.name) for entry in self.chosen}
        if not self.dry_run:
            for deployment in filter(None, found.values()):
                self._keep_schedules(deployment)
            self._deploy([entry.keeping(found[entry.name]) for entry in self.chosen])
        for entry in self.chosen:
            before = found[entry.name]
            if before is None:
                yield f"deployment {entry.name}: created"
            elif different := entry.differences(before):
                yield f"deployment {entry.name}: updated {', '.join(different)}"

    def deployment(self, name: str) -> DeploymentResponse | None:
        """Return the server's deployment of a name, if there is one."""
        try:
            return self.client.read_deployment_by_name(name)
        except ObjectNotFound:
            return None

    def _keep_schedules(self, deployment: DeploymentResponse) -> None:
        """Name the schedules that were added by hand: Prefect drops those without a slug on deployment."""
        for schedule in deployment.schedules:
            if schedule.slug is None:
                slug = f"{THEIRS}{schedule.id}"
                self.client.update_deployment_schedule(deployment.id, schedule.id, slug=slug)

    def _deploy(self, configs: list[dict[str, object]]) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder) / FILE
            file.write_text(yaml.safe_dump({"deployments": configs}))
            command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
            done = subprocess.run(
                [*command, "--prefect-file", str(file)],
                cwd=ROOT,
                env=os.environ | get_current_settings().to_environment_variables(exclude_unset=True),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        if done.returncode != 0:
            raise SyncError(f"`prefect deploy` fails:\n{done.stdout[-3000:]}")

    def automations(self) -> Iterator[str]:
        """Create and update the automations between deployments that are there; a pause is kept."""
        present = {automation.name: automation for automation in self._automations()}
        ids = self._ids()
        for link in LINKS:
            if not {link.run, link.after} <= ids.keys():
                continue
            wanted, found = link.automation(ids), present.get(link.name)
            if found is None:
                if not self.dry_run:
                    self.client.create_automation(wanted)
                yield f"automation {link.name}: created"
                continue
            wanted = wanted.model_copy(update={"enabled": found.enabled})
            if wanted.model_dump() != found.model_dump(exclude={"id"}):
                if not self.dry_run:
                    self.client.update_automation(found.id, wanted)
                yield f"automation {link.name}: updated"

    def _automations(self) -> list[Automation]:
        return [found for found in self.client.read_automations() if TAG in found.tags]

    def _ids(self) -> Mapping[str, UUID]:
        """Return the ids of the declared deployments that are there, or would be if this were no dry run."""
        ids = {}
        for entry in self.declared.deployments:
            found = self.deployment(entry.name)
            if found is not None:
                ids[entry.name] = found.id
            elif self.dry_run and entry in self.chosen:
                ids[entry.name] = UUID(int=0)
        return ids

    def prune(self) -> Iterator[str]:
        """Delete the repository's deployments, schedules and automations that are not declared any longer."""
        declared = {entry.name: entry for entry in self.declared.deployments}
        mine = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
        for found in self.client.read_deployments(deployment_filter=mine):
            name = f"{self.client.read_flow(found.flow_id).name}/{found.name}"
            if name in declared:
                yield from self._prune_schedules(declared[name], found)
                continue
            if not self.dry_run:
                self.client.delete_deployment(found.id)
            yield f"deployment {name}: deleted"
        names = {link.name for link in LINKS if {link.run, link.after} <= declared.keys()}
        for automation in self._automations():
            if automation.name not in names:
                if not self.dry_run:
                    self.client.delete_automation(automation.id)
                yield f"automation {automation.name}: deleted"

    def _prune_schedules(self, entry: Deployment, found: DeploymentResponse) -> Iterator[str]:
        for schedule in found.schedules:
            slug = schedule.slug
            if slug is not None and slug not in entry.schedules and not slug.startswith(THEIRS):
                if not self.dry_run:
                    self.client.delete_deployment_schedule(found.id, schedule.id)
                yield f"schedule {slug} of {entry.name}: deleted"


def sync(parameters: SyncParameters) -> Iterator[str]:
    """Bring the server of PREFECT_API_URL in line, and yield a line for each change.

    Raises:
        SyncError: It cannot be done.
    """
    with get_client(sync_client=True) as client:
        yield from Sync(client, parameters).run()


def main() -> None:
    """Run from the command line."""
    parameters = cli.parse(SyncParameters, "python -m deployments.sync")
    cli.prepare()
    lines = 0
    try:
        for lines, line in enumerate(sync(parameters), 1):  # noqa: B007
            print(line, flush=True)
    except SyncError as error:
        sys.exit(str(error))
    except httpx.TransportError as error:
        sys.exit(
            f"No Prefect API answers at {get_current_settings().api.url}: {error}. Start the server, or set "
            "PREFECT_API_URL to another one's address."
        )
    if not lines:
        print("nothing to change")


if __name__ == "__main__":
    main()
