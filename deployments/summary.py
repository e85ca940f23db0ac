"""What became of a flow run, in Markdown: `python -m deployments.summary NAME`."""

import json
import sys
from collections.abc import Iterator

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterTags,
    Operator,
)
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.utilities.urls import url_for


def summary(name: str) -> str:
    """Return the state of the flow run of a name, the reason if it is not completed, and its artifacts.

    Args:
        name: Name of the flow run, or its tag; the workflows give each run one of its own.
    """
    called = FlowRunFilter(name=FlowRunFilterName(any_=[name]), tags=FlowRunFilterTags(all_=[name]))
    called.operator = Operator.or_
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=called)
        if not runs:
            return (
                f"There is no flow run `{name}`: it could not be created, see the log of the step before.\n"
            )
        return "\n\n".join(part for run in runs for part in _parts(client, run)) + "\n"


def _parts(client: SyncPrefectClient, run: FlowRun) -> Iterator[str]:
    assert run.state is not None
    yield f"## {run.state.name}: [{run.name}]({url_for(run) or '#'})"
    if not run.state.is_final():
        yield "Nobody waits for it any longer, but it goes on: follow it in the Prefect UI."
    elif not run.state.is_completed():
        yield f"```\n{run.state.message}\n```"
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    for artifact in client.read_artifacts(artifact_filter=mine):
        yield from _shown(artifact)


def _shown(artifact: Artifact) -> Iterator[str]:
    if artifact.type == "markdown":
        yield str(artifact.data)
    elif artifact.type == "table":
        rows = json.loads(str(artifact.data))
        head = list(rows[0])
        lines = [head, ["---"] * len(head), *([str(row[column]) for column in head] for row in rows)]
        yield f"{artifact.description}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(summary(sys.argv[1]), end="")
