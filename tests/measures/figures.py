"""Figures: the rounds of a measurement, with a goal if there is one, as a table and as JSON."""

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

PACKAGES = ("tensorflow", "keras", "tokenizers", "onnxruntime", "numpy", "mlflow", "uvicorn")


@dataclass(frozen=True)
class Size:
    """How much is measured; a round is short, so that what is compared is measured side by side.

    Args:
        rounds: Repetitions of everything.
        rows: Tweets to train on.
        steps: Of training, measured in a round: reference, `stacked`, `pooled`.
        batches: Tweets in a step of each.
        padded: Wordpieces to which the reference pads.
        side: Rows and columns of the matrices that give the machine's peak.
        tokenised: Tweets to tokenise.
        held: Rows whose memory is measured on the way from the warehouse into training: few and many.
        seconds: For each server in a round.
        mlflow: Whether MLflow's server is measured, which takes long to start.
    """

    rounds: int = 3
    rows: int = 40_000
    steps: tuple[int, int, int] = (2, 6, 24)
    batches: tuple[int, int, int] = (128, 256, 64)
    padded: int = 512
    side: int = 2048
    tokenised: int = 100_000
    held: tuple[int, int] = (200_000, 400_000)
    seconds: float = 0.6
    mlflow: bool = False


QUICK = Size()
FULL = Size(rounds=7, steps=(3, 12, 48), held=(100_000, 1_000_000), seconds=2, mlflow=True)
SMOKE = Size(
    rounds=1,
    rows=200,
    steps=(1, 1, 1),
    batches=(4, 4, 4),
    padded=48,
    side=64,
    tokenised=20_000,
    held=(10_000, 40_000),
    seconds=0.02,
    mlflow=True,
)


@dataclass(frozen=True)
class Figure:
    """What was measured, once a round.

    Args:
        part: What it is a figure of.
        name: What it says.
        unit: Of the values; × for a ratio.
        rounds: The values.
        least: Goal: at least this.
        most: Goal: at most this.
    """

    part: str
    name: str
    unit: str
    rounds: Sequence[float]
    least: float | None = None
    most: float | None = None

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if self.least is not None:
            return bool(self.median >= self.least)
        return None if self.most is None else bool(self.median <= self.most)

    def record(self) -> dict[str, Any]:
        """Return all there is to say, for JSON."""
        goal = {"least": self.least, "most": self.most}
        return {
            "part": self.part,
            "name": self.name,
            "unit": self.unit,
            "median": float(self.median),
            "rounds": list(map(float, self.rounds)),
            "goal": {word: value for word, value in goal.items() if value is not None} or None,
            "met": self.met,
        }


@dataclass
class Rounds:
    """Collects the values of a part's figures round by round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Add a value to those of a name."""
        self.values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        return self.values[name]

    def ratio(self, over: str, under: str) -> list[float]:
        """Return the ratios within each round: a load that comes and goes bears on both alike."""
        return [a / b for a, b in zip(self.values[over], self.values[under], strict=True)]


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


def repeated(action: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Return the seconds of each of many calls, which take about so long together."""
    found: list[float] = []
    while len(found) < least or sum(found) < seconds:
        found.append(timed(action))
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def shown(value: float) -> str:
    """Return a number with three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as a text for a person."""
    rows = [("", "median", "", "of rounds", "goal", "")]
    part = None
    for figure in figures:
        if figure.part != part:
            part = figure.part
            rows.append((part, "", "", "", "", ""))
        between = f"{shown(min(figure.rounds))} to {shown(max(figure.rounds))}"
        goal = "" if figure.least is None else f"≥ {shown(figure.least)}"
        goal = goal if figure.most is None else f"≤ {shown(figure.most)}"
        met = {None: "", True: "met", False: "not met"}[figure.met]
        rows.append((f"  {figure.name}", shown(figure.median), figure.unit, between, goal, met))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}} {row[2]:{widths[2]}}  {row[3]:>{widths[3]}}"
        f"  {row[4]:>{widths[4]}}  {row[5]}".rstrip()
        for row in rows
    )
