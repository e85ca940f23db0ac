"""Contracts: every bad row is turned away with its reason, every good one comes through."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts import REASON, ContractError, Gatekeeper, Labelled, Processed, Raw, check
from tasks.raw import RAW


def batch(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return rows as a source gives them, good but for what is said."""
    good = {"created_at": None, "lang": "en", "username": None, "source": "test", "text": "Good day"}
    numbered = [{"id": f"t:{number}"} | good | row for number, row in enumerate(rows)]
    return pl.DataFrame(numbered, schema=RAW)


def part(*rows: dict[str, Any], language: str | None = "en") -> tuple[pl.DataFrame, pl.DataFrame]:
    return Gatekeeper(language, 280).part(batch(*rows))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"defect": "invalid UTF-8"}, "invalid UTF-8"),
        ({"text": None, "defect": "not JSON"}, "not JSON"),
        ({"text": None}, "text missing"),
        ({"text": ""}, "text empty"),
        ({"text": " \n\t\u00a0\u3000"}, "text empty"),
        ({"text": "x" * 281}, "text longer than 280 characters"),
        ({"text": "😀" * 281}, "text longer than 280 characters"),
        ({"text": "😀❤️👍🏽 !!"}, "no words after cleaning"),
        ({"text": "@ann https://t.co/a #"}, "no words after cleaning"),
        ({"text": "&lt;&gt; &amp;"}, "no words after cleaning"),
        ({"text": "\u200b\ufeff"}, "no words after cleaning"),
        ({"id": None}, "id missing"),
        ({"id": ""}, "id missing"),
        ({"human_label": "happy"}, "label outside the mapping"),
        ({"human_label": "!7"}, "label outside the mapping"),
        ({"human_label": "Positive"}, "label outside the mapping"),
        ({"human_label": ""}, "label outside the mapping"),
        ({"lang": "de"}, "language is de, not en"),
        ({"lang": "und"}, "language is und, not en"),
        ({"lang": "eng"}, "language is eng, not en"),
        # One reason a row, the first that holds
        ({"text": "", "lang": "de", "id": ""}, "text empty"),
    ],
)
def test_bad_rows_are_turned_away_with_the_reason(row: dict[str, Any], reason: str) -> None:
    accepted, rejected = part({}, row, {})
    assert accepted["id"].to_list() == ["t:0", "t:2"]
    assert rejected.schema == {**RAW, REASON: pl.String}
    assert rejected[REASON].to_list() == [reason]
    assert rejected.drop(REASON).equals(batch({}, row)[1:])


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"text": "x" * 280},
        {"text": "7"},
        {"text": "日本語"},
        {"text": "\ufffd a \0"},
        {"lang": None},
        {"lang": "EN"},
        {"lang": "en-GB"},
        {"lang": "en_US"},
        {"username": "ann", "created_at": datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)},
        {"human_label": None},
        {"source": ""},
    ],
)
def test_good_rows_come_through_as_they_are(row: dict[str, Any]) -> None:
    accepted, rejected = part(row)
    assert len(rejected) == 0
    assert list(accepted.columns) == list(Raw.to_schema().columns)
    assert (
        check(Raw, accepted)
        .drop("human_label")
        .equals(batch(row).select(accepted.columns).drop("human_label"))
    )


def test_label_names_become_integers() -> None:
    accepted, _ = part(*({"human_label": name} for name in ("neutral", "negative", "positive", None)))
    assert accepted["human_label"].to_list() == [0, 1, 2, None]
    assert accepted.schema["human_label"] == pl.Int8


@pytest.mark.parametrize(("language", "kept"), [("de", ["t:1", "t:2"]), (None, ["t:0", "t:1", "t:2"])])
def test_the_language_is_a_choice(language: str | None, kept: list[str]) -> None:
    accepted, rejected = part({"lang": "en"}, {"lang": "de-AT"}, {"lang": None}, language=language)
    assert accepted["id"].to_list() == kept
    assert rejected[REASON].to_list() == ["language is en, not de"] * (3 - len(kept))


def test_the_first_of_an_id_wins_across_batches_too() -> None:
    gate = Gatekeeper("en", 280)
    one, other = {"id": "t:a", "text": "one"}, {"id": "t:a", "text": "other"}
    accepted, rejected = gate.part(batch(one, other, one))
    assert accepted["text"].to_list() == ["one"]
    assert rejected[REASON].to_list() == ["id taken by another text", "repeated row"]
    accepted, rejected = gate.part(batch(other, {"id": "t:b", "text": "one"}, one))
    assert accepted["id"].to_list() == ["t:b"]
    assert rejected[REASON].to_list() == ["id taken by another text", "repeated row"]
    assert len(Gatekeeper("en", 280).part(batch(other))[0]) == 1


