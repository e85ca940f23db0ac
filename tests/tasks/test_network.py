"""The networks give three logits a text."""

import numpy as np
import pytest

from tasks.network import NetworkName, build_network

NETWORKS: tuple[NetworkName, ...] = ("pooled", "stacked")
VOCABULARY = 60
EMBEDDINGS = np.random.default_rng(0).normal(0, 0.5, (VOCABULARY, 12)).astype(np.float32)


def batch() -> np.ndarray:
    """Five texts of 9 tokens."""
    return np.random.default_rng(7).integers(1, VOCABULARY, (5, 9), dtype=np.int32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_text_gets_three_logits_that_depend_on_its_words(name: NetworkName) -> None:
    model = build_network(name, VOCABULARY, EMBEDDINGS)
    ids = batch()
    logits = np.array(model(ids, training=False))
    assert (model.name, logits.shape, logits.dtype) == (name, (5, 3), np.float32)
    assert np.isfinite(logits).all()
    ids[:, 1] = ids[:, 1] % (VOCABULARY - 1) + 1
    assert (np.abs(np.array(model(ids, training=False)) - logits).max(axis=1) > 1e-6).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_other_texts_of_a_batch_change_no_logit(name: NetworkName) -> None:
    model = build_network(name, VOCABULARY, EMBEDDINGS)
    together = np.array(model(batch(), training=False))
    alone = [np.array(model(row[None], training=False))[0] for row in batch()]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_pooled_starts_from_the_embeddings_and_learns_them_further() -> None:
    [embedding] = [
        layer
        for layer in build_network("pooled", VOCABULARY, EMBEDDINGS).layers
        if layer.name.startswith("embedding")
    ]
    np.testing.assert_array_equal(embedding.get_weights()[0], EMBEDDINGS)
    assert embedding.trainable


@pytest.mark.parametrize(("name", "width"), [("pooled", 128), ("stacked", 128)])
def test_without_embeddings_they_are_random(name: NetworkName, width: int) -> None:
    weights = build_network(name, VOCABULARY).get_weights()[0]
    assert weights.shape == (VOCABULARY, width)
    assert weights.std() > 0


def test_stacked_is_the_graph_of_the_airflow_project() -> None:
    layers = build_network("stacked", VOCABULARY).layers
    units = [layer.forward_layer.units for layer in layers if hasattr(layer, "forward_layer")]
    dense = [layer.units for layer in layers if type(layer).__name__ == "Dense"]
    assert (units, dense) == ([128, 64, 32], [128, 64, 3])
