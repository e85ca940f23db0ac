"""Rows: what is read from the warehouse, and what training refuses."""

import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from blocks.warehouse import DuckDBWarehouse, WarehouseError
from tasks import material
from tasks.rows import (
    LabelKind,
    RowsError,
    digest,
    labelled_rows,
    read_held_out,
    read_labelled,
    read_part,
    read_rows,
)
from tasks.tokens import encode
from tasks.training import Examples, TrainParameters
from tests.measures.tokenising import most_memory
from tests.tweets import chosen, tiny_tokenizer, tweets


def test_rows_come_ordered_by_id_whatever_order_they_were_loaded_in(warehouse: DuckDBWarehouse) -> None:
    made = tweets(train=20, validation=6, test=6)
    warehouse.merge([made.sample(fraction=1, shuffle=True, seed=seed) for seed in (1,)])
    read = read_rows(warehouse, "train", "validation", "test")
    assert read["id"].to_list() == sorted(made["id"])
    assert read.equals(made.select(read.columns))


def test_only_the_splits_asked_for_are_read(warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([tweets(train=20, validation=6, test=7)])
    assert set(read_rows(warehouse, "train", "validation")["split"]) == {"train", "validation"}
    assert len(read_rows(warehouse, "test")) == 7


def test_a_split_without_rows_still_has_the_columns(warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([tweets(train=3, validation=0, test=0)])
    read = read_rows(warehouse, "test")
    assert read.shape == (0, 5)
    assert read.schema == read_rows(warehouse, "train").schema


def test_held_out_rows_have_what_slices_need(warehouse: DuckDBWarehouse) -> None:
    made = tweets(train=20, validation=6, test=7).with_columns(lang=pl.lit(None, pl.String))
    warehouse.merge([made])
    rows, excluded = read_held_out(warehouse)
    wanted = made.filter(pl.col("split") == "test").sort("id").select(rows.columns)
    assert rows.equals(wanted)
    assert rows.columns == [
        *("id", "text", "label", "human_label", "lang", "source", "created_at"),
    ]
    assert (rows.schema["label"], excluded) == (pl.Int8, {})
    assert digest(rows) == digest(wanted)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_held_out_rows_that_were_learned_from_are_left_out(warehouse: DuckDBWarehouse, split: str) -> None:
    """A table that was loaded under two rules of splitting; retweets and near-copies count as the same."""
    made = tweets(train=20, validation=6, test=7, seed=3).with_columns(
        cleaned_text=pl.concat_str(pl.lit("Row "), "id")
    )
    known = made.filter(pl.col("split") == split)[:2]
    near = pl.concat_str(pl.lit("RT  "), pl.col("cleaned_text").str.to_uppercase(), pl.lit(" !!"))
    copies = known.with_columns(
        id=pl.concat_str(pl.lit("copy:"), "id"), split=pl.lit("test"), cleaned_text=near
    )
    warehouse.merge([made, copies])
    rows, excluded = read_held_out(warehouse)
    assert len(rows) == 7 and not any(rows["id"].str.starts_with("copy:"))
    assert excluded == {"rows whose text is among the training or validation rows": 2}


def test_labels_that_are_none_of_ours_do_not_judge(tmp_path: Path) -> None:
    """A table that another program has written: labels are floating-point numbers, NaN and 7 among them."""
    import duckdb

    path = tmp_path / "other.duckdb"
    made = tweets(train=3, validation=0, test=6).with_columns(
        label=pl.Series([0.0, 1, 2, 0, 1, math.nan, 7, 1, 2]),
        human_label=pl.Series([0.0, 1, 2, math.nan, None, 2, 1.5, -1, 0]),
    )
    with duckdb.connect(str(path)) as connection:
        connection.register("made", made.to_arrow())
        connection.execute("CREATE TABLE PROCESSED_TWEETS AS SELECT * FROM made")
    rows, excluded = read_held_out(DuckDBWarehouse(path=str(path)))
    assert rows["label"].to_list() == [0, 1, None, None, 1, 2]
    assert rows["human_label"].to_list() == [None, None, 2, None, None, 0]
    assert rows.schema["human_label"] == pl.Int8
    assert excluded == {"textblob labels that are none of ours": 2, "human labels that are none of ours": 3}


def test_a_missing_table_names_the_remedy(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(WarehouseError, match=r"PROCESSED_TWEETS.*python -m flows\.etl"):
        read_rows(warehouse, "train")


def test_an_empty_table_cannot_be_trained_on(warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([tweets(train=0, validation=0, test=0)])
    kinds: tuple[LabelKind, ...] = ("textblob", "human")
    for kind in kinds:
        with pytest.raises(RowsError, match=r"all missing.*python -m flows\.etl"):
            read_labelled(warehouse, kind)


def test_no_human_labels() -> None:
    rows = tweets(train=30, validation=6, test=0).with_columns(human_label=pl.lit(None, pl.Int8))
    with pytest.raises(RowsError, match=r"human label.*--source file --path F.*--labels textblob"):
        chosen(rows, "human")
    assert [len(part) for part in chosen(rows, "textblob")] == [30, 6, 6]


@pytest.mark.parametrize(
    ("kind", "column", "name"), [("textblob", "label", "negative"), ("human", "human_label", "positive")]
)
def test_one_class_only(kind: LabelKind, column: str, name: str) -> None:
    label = {"negative": 1, "positive": 2}[name]
    rows = tweets(train=30, validation=6).with_columns(pl.lit(label, pl.Int8).alias(column))
    with pytest.raises(RowsError, match=rf"the {kind} labels .* all {name}: .*python -m flows\.etl"):
        chosen(rows, kind)


def test_a_second_class_in_the_validation_split_does_not_help() -> None:
    rows = tweets(train=30, validation=6, test=0).with_columns(
        label=pl.when(pl.col("split") == "train").then(0).otherwise(pl.col("label")).cast(pl.Int8)
    )
    with pytest.raises(RowsError, match="all neutral"):
        chosen(rows, "textblob")


def test_labels_outside_the_rows_to_train_on_count_as_missing() -> None:
    rows = tweets(train=30, validation=6, test=0).with_columns(
        human_label=pl.when(pl.col("split") == "validation").then(pl.col("label")).cast(pl.Int8)
    )
    with pytest.raises(RowsError, match="all missing"):
        chosen(rows, "human")


def test_no_validation_rows() -> None:
    rows = tweets(train=1200, validation=0, test=0)
    with pytest.raises(RowsError, match=r"None of the 1,200 .*validation.*python -m flows\.etl"):
        chosen(rows, "textblob")


def test_no_validation_rows_with_a_label_of_the_kind() -> None:
    rows = tweets(train=30, validation=6, test=0).with_columns(
        human_label=pl.when(pl.col("split") == "train").then(pl.col("label")).cast(pl.Int8)
    )
    with pytest.raises(RowsError, match="None of the 30 labelled rows"):
        chosen(rows, "human")


def test_targets_are_the_labels_of_the_kind_asked_for() -> None:
    rows = tweets(train=30, validation=6, test=0).with_columns(
        human_label=pl.when(pl.col("human_label").is_not_null()).then(2 - pl.col("label")).cast(pl.Int8)
    )
    weak, human = chosen(rows, "textblob"), chosen(rows, "human")
    for found, column in ((weak, "label"), (human, "human_label")):
        for part, split in ((found.train, "train"), (found.validation, "validation")):
            expected = rows.filter(pl.col("split") == split).drop_nulls(column)
            assert part.targets.dtype == "int8"
            pairs = zip(part, part.targets.tolist(), strict=True)
            assert sorted(pairs) == sorted(expected.select("text", column).rows())
    assert len(human.train) + len(human.validation) == len(rows) // 2
    assert sorted(human.judging) == sorted(rows.filter(pl.col("split") == "validation")["text"])
    assert (human.judging.targets >= 0).sum() == len(human.validation)


def test_rows_are_the_same_in_whatever_order_and_batches_they_come(tmp_path: Path) -> None:
    made = tweets(train=200, validation=31, test=9)
    whole = chosen(made, "human")
    recipe = TrainParameters(tokenizer=tiny_tokenizer(tmp_path), labels="human")
    expected = material.prepare(recipe, whole)
    for size in (1, 7, 64):
        parts = chosen(made.sample(fraction=1, shuffle=True, seed=size), "human", size)
        assert parts.digest == whole.digest
        assert [list(part) for part in parts] == [list(part) for part in whole]
        numbers = material.prepare(recipe, parts)
        for part, same in ((numbers.train, expected.train), (numbers.validation, expected.validation)):
            np.testing.assert_array_equal(part.tokens.values, same.tokens.values)
            np.testing.assert_array_equal(part.tokens.lengths, same.tokens.lengths)
            np.testing.assert_array_equal(part.targets, same.targets)
    assert (
        list(whole.train)
        != made.filter(pl.col("split") == "train").drop_nulls("human_label")["text"].to_list()
    )


def test_texts_are_kept_to_the_letter() -> None:
    odd = ["", "line\nand\r\nline", "\u2028 \x85 \x0b", "\N{GRINNING FACE} é", '"quoted" \\n']
    made = tweets(train=30, validation=5, test=0)
    made = made.with_columns(text=pl.Series([*odd, *made["text"][5:-5], *odd]))
    found = chosen(made, "textblob", 3)
    assert sorted(found.validation) == sorted(odd)
    assert sorted(found.train) == sorted(made["text"][:30])


def test_a_fingerprint_is_of_all_rows_with_a_label() -> None:
    made = tweets(train=30, validation=6, test=3)
    same = made.with_columns(split=pl.col("split").replace("test", "other"), tokens=pl.lit("other"))
    unlabelled = made.filter(~((pl.col("split") == "train") & pl.col("human_label").is_null()))
    assert chosen(made, "human").digest == chosen(same, "human").digest == chosen(unlabelled, "human").digest
    others = [made[1:], made[:-4], made.with_columns(text=pl.col("text") + "!")]
    others += [made.with_columns(label=(pl.col("label") + 1) % 3), unlabelled]
    digests = {chosen(each, "textblob").digest for each in (made, *others)}
    assert len(digests) == 1 + len(others)


def test_a_batch_and_its_memory_are_dropped_before_the_next_one_is_read() -> None:
    alive: list[weakref.ref[NDArray[np.int8]]] = []
    made = tweets(train=300, validation=300, test=0)

    def batches(split: str) -> Iterator[pl.DataFrame]:
        for start in range(0, 300, 10):
            assert sum(memory() is not None for memory in alive) <= 1
            frame = made.filter(pl.col("split") == split)[start:][:10]
            memory = frame["label"].to_numpy().copy()
            alive.append(weakref.ref(memory))
            labels = pa.Array.from_buffers(pa.int8(), len(frame), [None, pa.py_buffer(memory)])
            frame = frame.with_columns(label=pl.Series(labels))
            del memory, labels
            yield frame
            del frame

    labelled = labelled_rows(batches("train"), batches("validation"), "textblob")
    assert len(alive) == 60 and len(labelled.train) == 300


def test_memory_hardly_grows_with_the_rows() -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # takes no time

    def batches(count: int) -> Iterator[pl.DataFrame]:
        for start in range(0, count, 1000):
            number = pl.int_range(start, start + 1000, eager=True)
            label = (number % 3).cast(pl.Int8)
            made = pl.select(id=number.cast(pl.String), label=label, human_label=label)
            yield made.with_columns(text=pl.format("{}{}", "id", pl.lit("x" * 1000)))

    def prepared(count: int) -> Examples:
        part = read_part(batches(count), "textblob")
        return Examples(encode(tokenizer, part), part.targets)

    prepared(10_000)
    with most_memory() as memory:
        assert len(prepared(100_000).targets) == 100_000
    assert memory[0] < 50e6, "the texts alone are 100 MB"


def test_the_digest_tells_rows_apart() -> None:
    rows = tweets(train=10, validation=2, test=2)
    assert digest(rows) == digest(rows.clone())
    other = pl.when(pl.col("id") == rows["id"][3]).then((pl.col("label") + 1) % 3).otherwise("label")
    changed = rows.with_columns(label=other.cast(pl.Int8))
    assert len({digest(rows), digest(changed), digest(rows[:-1]), digest(rows[::-1])}) == 4
