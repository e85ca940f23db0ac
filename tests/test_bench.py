"""The figures of `make bench`: that all are there, and what the work of a network is counted as."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.network import HEADS, build_network
from tasks.tokens import encode
from tests.measures import client, figures, made_up, tokenising, training
from tests.measures.figures import Figure, Rounds

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench.json"
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--smoke", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    record = json.loads(out.read_text())
    assert record["size"] == "smoke"
    assert record["machine"]["cores"] > 0
    assert record["machine"]["packages"]["tensorflow"]
    assert all(len(averages) == 3 for averages in record["load"].values())
    found = {(one["part"].split(",")[0], one["name"]): one for one in record["figures"]}
    assert len(found) == len(record["figures"])
    for one in found.values():
        assert len(one["rounds"]) == 1
        assert 0 < one["median"] == one["rounds"][0] < np.inf
        assert one["name"] in result.stdout
        assert (one["goal"] is None) == (one["met"] is None)
    goals = {name: one["goal"] for name, one in found.items() if one["goal"]}
    process, http = "serving in the process", "serving over HTTP"
    assert goals == {
        ("training", "stacked against the reference"): {"least": 15},
        ("training", "pooled, share of TensorFlow's peak"): {"least": 50},
        ("tokenising", "20,000 tweets"): {"least": pytest.approx(16_667, rel=1e-3)},
        ("tokenising", "growth from 10,000 rows"): {"most": 100},
        (process, "int8 bundle, p50"): {"most": 0.5},
        (process, "int8 bundle, p99"): {"most": 3},
        (process, "int8 bundle, batches of 64"): {"least": 6000},
        (http, "one text a request, 4 connections"): {"least": 2000},
        (http, "batches of 64"): {"least": 8000},
        (http, "batches of 256"): {"least": 8000},
        (http, "one text a request, p99 at half of that"): {"most": 15},
        (http, "batches of 64, p99 at half of that"): {"most": 15},
        (http, "first answer after the start"): {"most": 0.3},
        (http, "memory after all requests"): {"most": 150},
    }
    others = ["fp32 bundle", "Keras predict", "TensorFlow SavedModel", "reference graph padded, predict"]
    for other in others:
        assert {(process, f"{other}, {name}") for name in ("p50", "p99", "batches of 64")} <= found.keys()
        assert (process, f"int8 bundle against {other}, batches") in found
    assert (process, "int8 bundle against MLflow's server, over HTTP, p50") in found
    assert ("training", "stacked, share of TensorFlow's peak") in found


def test_a_part_can_be_measured_alone(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--smoke", "--only", "gpu", "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "TensorFlow sees no GPU: nothing is measured on one." in result.stdout
    record = json.loads(out.read_text())
    assert record["figures"] == []
    assert record["load"].keys() == {"start", "GPU"}


def test_the_work_of_a_small_network_is_counted_by_hand() -> None:
    import keras

    ids = keras.Input((None,), dtype="int32")
    hidden = keras.layers.Embedding(10, 4, mask_zero=True)(ids)
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True))(hidden)
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(5)(hidden))
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(2))(hidden)
    model = keras.Model(ids, keras.layers.Dense(7)(hidden))
    first = 2 * 2 * (4 * 12 + 3 * 12)  # directions, operations, (width + units) by four gates
    second = 2 * 2 * (5 * 8 + 2 * 8)
    assert training.flops(model) == (first + 2 * 6 * 5 + second, 2 * 4 * 7)


def test_the_work_of_our_networks_is_counted_by_hand() -> None:
    embeddings = np.ones((50, 16), np.float32)
    lstm = 2 * 2 * (16 + 64) * 4 * 64
    attention = 2 * 128 * 64 + 2 * 64 * HEADS + 2 * HEADS * 128
    dense = 2 * (128 * (2 + HEADS) * 64 + 64 * 3)
    assert training.flops(build_network("pooled", 50, embeddings)) == (lstm + attention, dense)
    lstms = 2 * 2 * 4 * ((128 + 128) * 128 + (256 + 64) * 64 + (128 + 32) * 32)
    assert training.flops(build_network("stacked", 50)) == (lstms, 2 * (64 * 128 + 128 * 64 + 64 * 3))


def test_a_layer_that_is_not_counted_is_named() -> None:
    import keras

    ids = keras.Input((8, 4))
    model = keras.Model(ids, keras.layers.Conv1D(2, 3)(ids))
    with pytest.raises(ValueError, match="Conv1D are not counted"):
        training.flops(model)


def test_made_up_tweets_are_as_long_as_real_ones() -> None:
    texts = made_up.texts(3000, 1)
    assert len(set(texts)) == 3000
    lengths = encode(made_up.offline_tokenizer(), texts).lengths
    assert 28 <= np.median(lengths) <= 32
    assert 42 <= np.percentile(lengths, 99) <= 48


def test_memory_is_seen_while_it_is_held() -> None:
    with tokenising.most_memory(0.001) as memory:
        for _ in range(20):
            held = np.ones(20_000_000, np.uint8)
            held.sum()
    assert 15e6 < memory[0] < 200e6


def test_ratios_are_of_the_same_round() -> None:
    rounds = Rounds()
    for ours, theirs in ((10, 5), (1000, 500), (4, 2)):
        rounds.add("ours", ours)
        rounds.add("theirs", theirs)
    assert rounds.ratio("ours", "theirs") == [2, 2, 2]


def test_the_table_tells_which_goals_are_met() -> None:
    shown = figures.table(
        [
            Figure("speed", "rate", "tweets/s", [8123.4, 7000, 9000], least=8000),
            Figure("speed", "late", "ms", [20.25], most=15),
            Figure("size", "memory", "MB", [0.1234]),
        ]
    )
    lines = [re.split(r"  +", line.strip()) for line in shown.splitlines()]
    assert lines == [
        ["median", "of rounds", "goal"],
        ["speed"],
        ["rate", "8,123 tweets/s", "7,000 to 9,000", "≥ 8,000", "met"],
        ["late", "20.2 ms", "20.2 to 20.2", "≤ 15", "not met"],
        ["size"],
        ["memory", "0.123 MB", "0.123 to 0.123"],
    ]


def test_the_paced_client_counts_from_when_a_request_is_due() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            await reader.readexactly(len(b'["x"]'))
            await asyncio.sleep(0.02)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            await writer.drain()
            writer.write(b"[]")
        writer.close()

    async def ask() -> tuple[list[float], float]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            contents = iter(lambda: client.request(["x"]), None)
            late = await client.paced(port, contents, 100, 0.1, 1)
            return late, await client.closed(port, contents, 0.1, 2)

    late, rate = asyncio.run(ask())
    assert len(late) == 10
    assert late[0] >= 0.02
    assert late[-1] >= 10 * 0.02 - 9 * 0.01  # one connection: each request waits for those before it
    assert 0 < rate <= 2 / 0.02


def test_a_refusal_fails_the_measurement() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
        await writer.drain()

    async def ask() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            connection = await client.Connection.open(server.sockets[0].getsockname()[1])
            await connection.ask(client.request(["x"]))

    with pytest.raises(ConnectionError, match="503.*busy"):
        asyncio.run(ask())
