"""The optimizer does what Keras' AdamW does, and leaves wordpieces alone that a batch does not have."""

from typing import Any

import numpy as np
import pytest

from tasks.optimizer import WARM_UP_SHARE, build_optimizer

RATE, DECAY, STEPS = 1e-2, 0.01, 100
ROWS, WORDS = 16, 50


def network(optimizer: Any) -> Any:
    """Words to an LSTM to three logits, the same weights each time."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32")
    hidden = layers.LSTM(5)(layers.Embedding(WORDS, 8)(ids))
    model = keras.Model(ids, layers.Dense(3)(hidden))
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    return model


def keras_optimizer() -> Any:
    """Keras' own AdamW with the same schedule."""
    from keras import optimizers

    warm_up = round(WARM_UP_SHARE * STEPS)
    schedule = optimizers.schedules.CosineDecay(
        0.0, STEPS - warm_up, warmup_target=RATE, warmup_steps=warm_up
    )
    adamw = optimizers.AdamW(schedule, DECAY, clipnorm=1.0)
    adamw.exclude_from_weight_decay(var_names=["embeddings"])
    return adamw


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Texts in which no word comes twice: of those that do, Keras adds up the squares of the slopes."""
    words = np.random.default_rng(0).permutation(WORDS)[: ROWS * 3].reshape(ROWS, 3)
    return words, np.eye(3, dtype=np.float32)[np.random.default_rng(1).integers(0, 3, ROWS)]


def test_its_steps_are_those_of_keras() -> None:
    ours, theirs = network(build_optimizer(RATE, DECAY, STEPS)), network(keras_optimizer())
    theirs.set_weights(ours.get_weights())  # seeds alone would do, if no thread beside drew a number
    for _ in range(20):
        for model in (ours, theirs):
            model.train_on_batch(*batch())
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_a_word_that_comes_twice_has_the_sum_of_its_slopes() -> None:
    words, answers = batch()
    model, once = (network(build_optimizer(RATE, DECAY, STEPS)) for _ in range(2))
    once.set_weights(model.get_weights())
    for _ in range(3):
        model.train_on_batch(np.concatenate([words, words]), np.concatenate([answers, answers]))
    for _ in range(3):
        once.train_on_batch(words, answers)
    for mine, other in zip(model.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_words_that_a_batch_has_not_stay() -> None:
    words, answers = batch()
    absent = np.setdiff1d(np.arange(WORDS), words)
    model = network(build_optimizer(RATE, DECAY, STEPS))
    before = model.get_weights()[0]
    for _ in range(5):
        model.train_on_batch(words, answers)
    after = model.get_weights()[0]
    assert len(absent) == WORDS - ROWS * 3
    np.testing.assert_array_equal(after[absent], before[absent])
    assert (np.abs(after - before).max(axis=1)[np.unique(words)] > 0).all()


def test_the_rate_rises_and_falls_to_nothing() -> None:
    schedule = build_optimizer(RATE, DECAY, STEPS)._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 50, 100)]
    assert rates[0] == 0
    assert rates[1] == pytest.approx(RATE)
    assert rates[1] > rates[2] > rates[3] == pytest.approx(0)
