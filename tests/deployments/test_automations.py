"""The automations' links."""

from graphlib import TopologicalSorter
from uuid import UUID, uuid4

from deployments.automations import LINKS
from deployments.declaration import TAG, Declaration

NAMES = {entry.name for entry in Declaration.read().deployments}


def test_links_join_what_is_declared_and_make_no_circle() -> None:
    assert {link.run for link in LINKS} | {link.after for link in LINKS} <= NAMES
    assert len({link.name for link in LINKS}) == len(LINKS)
    graph: dict[str, set[str]] = {}
    for link in LINKS:
        graph.setdefault(link.run, set()).add(link.after)
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("etl/local") < order.index("deploy/local")
    for link in LINKS:  # a container's run starts containers, a process's run processes
        assert link.run.split("/")[1] == link.after.split("/")[1].removesuffix("-gpu")


def test_an_automation_listens_to_one_deployment_and_runs_another() -> None:
    ids: dict[str, UUID] = {name: uuid4() for name in NAMES}
    for link in LINKS:
        made = link.automation(ids)
        assert made.enabled and made.tags == [TAG] and made.name == link.name
        related = made.trigger.match_related  # type: ignore[union-attr]
        assert related.root["prefect.resource.id"] == f"prefect.deployment.{ids[link.after]}"  # type: ignore[union-attr]
        assert related.root["prefect.resource.role"] == "deployment"  # type: ignore[union-attr]
        [action] = made.actions
        assert action.deployment_id == ids[link.run]  # type: ignore[union-attr]
        assert action.parameters is None  # type: ignore[union-attr]
