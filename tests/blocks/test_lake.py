"""The lake: whole files or none, whatever goes wrong.

The tests that take any `Lake` are the contract of all kinds; tests/cloud/test_lake.py runs them on S3.
"""

import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from blocks.lake import Lake, LakeError, LocalLake

BIG = 4 * 2**20


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow over 64 KiB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(lake: LocalLake) -> list[str]:
    folder = Path(lake.folder)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refusal(lake: LocalLake, key: str = "raw/k/part-00000.parquet", size: int = BIG) -> str:
    with pytest.raises(LakeError) as caught:
        lake.write(key, b"x" * size)
    message = str(caught.value)
    assert message.startswith(f"Cannot write {lake.uri(key)}: ")
    assert "Free some space or make the folder writable" in message
    assert "another `local-lake` block as 'sentiment-lake'" in message
    return message


def test_what_is_written_is_read(lake: Lake) -> None:
    assert not lake.exists("a/b/c.bin")
    with pytest.raises(FileNotFoundError, match="a/b/c.bin"):
        lake.read("a/b/c.bin")
    lake.write("a/b/c.bin", b"\0first")
    assert lake.exists("a/b/c.bin")
    assert not lake.exists("a/b")
    assert not lake.exists("a/b/c")
    lake.write("a/b/c.bin", b"second")
    assert lake.read("a/b/c.bin") == b"second"
    lake.write("empty", b"")
    assert lake.exists("empty") and lake.read("empty") == b""


def test_files_are_found_copied_and_removed(lake: Lake, tmp_path: Path) -> None:
    given = {"a/b/1": b"1", "a/b/2": b"22", "a/0": b"0", "a/bc": b"c", "ab": b"ab"}
    for number, (key, content) in enumerate(given.items()):
        (tmp_path / f"{number}").write_bytes(content)
        lake.put(key, tmp_path / f"{number}")
    assert [file.key for file in lake.find("a")] == ["a/0", "a/b/1", "a/b/2", "a/bc"]
    assert [file.key for file in lake.find("a/b")] == ["a/b/1", "a/b/2"]
    [before] = lake.find("ab")
    assert lake.find("nothing") == []
    lake.write("ab", b"changed")
    assert lake.find("ab")[0].tag != before.tag
    lake.write("ab", b"ab")
    assert lake.find("ab") == [before]
    lake.fetch("a/b/2", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"22"
    with pytest.raises(FileNotFoundError):
        lake.fetch("a/none", tmp_path / "copy")
    lake.remove("a/b")
    lake.remove("a/b")
    assert [file.key for file in lake.find("a")] == ["a/0", "a/bc"]


def test_it_lies_where_the_address_says(lake: LocalLake) -> None:
    lake.write("a/b/c.bin", b"1")
    assert Path(lake.uri("a/b/c.bin")).read_bytes() == b"1"
    assert files(lake) == ["a/b/c.bin"]


def test_a_reader_never_sees_half_a_file(lake: Lake) -> None:
    contents = [letter * BIG for letter in (b"a", b"b")]
    lake.write("k", contents[0])
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            lake.write("k", contents[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {lake.read("k") for _ in range(100)}
    finally:
        stop.set()
        writer.join()
    assert sorted(seen) == contents


def test_a_killed_writer_leaves_the_file_as_it_was(lake: Lake) -> None:
    script = (
        "import pickle, sys\n"
        "lake = pickle.load(sys.stdin.buffer)\n"
        f"lake.write('k', b'a' * {BIG})\n"
        "print('ready', flush=True)\n"
        f"while True: lake.write('k', b'b' * {BIG})\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        pickle.dump(lake, process.stdin)
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert lake.read("k") in (b"a" * BIG, b"b" * BIG)
    lake.write("k", b"after")
    assert lake.read("k") == b"after"


@pytest.mark.usefixtures("small_files")
def test_a_failed_write_leaves_neither_file_nor_rest(lake: LocalLake) -> None:
    assert "File too large" in refusal(lake, "new")
    assert files(lake) == []
    lake.write("old", b"kept")
    refusal(lake, "old")
    assert files(lake) == ["old"]
    assert lake.read("old") == b"kept"


@pytest.mark.usefixtures("small_files")
def test_a_frame_that_does_not_fit_leaves_nothing(lake: LocalLake) -> None:
    frame = pl.select(text=pl.int_range(50_000).hash().cast(pl.String))
    with pytest.raises(LakeError, match="File too large"):
        lake.write_frame("k", frame)
    assert files(lake) == []


def test_a_full_disk(mount: Callable[[str], Path]) -> None:
    lake = LocalLake(folder=str(mount("size=1m") / "lake"))
    lake.write("small", b"kept")
    assert "No space left on device (0 MiB free)" in refusal(lake)
    assert files(lake) == ["small"]
    lake.write("raw/k/part-00000.parquet", b"x" * 1000)


def test_a_read_only_disk(mount: Callable[[str], Path]) -> None:
    assert "Read-only file system" in refusal(LocalLake(folder=str(mount("ro") / "lake")))


@pytest.mark.parametrize("folder", ["file", "file/a/b"])
def test_a_file_where_the_folder_should_be(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("in the way")
    lake = LocalLake(folder=str(tmp_path / folder))
    assert "Not a directory" in refusal(lake)
    assert not lake.exists("raw/k/part-00000.parquet")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_where_the_file_should_be(lake: LocalLake) -> None:
    lake.write("k/deeper", b"1")
    assert "Is a directory" in refusal(lake, "k")
    assert files(lake) == ["k/deeper"]


def test_frames_come_back_as_they_went(lake: Lake) -> None:
    frame = pl.DataFrame(
        {
            "id": ["a", "b", "c"],
            "created_at": [datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC), None, datetime(1, 1, 1)],
            "text": ["😀 é\0\n\"'", "", None],
            "human_label": [2, None, 0],
            "polarity": [-1.0, 0.1 + 0.2, None],
            "nothing": [None, None, None],
        },
        schema_overrides={
            "created_at": pl.Datetime("us", "UTC"),
            "human_label": pl.Int8,
            "nothing": pl.String,
        },
    )
    lake.write_frame("frame", frame)
    back = lake.scan(["frame"]).collect()
    assert back.schema == frame.schema
    assert back.rows() == frame.rows()


def test_an_empty_frame_keeps_its_columns(lake: Lake) -> None:
    frame = pl.DataFrame(schema={"id": pl.String, "created_at": pl.Datetime("us", "UTC")})
    lake.write_frame("frame", frame)
    back = lake.scan(["frame"]).collect()
    assert (len(back), back.schema) == (0, frame.schema)


def test_the_same_frame_is_the_same_bytes(lake: Lake) -> None:
    for key in ("a", "b"):
        lake.write_frame(key, pl.DataFrame({"n": list(range(1000)), "s": ["x", None] * 500}))
    assert lake.read("a") == lake.read("b")


def test_rows_come_in_the_order_of_the_keys(lake: Lake) -> None:
    order = [7, 2, 9, 0, 11, 5]
    for number in sorted(order):
        start = 100 * number
        lake.write_frame(f"p/{number}", pl.select(n=pl.int_range(start, start + 100)))
    found = lake.scan([f"p/{number}" for number in order]).collect()["n"].to_list()
    assert found == [100 * number + row for number in order for row in range(100)]