def test_a_bad_row_takes_no_id() -> None:
    accepted, rejected = part({"id": "t:a", "text": ""}, {"id": "t:a", "text": "good"})
    assert accepted["text"].to_list() == ["good"]
    assert rejected[REASON].to_list() == ["text empty"]


def test_a_batch_may_be_all_good_all_bad_or_empty() -> None:
    assert [len(frame) for frame in part({}, {})] == [2, 0]
    assert [len(frame) for frame in part({"text": ""}, {"lang": "de"})] == [0, 2]
    assert [len(frame) for frame in part()] == [0, 0]
    assert part({"text": ""})[0].schema == part({})[0].schema


VALUES = {
    "id": st.sampled_from(["t:1", "t:2", "t:3", "", None]),
    "text": st.sampled_from(["Good", "Bad day", "", " ", "😀", "x" * 300, None]) | st.text(max_size=5),
    "lang": st.sampled_from(["en", "EN-us", "de", "", "??", None]),
    "human_label": st.sampled_from(["positive", "neutral", "!9", None]),
    "defect": st.sampled_from([None, None, None, "invalid UTF-8"]),
}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.fixed_dictionaries(VALUES), max_size=10), st.integers(1, 4))
def test_no_row_is_lost_or_made(rows: list[dict[str, Any]], size: int) -> None:
    whole = batch(*rows)
    gate = Gatekeeper("en", 280)
    accepted, rejected = zip(
        *(gate.part(whole[start : start + size]) for start in range(0, 11, size)), strict=True
    )
    good, bad = pl.concat(accepted), pl.concat(rejected)
    assert bad[REASON].null_count() == 0
    assert good["id"].is_unique().all()
    found = [*good.select("id", "text", "lang").rows(), *bad.select("id", "text", "lang").rows()]
    assert sorted(found, key=repr) == sorted(whole.select("id", "text", "lang").rows(), key=repr)


def processed(**columns: Any) -> pl.DataFrame:
    accepted, _ = part({}, {})
    values = {
        "cleaned_text": pl.lit("Good day"),
        "polarity": pl.lit(0.5),
        "label": pl.lit(2, pl.Int8),
        "tokens": pl.lit(""),
        "split": pl.lit("train"),
    }
    return accepted.with_columns(**values).with_columns(**columns)


def test_a_frame_that_keeps_its_contract_comes_back() -> None:
    frame = processed()
    assert check(Processed, frame) is frame
    assert check(Labelled, frame.drop("tokens", "split")).width == 10


@pytest.mark.parametrize(
    ("columns", "column", "value"),
    [
        ({"polarity": pl.lit(1.5)}, "polarity", "1.5"),
        ({"polarity": pl.lit(None, pl.Float64)}, "polarity", "None"),
        ({"label": pl.lit(3, pl.Int8)}, "label", "3"),
        ({"label": pl.lit(2, pl.Int64)}, "label", "Int64"),
        ({"split": pl.lit("exam")}, "split", "exam"),
        ({"cleaned_text": pl.lit("")}, "cleaned_text", ""),
        ({"tokens": pl.lit(None, pl.String)}, "tokens", "None"),
        ({"id": pl.lit("twice")}, "id", "twice"),
        ({"human_label": pl.lit(-1, pl.Int8)}, "human_label", "-1"),
        ({"created_at": pl.lit(datetime(2024, 1, 1))}, "created_at", "Datetime"),
        ({"more": pl.lit(1)}, "more", ""),
    ],
)
def test_a_broken_contract_is_named_with_column_and_value(
    columns: dict[str, pl.Expr], column: str, value: str
) -> None:
    with pytest.raises(ContractError) as caught:
        check(Processed, processed(**columns))
    assert "the contract Processed" in str(caught.value)
    assert column in str(caught.value)
    assert value in str(caught.value)


def test_columns_missing_too_many_or_out_of_order() -> None:
    frame = processed()
    for broken in (frame.drop("split"), frame.select("text", pl.exclude("text"))):
        with pytest.raises(ContractError, match="the contract Processed"):
            check(Processed, broken)
    with pytest.raises(ContractError, match="the contract Raw"):
        check(Raw, frame)
