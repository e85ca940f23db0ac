"""The predictor answers any string, in order, whatever else is asked with it."""

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from containers.serve import predictor as module
from containers.serve.predictor import BundleError, Predictor
from tests.bundles import LABELS, build_bundle, write_manifest


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("bundle")
    build_bundle(folder, version="7")
    return Predictor(folder)


def test_tells_love_from_hate(predictor: Predictor) -> None:
    predictions = predictor.predict(["LOVE, #great!", "hate hate", "a table", "@hate https://hate.example"])
    assert [prediction["label"] for prediction in predictions] == [
        "positive",
        "negative",
        "neutral",
        "neutral",
    ]
    for prediction in predictions:
        assert list(prediction) == ["label", "p_negative", "p_neutral", "p_positive"]
        probabilities = {name: prediction[name] for name in list(prediction)[1:]}
        assert all(type(p) is float for p in probabilities.values())
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert probabilities[f"p_{prediction['label']}"] == max(probabilities.values())


def test_says_what_it_is(predictor: Predictor, tmp_path: Path) -> None:
    digest = build_bundle(tmp_path, version="7")
    assert predictor.labels == tuple(LABELS)
    assert predictor.digest == digest == hashlib.sha256((tmp_path / "bundle.json").read_bytes()).hexdigest()
    assert predictor.metadata["version"] == "7"


def test_probabilities_are_in_the_order_of_the_labels(predictor: Predictor) -> None:
    row = predictor.probabilities(["great"])[0]
    prediction = predictor.predict(["great"])[0]
    assert row.dtype == np.float32
    assert [prediction[f"p_{label}"] for label in LABELS] == row.tolist()


def test_no_texts(predictor: Predictor) -> None:
    assert predictor.probabilities([]).shape == (0, 3)
    assert predictor.predict([]) == []


def test_neighbours_do_not_matter(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["love", "hate", "great", "table"]
    texts = [" ".join(words[(i + j) % 4] for j in range(i * 7 % 30)) for i in range(200)]
    alone = np.concatenate([predictor.probabilities([text]) for text in texts])
    together = predictor.probabilities(texts)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    monkeypatch.setattr(module, "WINDOW", 70)
    np.testing.assert_array_equal(predictor.probabilities(texts), together)


def test_batches_are_small_and_hardly_padded(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    real, batches = predictor._session, []

    class Spy:
        def run(self, names: list[str], inputs: dict[str, Any]) -> Any:
            batches.append(inputs)
            return real.run(names, inputs)

    monkeypatch.setattr(predictor, "_session", Spy())
    predictor.probabilities(["word " * (i % 10) for i in range(200)])
    assert [len(batch["lengths"]) for batch in batches] == [16] * 12 + [8]
    for batch in batches:
        ids, lengths = batch["input_ids"], batch["lengths"]
        assert ids.dtype == lengths.dtype == np.int32
        assert ids.shape == (len(lengths), lengths.max())
        assert (ids[np.arange(ids.shape[1]) >= lengths[:, None]] == 0).all()
    assert sum(batch["lengths"].sum() for batch in batches) / sum(b["input_ids"].size for b in batches) > 0.8


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\0", "\ud83d", "a\udc00b", "\N{PILE OF POO}" * 99, "x" * 10_000, "\u202e" * 10_000]
)
def test_odd_texts(predictor: Predictor, text: str) -> None:
    assert predictor.probabilities([text, "great"]).sum(axis=1) == pytest.approx([1, 1])


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=())), max_size=5))
def test_any_texts(predictor: Predictor, texts: list[str]) -> None:
    probabilities = predictor.probabilities(texts)
    assert probabilities.shape == (len(texts), 3)
    assert np.isfinite(probabilities).all()


def test_surrogates_are_replaced_not_dropped(predictor: Predictor) -> None:
    assert predictor.predict(["love\ud800love"]) == predictor.predict(["love\ufffdlove"])
    assert predictor.predict(["love \ud83d\ude00"]) == predictor.predict(["love \N{GRINNING FACE}"])


def test_a_number_is_not_a_text(predictor: Predictor) -> None:
    with pytest.raises(TypeError, match="Text 1 is of type float"):
        predictor.probabilities(["a", float("nan")])  # type: ignore[list-item]


def test_many_threads_at_once(predictor: Predictor) -> None:
    texts = ["love", "hate", "table"] * 50
    expected = predictor.predict(texts)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(predictor.predict, [texts] * 32))


def test_uses_the_threads_it_is_given(tmp_path: Path) -> None:
    build_bundle(tmp_path)
    options = Predictor(tmp_path, threads=2)._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "tokenizer.json"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    build_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing.*flows\.train"):
        Predictor(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_altered_file(tmp_path: Path, name: str) -> None:
    build_bundle(tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=rf"{name} was altered.*flows\.train"):
        Predictor(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_file_of_another_kind(tmp_path: Path, name: str) -> None:
    build_bundle(tmp_path)
    (tmp_path / name).write_bytes(b"{}")
    write_manifest(tmp_path)
    with pytest.raises(BundleError, match=rf"{name} is not a"):
        Predictor(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", b'"x"'])
def test_manifest_of_another_kind(tmp_path: Path, content: bytes) -> None:
    build_bundle(tmp_path)
    (tmp_path / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Predictor(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": 2}, "has format 2"),
        ({"labels": "negative"}, "`labels`"),
        ({"labels": ["negative", "negative", "positive"]}, "`labels`"),
        ({"labels": ["negative", "positive"]}, r"shape \(1, 3\).*2 labels"),
        ({"files": {}}, "`files`"),
    ],
)
def test_manifest_that_does_not_fit(tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    build_bundle(tmp_path, **metadata)
    with pytest.raises(BundleError, match=message):
        Predictor(tmp_path)


def test_tokenizer_must_truncate(tmp_path: Path) -> None:
    build_bundle(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write_manifest(tmp_path)
    with pytest.raises(BundleError, match="truncation"):
        Predictor(tmp_path)


def test_serving_needs_nothing_of_the_project() -> None:
    code = "import json, sys, containers.serve.app; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    heavy = {
        "blocks",
        "tasks",
        "flows",
        "prefect",
        "mlflow",
        "pandas",
        "polars",
        "tensorflow",
        "transformers",
    }
    assert heavy.isdisjoint(loaded)
