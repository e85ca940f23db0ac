"""Reigns: who was in production when, why, and what came after, as the tags of the history tell it."""

import getpass
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field

from tasks.report import table

By = Literal["benchmark", "rollback", "hand"]

PREFIX = "reign."
VERSION, BY, WHY = "reign.version", "reign.by", "reign.why"
SINCE, RUN, WHO = "reign.since", "reign.run", "reign.who"
OVER = "reign.over"
"""Version that was in production before; empty if none was."""
AFTER = "reign.after"
"""Number of the entry that was the last one when this one was written, 0 if none was."""
SETTLED = "reign.settled"
"""On an entry that alias and tags of the versions have been brought in line with."""

COLUMNS = ("version", "from", "until", "by", "why", "who", "MLflow run", "replaced by")


class Reign(BaseModel):
    """A time that a version was in production."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(description="Number of the entry; 0 for one that is not on record.")
    version: str = Field(description="Version of the registered model.")
    since: datetime | None = Field(description="From when on, UTC; None if that is not on record.")
    until: datetime | None = Field(description="Until when, UTC; None if it goes on, or is not on record.")
    by: By = Field(description="What put it there: a verdict, a rollback, or a person in MLflow.")
    why: str = Field(description="The verdict's reasons, or a person's.")
    who: str | None = Field(description="Flow run, or user, that put it there.")
    run: str | None = Field(description="MLflow run that holds the evidence, if it was judged.")
    replaced_by: str | None = Field(description="Version that came after, if any.")

    def row(self) -> tuple[str, ...]:
        """Return the cells under COLUMNS."""
        times = [time.strftime("%Y-%m-%d %H:%M:%S") if time else "" for time in (self.since, self.until)]
        return self.version, *times, self.by, self.why, self.who or "", self.run or "", self.replaced_by or ""


def standing(entries: Mapping[int, Mapping[str, str]]) -> list[int]:
    """Return the numbers of the entries that count, in order: of those after the same one, the first.

    Two runs that promote at once both append an entry. The registry numbers them, so there is one that came
    first, and whoever reads them finds the same one. An entry that somebody has deleted leaves a gap.

    Args:
        entries: Tags of each entry by its number.
    """
    kept: list[int] = []
    for number in sorted(entries):
        if int(entries[number][AFTER]) >= (kept[-1] if kept else 0):
            kept.append(number)
    return kept


def reigns(entries: Mapping[int, Mapping[str, str]], serving: str | None) -> tuple[Reign, ...]:
    """Return all reigns in order; what was done by hand shows by what the entries do not explain.

    Args:
        entries: Tags of each entry by its number.
        serving: Version in production, if any.
    """
    found: list[Reign] = []

    def add(reign: Reign) -> None:
        if found:
            ended = {"until": reign.since, "replaced_by": reign.version}
            found[-1] = found[-1].model_copy(update=ended)
        found.append(reign)

    def unexplained(version: str | None) -> bool:
        return bool(version) and (not found or found[-1].version != version)

    for number in standing(entries):
        tags = entries[number]
        if unexplained(tags[OVER]):
            add(_by_hand(tags[OVER]))
        add(_on_record(number, tags))
    if serving is not None and unexplained(serving):
        add(_by_hand(serving))
    return tuple(found)


def previous(history: Sequence[Reign], there: Collection[str]) -> str | None:
    """Return the version to go back to: the one before, which is not one that was gone back from.

    A promotion puts a version on a stack. A rollback takes off all above the version that it goes back to,
    or puts one that never was in production in the place of the one on top.

    Args:
        history: Reigns in order.
        there: Versions that the registry still has.
    """
    stack: list[str] = []
    for reign in history:
        if reign.by == "rollback":
            below = stack[:-1]
            while below and below[-1] != reign.version:
                below.pop()
            stack = below or [*stack[:-1], reign.version]
        else:
            stack.append(reign.version)
    return next((version for version in reversed(stack[:-1]) if version in there), None)


def page(history: Sequence[Reign]) -> str:
    """Return the history as Markdown, for the pages of runs."""
    return f"## Who was in production when\n\n{table(COLUMNS, [reign.row() for reign in history])}"


def now() -> str:
    """Return the time as the tags have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def signature() -> dict[str, str]:
    """Return the tags that tell when, and which flow run or user, writes an entry."""
    run = f"{flow_run.get_flow_name()} {flow_run.get_name()} ({flow_run.get_id()})"
    return {SINCE: now(), WHO: run if flow_run.get_id() else getpass.getuser()}


def _on_record(number: int, tags: Mapping[str, str]) -> Reign:
    names = {"version": VERSION, "since": SINCE, "by": BY, "why": WHY, "who": WHO, "run": RUN}
    values = {name: tags.get(key) for name, key in names.items()}
    return Reign.model_validate({**values, "number": number, "until": None, "replaced_by": None})


def _by_hand(version: str) -> Reign:
    return Reign(
        number=0,
        version=version,
        since=None,
        until=None,
        by="hand",
        why="Put there by hand in MLflow, or before there was a history.",
        who=None,
        run=None,
        replaced_by=None,
    )
