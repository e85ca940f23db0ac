"""Sources: parameters, selection, and the sample."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from flows.cli import parse
from tasks import raw, sources
from tasks.sources import RAW, SourceError, SourceParameters, read


def collect(**parameters: Any) -> pl.DataFrame:
    return pl.concat(read(SourceParameters(**parameters)))


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"source": "file"}, "--source file needs --path"),
        ({"path": "tweets.csv"}, "--path is for --source file, not for --source sample"),
        ({"source": "x", "query": "q", "path": "t.csv"}, "--path is for --source file, not for --source x"),
        ({"source": "snscrape", "query": "nasa"}, "--source snscrape needs --scraper"),
        ({"source": "snscrape", "scraper": "telegram-channel"}, "--source snscrape needs --query"),
        ({"source": "x"}, "--source x needs --query"),
        ({"source": "x", "query": "q", "scraper": "s"}, "--scraper is for --source snscrape"),
        ({"label_mapping": {"0": "negative"}}, "--label-mapping is for --source file"),
        ({"since": date(2024, 1, 1)}, "--since is not for --source sample: its tweets have no dates"),
        ({"limit": 0}, "greater than 0"),
        ({"language": "none"}, "String should match pattern"),
        ({"source": "file", "path": ""}, "at least 1 character"),
        (
            {"source": "file", "path": "t.csv", "label_mapping": {"0": "bad"}},
            "'negative', 'neutral' or 'positive'",
        ),
        ({"sauce": "sample"}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_parameters_are_explained(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SourceParameters(**parameters)
    assert complaint in str(caught.value)


def test_every_parameter_is_described() -> None:
    assert all(field.description for field in SourceParameters.model_fields.values())


@pytest.mark.parametrize(
    "flags", [["--label-mapping", "0=negative,4=positive"], ["--label-mapping=-1=negative"]]
)
def test_label_mapping_is_a_flag(flags: list[str]) -> None:
    parsed = parse(SourceParameters, "test", ["--source", "file", "--path", "t.csv", *flags])
    assert parsed.label_mapping in ({"0": "negative", "4": "positive"}, {"-1": "negative"})


@pytest.mark.parametrize(("flag", "language"), [("None", None), ("de", "de")])
def test_language_is_a_flag(flag: str, language: str | None) -> None:
    assert parse(SourceParameters, "test", ["--language", flag]).language == language


def test_importing_loads_no_service_and_no_prefect() -> None:
    heavy = "prefect snscrape tweepy pip pyarrow requests"
    code = f"import sys, tasks.sources; print([name for name in {heavy.split()} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture
def dated(tmp_path: Path) -> str:
    frame = pl.DataFrame(
        {
            "text": ["Cats RULE", "dogs rule", "cats again", "CATS of old", "cats, undated", "straße"],
            "created_at": [
                "2024-01-01T00:00:00Z",
                "2024-01-02",
                "2023-12-31T23:59:59.9Z",
                "1999-01-01",
                None,
                "?",
            ],
        }
    )
    frame.write_csv(tmp_path / "dated.csv")
    return str(tmp_path / "dated.csv")


@pytest.mark.parametrize(
    ("selection", "texts"),
    [
        ({"query": "CaTs"}, ["Cats RULE", "cats again", "CATS of old", "cats, undated", "straße"]),
        ({"since": date(2024, 1, 1)}, ["Cats RULE", "dogs rule", "straße"]),
        ({"since": date(2024, 1, 1), "query": "cats"}, ["Cats RULE", "straße"]),
        ({"limit": 2}, ["Cats RULE", "dogs rule"]),
        ({"query": "cats", "limit": 2}, ["Cats RULE", "cats again"]),
    ],
)
def test_stored_rows_are_selected_but_defects_always_come(
    dated: str, selection: dict[str, Any], texts: list[str]
) -> None:
    frame = collect(source="file", path=dated, **selection)
    assert frame["text"].to_list() == texts
    assert frame.filter(text="straße")["defect"].to_list() == ["created_at is not a date"] * (
        "straße" in texts
    )


def test_a_selection_may_leave_nothing(dated: str) -> None:
    parameters = SourceParameters(source="file", path=dated, query="no tweet says so", since=date(2024, 1, 1))
    assert pl.concat(read(parameters))["defect"].to_list() == ["created_at is not a date"]
    assert list(read(SourceParameters(query="no tweet says so"))) == []


def test_stored_rows_in_another_language_are_kept(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,lang\nhello,en\nhallo,de\n")
    assert collect(source="file", path=str(tmp_path / "t.csv"))["lang"].to_list() == ["en", "de"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        (date(2024, 2, 29), datetime(2024, 2, 29, tzinfo=UTC)),
        (datetime(2024, 2, 29, 12), datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("2024-02-29T12:00:00+05:30", datetime(2024, 2, 29, 6, 30, tzinfo=UTC)),
        (" 2024-02-29 12:00 ", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("Tue Nov 21 10:00:00 +0800 2023", datetime(2023, 11, 21, 2, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("here", ["UTC", "Asia/Tokyo"])
def test_moments(
    value: object, expected: datetime | None, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", here)
        time.tzset()
        assert raw.moment(value) == expected
    time.tzset()


@pytest.mark.parametrize("value", ["yesterday", 1700000000, "2024-02-30", "0001-01-01T00:00:00+14:00", True])
def test_no_moments(value: object) -> None:
    with pytest.raises(ValueError, match=r"not a date|out of range|does not match"):
        raw.moment(value)


def test_frames_read_no_further_than_asked() -> None:
    taken = 0

    def rows() -> Iterator[raw.Row]:
        nonlocal taken
        for taken in range(1, 101):
            yield raw.Row(f"t:{taken}", None, None, None, "text", "test")

    batches = raw.frames(rows(), 10)
    assert taken == 0
    assert next(batches).schema == RAW
    assert taken == 10
    assert [len(batch) for batch in batches] == [10] * 9


class TestSample:
    def test_rows(self) -> None:
        batches = list(read(SourceParameters()))
        frame = pl.concat(batches)
        assert (len(batches), frame.schema) == (1, RAW)
        assert frame["id"].to_list() == [f"sample:{number}" for number in range(1, 4201)]
        assert frame["text"][0].startswith("Somehow I was blessed with some really amazing friends")
        assert not frame["text"].str.contains(r"[\r\n\t]").any()
        assert frame["human_label"].value_counts().sort("count").rows() == [
            ("neutral", 838),
            ("negative", 1062),
            ("positive", 2300),
        ]
        assert frame.select(pl.col("lang", "source").unique()).rows() == [("en", "sample")]
        assert frame.select("created_at", "username", "defect").null_count().row(0) == (4200, 4200, 4200)

    @pytest.mark.parametrize(
        ("rating", "label"),
        [(-0.51, "negative"), (-0.5, "neutral"), (0.0, "neutral"), (0.5, "neutral"), (0.51, "positive")],
    )
    def test_the_cut_is_neutral(self, rating: float, label: str) -> None:
        assert sources.label_of_rating(rating) == label

    def test_selection(self) -> None:
        frame = collect(query="LMAO", limit=3)
        assert len(frame) == 3
        assert frame["text"].str.to_lowercase().str.contains("lmao").all()

    def test_fetched_once_by_command(self) -> None:
        command = [sys.executable, "-m", "tasks.sources"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout.strip().splitlines() == [f"Sample tweets: {sources.SAMPLE}"]
        assert list(sources.SAMPLE.parent.glob(".fetching-*")) == []

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "share" / sources.SAMPLE.name
        monkeypatch.setattr(sources, "SAMPLE", path)
        return path

    @pytest.fixture
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"NO_INDEX": "1", "FIND_LINKS": "", "CONFIG_FILE": "/dev/null"}.items():
            monkeypatch.setenv(f"PIP_{name}", value)

    @pytest.mark.usefixtures("offline")
    def test_no_network_and_no_file(self, elsewhere: Path) -> None:
        with pytest.raises(SourceError) as caught:
            list(read(SourceParameters()))
        assert str(elsewhere) in str(caught.value)
        assert "cannot fetch vaderSentiment==3.3.2" in str(caught.value)
        assert "Run `python -m tasks.sources` once with access to a package index" in str(caught.value)
        assert list(elsewhere.parent.iterdir()) == []

    @pytest.mark.usefixtures("offline")
    def test_a_damaged_file_is_not_read(self, elsewhere: Path) -> None:
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(b"something else")
        with pytest.raises(
            SourceError, match=r"not 5d7c06e0.* Run `python -m tasks.sources` to fetch it again"
        ):
            list(read(SourceParameters()))

    def test_what_pip_brings_must_be_what_is_pinned(
        self, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def other(folder: Path) -> None:
            (folder / elsewhere.name).write_bytes(b"something else")

        monkeypatch.setattr(sources, "_download", other)
        with pytest.raises(SourceError, match="damaged, or another file"):
            sources.fetch_sample()
        assert not elsewhere.exists()

    def test_pip_itself_refuses_another_checksum(
        self, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = elsewhere.parent / "links" / sources.SAMPLE.name
        package.parent.mkdir(parents=True)
        package.write_bytes(b"something else")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(package.parent))
        with pytest.raises(SourceError, match="DO NOT MATCH THE HASHES"):
            sources.fetch_sample()
        assert not elsewhere.exists()

    def test_a_damaged_file_is_replaced_at_set_up(
        self, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        genuine = Path(sys.prefix) / "share" / "sentiment-flows" / elsewhere.name
        content = genuine.read_bytes()
        monkeypatch.setattr(
            sources, "_download", lambda folder: (folder / elsewhere.name).write_bytes(content)
        )
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(b"something else")
        assert sources.fetch_sample().read_bytes() == content
        monkeypatch.setattr(sources, "_download", lambda folder: pytest.fail("fetched twice"))
        assert sources.fetch_sample() == elsewhere
        assert len(collect(limit=5)) == 5

    def test_unwritable_folder(self, elsewhere: Path) -> None:
        elsewhere.parent.write_text("a file where the folder should be")
        with pytest.raises(SourceError, match=r"cannot be kept at .* Make the folder writable"):
            sources.fetch_sample()
