"""The teacher learns the rows and says how probable each label is, whatever the lengths of the texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import excerpts, teacher, tokens
from tasks.device import TrainingError
from tasks.encoder import encoder_config
from tasks.labelling import NEGATIVE, NEUTRAL, POSITIVE
from tasks.teacher import Course
from tasks.tokens import Tokens
from tasks.training import Examples, State, TrainParameters
from tests.tweets import tiny_tokenizer, tweets


def examples(folder: Path, rows: int, split: str) -> Examples:
    frame = tweets(train=rows, validation=rows, test=0)
    part = frame.filter(frame["split"] == split)
    tokenizer = tokens.build_tokenizer(folder)
    return Examples(tokens.encode(tokenizer, part["text"].to_list()), part["label"].to_numpy())


def course(folder: Path, train: Examples, validation: Examples, pieces: Tokens) -> Course:
    config = encoder_config(folder)
    assert config is not None
    return Course(folder, config, train, validation, pieces)


@pytest.mark.slow
def test_it_learns_and_its_answers_are_in_the_order_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "EPOCHS", 14)
    monkeypatch.setattr(teacher, "BATCH", 16)
    monkeypatch.setattr(teacher, "RATE", 5e-3)  # nothing was learned before
    folder = Path(tiny_tokenizer(tmp_path, encoder=True))
    train, validation = (examples(folder, 200, split) for split in ("train", "validation"))
    states: list[State] = []
    steps: list[int] = []
    pieces = excerpts.cut(train.tokens, tokens.build_tokenizer(folder))
    asked = course(folder, train, validation, pieces)
    soft, said, answers = teacher.teach(asked, None, steps.append, states.append)
    assert (said.shape, said.dtype) == ((len(pieces.lengths), 3), np.float32)
    assert len(set(train.tokens.lengths.tolist())) > 2
    for given, rows in ((soft, train), (answers, validation)):
        assert (given.shape, given.dtype) == ((len(rows.targets), 3), np.float32)
        np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
        assert np.mean(given.argmax(axis=1) == rows.targets) > 0.9
    again = teacher.teach(course(folder, train, validation, train.tokens), states[2])
    np.testing.assert_array_equal(again.train, soft)
    np.testing.assert_array_equal(again.excerpts, soft)


def test_what_to_answer_is_the_label_and_what_the_teacher_says() -> None:
    some = tokens.Tokens(np.arange(1, 4, dtype=np.int32), np.ones(3, np.int32))
    train = Examples(some, np.array([NEUTRAL, NEGATIVE, POSITIVE], np.int8))
    soft = np.array([[0.5, 0.25, 0.25], [0, 1, 0], [1, 0, 0]], np.float32)
    blended = teacher.blend(train, soft)
    np.testing.assert_allclose(blended.sum(axis=1), 1, atol=1e-6)
    share = 1 - float(teacher.TRUST)
    np.testing.assert_allclose(
        blended[0], [share + (1 - share) / 2, (1 - share) / 4, (1 - share) / 4], atol=1e-6
    )
    np.testing.assert_allclose(blended[1:], [[0, 1, 0], [1 - share, 0, share]], atol=1e-6)


def test_who_teaches(tmp_path: Path) -> None:
    bert, plain = (
        Path(tiny_tokenizer(tmp_path / name, encoder=name == "bert")) for name in ("bert", "plain")
    )

    def found(folder: Path, **recipe: Any) -> bool:
        return teacher.find_encoder(TrainParameters(**recipe), folder) is not None

    assert found(bert, labels="human") and found(bert, teacher="on")
    assert not found(bert) and not found(bert, labels="human", teacher="off")
    assert not found(plain, labels="human") and not found(bert, labels="human", network="stacked")
    with pytest.raises(TrainingError, match="plain holds no BERT: use --teacher off"):
        found(plain, teacher="on")
    with pytest.raises(TrainingError, match="`stacked` takes none: use --teacher off"):
        found(bert, teacher="on", network="stacked")
    with pytest.raises(TrainingError, match=r"reads 128 tokens at most: lower --max-tokens \(now 129\)"):
        found(bert, teacher="on", max_tokens=129)


def test_a_teacher_that_cannot_learn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "RATE", 1e30)
    monkeypatch.setattr(teacher, "BATCH", 4)
    folder = Path(tiny_tokenizer(tmp_path, encoder=True))
    train, validation = (examples(folder, 60, split) for split in ("train", "validation"))
    with pytest.raises(TrainingError, match="teacher in .* cannot be fine-tuned.*--teacher off"):
        teacher.teach(course(folder, train, validation, validation.tokens))


def test_a_teacher_that_fails_in_its_second_epoch_keeps_the_first_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(tiny_tokenizer(tmp_path, encoder=True))
    train, validation = (examples(folder, 60, split) for split in ("train", "validation"))

    def spoil(state: State) -> None:
        for value in state.variables[-4:]:
            value.fill(np.nan)

    states: list[State] = []
    teacher.teach(course(folder, train, validation, validation.tokens), on_epoch=states.append)
    spoil(states[0])
    taught = teacher.teach(course(folder, train, validation, validation.tokens), states[0])
    assert np.isfinite(taught.train).all()
    assert "In epoch 2 the teacher's loss was no number any more: the weights of epoch 1" in caplog.text


def test_there_may_be_no_excerpts(tmp_path: Path) -> None:
    folder = Path(tiny_tokenizer(tmp_path, encoder=True))
    train, validation = (examples(folder, 60, split) for split in ("train", "validation"))
    none = Tokens(np.empty(0, np.uint16), np.empty(0, np.int32))
    assert teacher.teach(course(folder, train, validation, none)).excerpts.shape == (0, 3)
