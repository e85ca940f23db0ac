"""How long the parts take that a person waits for: `python -m tests.speed`.

Measures the full benchmark: two networks of the real size, with random weights, on 10,000 made-up tweets and
all behavioural tests. Beside it, in the same run: what it takes to ask for one text at a time, measured on a
part, and for every text as often as it comes. Prints each run, with the time of all cores beside that of the
clock: on a machine that does other things, the former is what can be compared.
"""

import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

from flows import cli
from tasks import behaviour
from tasks.benchmark import BenchmarkParameters, judge
from tasks.policy import DEFAULT, read_policy
from tasks.rows import HeldOut
from tests.measures.made_up import predictor, tweets

TWEETS = 10_000
ASKED_ALONE = 1_000
LIMIT = 90


class Times(NamedTuple):
    """Seconds by the clock, and of all cores together."""

    clock: float
    cores: float


@contextmanager
def timed(name: str, times: dict[str, list[Times]]) -> Iterator[None]:
    clock, cores = perf_counter(), process_time()
    yield
    found = Times(perf_counter() - clock, process_time() - cores)
    times.setdefault(name, []).append(found)
    print(
        f"{name}: {found.clock:.1f} s, cores {found.cores:.1f} s (load {os.getloadavg()[0]:.1f})", flush=True
    )


def main(runs: int = 3) -> None:
    """Print the times of each run, their medians and what they are measured against."""
    cli.quiet()
    held_out, training = HeldOut(tweets(TWEETS, 1), {}), tweets(TWEETS, 2)
    policy, parameters = read_policy(DEFAULT), BenchmarkParameters()
    times: dict[str, list[Times]] = {}
    with TemporaryDirectory() as folder:
        models = {number: predictor(Path(folder) / number, int(number)) for number in ("2", "1")}
        asked: dict[str, Callable[..., object]] = {n: model.probabilities for n, model in models.items()}
        texts, labels = held_out.rows["text"].to_list(), held_out.rows["label"].to_list()
        suite = behaviour.build_suite(texts, labels, parameters.seed, parameters.behaviour_rows)
        every = [text for _, cases in suite.parts for case in cases.texts for text in case] + texts
        distinct = len(set(every))
        part = random.Random(0).sample(every, ASKED_ALONE)
        for _ in range(runs):
            with timed("the full benchmark of two models", times):
                result = judge(parameters, policy, held_out, training, asked, "run")
            with timed(f"{ASKED_ALONE:,} texts, one at a time, one model", times):
                for text in part:
                    models["1"].probabilities([text])
            with timed("every text as often as it comes, one model", times):
                models["1"].probabilities(every)
            with timed("each distinct text once, one model", times):
                models["1"].probabilities(list(dict.fromkeys(every)))
    cases = sum(test.perturbed for test in result.challenger.behaviour)
    print(f"{cases:,} cases of {len(result.tests)} tests and {TWEETS:,} tweets")
    print(f"{len(every):,} texts, {distinct:,} of them distinct")
    medians = [Times(*map(statistics.median, zip(*found, strict=True))) for found in times.values()]
    full, alone, often, once = medians
    print(f"medians of {runs}: full benchmark {full.clock:.1f} s of {LIMIT} s, cores {full.cores:.1f} s")
    scaled = alone.cores * len(every) / ASKED_ALONE
    print(f"cores, one model: {once.cores:.1f} s for each distinct text once")
    print(f"  {often.cores:.1f} s ({often.cores / once.cores:.2f} times) for every text as often as it comes")
    print(f"  {scaled:.1f} s ({scaled / once.cores:.2f} times) for those one at a time")
    print(f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
