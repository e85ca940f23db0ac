"""The ETL killed outright in each of its steps, servers and all as on a user's machine, and run again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from blocks.lake import LocalLake
from blocks.role import ROOT
from blocks.warehouse import DuckDBWarehouse

pytestmark = pytest.mark.slow

ROWS = 60_000
WORDS = "good bad terrible lovely train coffee monday happy sad hate love great awful not never quite".split()
APPOINT = (
    "import sys\n"
    "from blocks.lake import LocalLake\n"
    "from blocks.warehouse import DuckDBWarehouse\n"
    "LocalLake(folder=sys.argv[1]).appoint()\n"
    "DuckDBWarehouse(path=sys.argv[2]).appoint()\n"
)


class Machine:
    """A machine of its own: a Prefect home, a lake and a warehouse in one folder, and an input file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = LocalLake(folder=str(folder / "lake"))
        self.warehouse = DuckDBWarehouse(path=str(folder / "warehouse.duckdb"))
        self.input = folder / "tweets.parquet"
        self.groups: list[int] = []
        temporary = folder / "temporary"
        temporary.mkdir()
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = outside | {
            "PREFECT_HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(temporary),
        }

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.groups.append(process.pid)
        return process

    def finish(self, *arguments: str) -> None:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output

    def etl(self) -> None:
        self.finish("-m", "flows.etl", "--source", "file", "--path", str(self.input))

    def kill_etl(self, pattern: str) -> None:
        """Run the ETL and kill it as soon as a file of this pattern is there."""
        process = self.start("-m", "flows.etl", "--source", "file", "--path", str(self.input))
        end = time.monotonic() + 300
        while not any(self.folder.glob(pattern)):
            assert process.poll() is None, f"ended before there was {pattern}: {process.communicate()[0]}"
            assert time.monotonic() < end
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert process.stdout is not None
        process.stdout.close()

    def sweep(self) -> None:
        """End the servers that killed runs have left behind."""
        while self.groups:
            try:
                os.killpg(self.groups.pop(), signal.SIGKILL)
            except ProcessLookupError:
                continue

    def empty(self) -> None:
        shutil.rmtree(self.lake.folder, ignore_errors=True)
        for path in self.folder.glob("warehouse.duckdb*"):
            path.unlink()

    def files(self) -> dict[str, bytes]:
        folder = Path(self.lake.folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def table(self) -> pl.DataFrame:
        return pl.concat(self.warehouse.query("SELECT * FROM {table} ORDER BY id"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    draw = random.Random(1)
    pl.DataFrame(
        {
            "id": [str(number) for number in range(ROWS)],
            "text": [f"{' '.join(draw.choices(WORDS, k=12))} {number}" for number in range(ROWS)],
            "lang": ["de" if number % 100 == 0 else "en" for number in range(ROWS)],
        }
    ).write_parquet(machine.input)
    (machine.folder / "home").mkdir()
    try:
        machine.finish("-c", APPOINT, machine.lake.folder, machine.warehouse.path)
        yield machine
    finally:
        machine.sweep()


@pytest.fixture(scope="module")
def undisturbed(machine: Machine) -> tuple[dict[str, bytes], pl.DataFrame]:
    """What lies in the lake and in the warehouse when nothing goes wrong."""
    machine.empty()
    machine.etl()
    files, table = machine.files(), machine.table()
    assert len(table) == table["id"].n_unique() == ROWS - ROWS // 100
    assert sum(name.startswith("rejected/raw/") for name in files) == 3
    return files, table


@pytest.mark.parametrize(
    ("moment", "finished"),
    [
        ("lake/raw/*/part-00000.parquet", []),
        ("lake/labelled/*/part-00000.parquet", ["raw"]),
        ("lake/processed/*/part-00000.parquet", ["labelled", "raw"]),
        ("warehouse.duckdb", ["labelled", "processed", "raw"]),
    ],
    ids=["extract", "label", "normalise", "load"],
)
def test_every_row_once(
    machine: Machine, undisturbed: tuple[dict[str, bytes], pl.DataFrame], moment: str, finished: list[str]
) -> None:
    files, table = undisturbed
    machine.empty()
    machine.kill_etl(moment)
    machine.sweep()
    left = machine.files()
    manifests = sorted(name.split("/")[0] for name in left if name.endswith("manifest.json"))
    assert manifests == finished, "killed too late or too early to show anything"
    whole = {name: content for name, content in left.items() if not name.endswith(".tmp")}
    assert whole.items() <= files.items()
    machine.etl()
    found = {name: content for name, content in machine.files().items() if not name.endswith(".tmp")}
    assert found == files
    assert machine.table().equals(table)


@pytest.mark.parametrize("written", [0, 4096, 8192])
def test_a_warehouse_killed_while_its_file_is_made_can_be_opened(tmp_path: Path, written: int) -> None:
    warehouse = DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))
    script = (
        "import resource, signal\n"
        "from blocks.warehouse import DuckDBWarehouse\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"  # death on the first byte over the limit
        f"warehouse = DuckDBWarehouse(path={warehouse.path!r})\n"
        "import duckdb, polars, pyarrow\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({written}, {written}))\n"
        "warehouse.merge([])\n"
    )
    result = subprocess.run([sys.executable, "-B", "-c", script], cwd=ROOT)
    assert result.returncode == -signal.SIGXFSZ
    merged, _ = warehouse.merge([])
    assert set(merged.model_dump().values()) == {0}
    assert warehouse.merge([])[0] == merged
