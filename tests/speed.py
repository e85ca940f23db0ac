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

import polars as pl

from containers.serve.predictor import Predictor
from flows import cli
from tasks import behaviour, bundle, network, tokens
from tasks.benchmark import BenchmarkParameters, judge
from tasks.policy import DEFAULT, read_policy
from tasks.rows import HeldOut
from tests.tweets import FILLING, TELLING

TWEETS = 10_000
ASKED_ALONE = 1_000
LIMIT = 90


def tweets(count: int, seed: int) -> pl.DataFrame:
    """Return rows as the benchmark reads them: 8 to 24 words, some with a hashtag, a link or a handle."""
    draw = random.Random(seed)
    telling = [word for words in TELLING for word in words]
    texts = []
    for number in range(count):
        words = draw.choices(
            [*FILLING, *telling, "isn't", "not", "so", "London", "Anna", "2021"], k=draw.randint(8, 24)
        )
        words += draw.choices(["", "#late", "https://example.org/a", "@someone", "😀"], k=1)
        texts.append(f"{' '.join(words)} {number}")
    labels = [draw.randrange(3) for _ in texts]
    rows = pl.DataFrame({"id": [f"made-up:{n:06}" for n in range(count)], "text": texts})
    return rows.with_columns(
        label=pl.Series(labels, dtype=pl.Int8),
        human_label=pl.Series(labels, dtype=pl.Int8),
        lang=pl.lit("en"),
        source=pl.lit("made-up"),
        created_at=pl.lit("2024-05-01").str.to_datetime(time_unit="us", time_zone="UTC"),
    )


def predictor(folder: Path, seed: int) -> Predictor:
    """Return a network of the real size with random weights, exported as training does."""
    import keras

    keras.utils.set_random_seed(seed)
    source = tokens.tokenizer_folder(tokens.OFFLINE)
    tokenizer = tokens.build_tokenizer(source)
    size = tokenizer.get_vocab_size()
    model = network.build_network("pooled", size, tokens.word_embeddings(source, size))
    return bundle.write_bundle(model, tokenizer, folder, {"network": "pooled"}, ["a text"])


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
