"""How fast the model is, beside what it is measured against: `make bench`, or `python -m tests.bench`.

Measures training against the Airflow project's graph, tokenising, serving inside the process against Keras,
TensorFlow and (`--full`) MLflow's server, and serving over HTTP. Networks have the real size and random
weights, tweets are made up. All is measured in the same run, round after round, and ratios are taken within
a round. Prints a table and writes `.local/bench.json`; docs/speed.md tells how to read it. A goal that is
missed is no failure: the machine may be busy.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from tests.measures import endpoint, gpu, serving, tokenising, training
from tests.measures.figures import FULL, QUICK, SMOKE, Figure, machine, table

SIZES = {"quick": QUICK, "full": FULL, "smoke": SMOKE}
RESULT = Path(".local/bench.json")


PARTS = {
    "training": training,
    "gpu": gpu,
    "tokenising": tokenising,
    "serving": serving,
    "endpoint": endpoint,
}
"""What is measured, in this order."""


def bench(name: str, out: Path, only: str | None = None, image: str | None = None) -> list[Figure]:
    """Measure all, print the table and write the file.

    Args:
        name: Of a size: `quick`, `full` or `smoke`.
        out: The file; its folder is made if need be.
        only: One of `PARTS`; None for all.
        image: See `tests.measures.endpoint.measure`.
    """
    size = SIZES[name]
    about, start = machine(), datetime.now(UTC)
    figures, loads = [], {"start": os.getloadavg()}
    place = f"{about['cores']} cores, {about['cpu']}"
    print(f"{place}, {size.rounds} rounds, {_load(loads['start'])}", flush=True)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts = [module for part, module in PARTS.items() if only in (part, None)]
        if served := [module for module in parts if module in (serving, endpoint)]:
            _apart("networks with random weights", serving.write_bundles, folder)
        for module in parts:
            needed: dict[str, Any] = {"folder": folder} if module in served else {}
            if module is endpoint:
                needed["image"] = image
            figures += _apart(module.PART, module.measure, size, **needed)
            loads[module.PART] = os.getloadavg()
    print(f"\n{table(figures)}\n\nat the end: {_load(os.getloadavg())}")
    record = {
        "size": name,
        "started_at": start.isoformat(timespec="seconds"),
        "machine": about,
        "image": image,
        "load": loads,
        "figures": [figure.record() for figure in figures],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(f"All rounds are in {out}.")
    return figures


def _load(averages: Sequence[float]) -> str:
    return "load " + ", ".join(f"{average:.1f}" for average in averages)


def _apart(name: str, measure: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a function returns in a process of its own: TensorFlow's threads are set once a process."""
    start = perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(measure, *arguments, **named).result()
    print(f"{name}: {perf_counter() - start:.0f} s, {_load(os.getloadavg())}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit status."""
    parser = argparse.ArgumentParser("python -m tests.bench", description="Measure how fast the model is.")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--full", dest="size", action="store_const", const="full", help="more and longer rounds, and MLflow"
    )
    sizes.add_argument("--smoke", dest="size", action="store_const", const="smoke", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=PARTS, help="measure this part alone")
    parser.add_argument(
        "--image", help="serve over HTTP from this image, by a Docker engine on this machine (Linux)"
    )
    parser.add_argument("--out", type=Path, default=RESULT, help="file to write (%(default)s)")
    options = parser.parse_args(arguments)
    if options.image:
        from docker.errors import DockerException

        if options.only not in (None, "endpoint"):
            parser.error("--image is of --only endpoint: give both, or no --only")
        try:
            endpoint.find(options.image)
        except DockerException as error:
            parser.error(f"--image {options.image}: {error}")
    from flows.cli import quiet  # not above, where each part's process would import Prefect, too

    quiet()
    bench(options.size or "quick", options.out, options.only, options.image)
    return 0


if __name__ == "__main__":
    sys.exit(main())
