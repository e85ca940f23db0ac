"""What a fit leaves in the lake."""

from pathlib import Path

import numpy as np
import pytest

from blocks.lake import LakeError, LocalLake
from tasks.quantization import Quantization
from tasks.trained import (
    BUNDLE,
    Fit,
    Fitted,
    Lesson,
    Trained,
    fetch_bundle,
    find_lesson,
    find_trained,
    lesson_key,
    read_lesson,
    write_lesson,
    write_trained,
)
from tasks.training import TrainParameters
from tests.bundles import build_bundle


def fit(key: str = "first") -> Fit:
    return Fit(
        identity="aaaa",
        key=key,
        parameters=TrainParameters(),
        device="CPU",
        flow_run="none",
        began=1_000,
        inputs={},
    )


def fitted(folder: Path, key: str = "first", flipped: bool = False) -> Fitted:
    digest = build_bundle(folder, flipped=flipped, made_for=key)
    epoch = {"loss": 0.5, "accuracy": 0.1, "val_loss": 0.25, "val_accuracy": 1 / 3}
    made = Trained(
        fit=fit(key),
        rows=9,
        epochs=(epoch,),
        ends=(2_000,),
        stopped="all epochs",
        quantization=Quantization(precision="fp32", fall=None, megabytes=0.1),
        teacher=None,
        scores=(),
        seconds=1.5,
        digest=digest,
    )
    return Fitted(made, {name: (folder / name).read_bytes() for name in BUNDLE})


class Full(LocalLake):
    """A lake without room for a manifest."""

    _block_type_name = "Full Lake"
    _block_type_slug = "full-lake"

    def write(self, key: str, data: bytes) -> None:
        if key.endswith("manifest.json"):
            raise LakeError("No space left.")
        super().write(key, data)


def test_it_comes_back_as_it_was(lake: LocalLake, tmp_path: Path) -> None:
    assert find_trained(lake, "aaaa") is None
    written = fitted(tmp_path / "bundle")
    write_trained(lake, written)
    found = find_trained(lake, "aaaa")
    assert found == written.trained, "every digit of every metric"
    folder = fetch_bundle(lake, found, tmp_path / "fetched")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written.bundle
    assert find_trained(lake, "bbbb") is None


def test_what_was_cut_short_does_not_count(lake: LocalLake, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="No space left"):
        write_trained(Full(folder=lake.folder), fitted(tmp_path / "bundle"))
    assert len(list(Path(lake.folder).rglob("*.onnx"))) == 1
    assert find_trained(lake, "aaaa") is None


def test_a_second_fit_leaves_the_first_whole_until_it_is_whole(lake: LocalLake, tmp_path: Path) -> None:
    write_trained(lake, fitted(tmp_path / "bundle"))
    with pytest.raises(LakeError):
        write_trained(Full(folder=lake.folder), fitted(tmp_path / "other", "second", flipped=True))
    found = find_trained(lake, "aaaa")
    assert found is not None and found.fit.key == "first"
    fetch_bundle(lake, found, tmp_path / "fetched")


@pytest.mark.parametrize("name", BUNDLE)
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_damage_is_told(lake: LocalLake, tmp_path: Path, name: str, content: bytes | None) -> None:
    written = fitted(tmp_path / "bundle")
    write_trained(lake, written)
    path = Path(lake.uri(f"trained/aaaa/first/{name}"))
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(LakeError, match="trained/aaaa is damaged: delete that folder and run again"):
        fetch_bundle(lake, written.trained, tmp_path / "fetched")


def test_the_bundle_of_another_fit_is_not_taken_for_it(lake: LocalLake, tmp_path: Path) -> None:
    written = fitted(tmp_path / "bundle")
    write_trained(lake, written)
    build_bundle(Path(lake.uri("trained/aaaa/first")), flipped=True)
    with pytest.raises(LakeError, match="is damaged"):
        fetch_bundle(lake, written.trained, tmp_path / "fetched")


def test_a_manifest_of_another_format_is_none(lake: LocalLake, tmp_path: Path) -> None:
    write_trained(lake, fitted(tmp_path / "bundle"))
    lake.write("trained/aaaa/manifest.json", b'{"identity": "aaaa"}')
    assert find_trained(lake, "aaaa") is None


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_what_a_teacher_said_comes_back_as_it_was_or_not_at_all(lake: LocalLake, damage: bytes) -> None:
    assert find_lesson(lake, "a") is None
    write_lesson(lake, "a", Lesson(np.full((2, 3), 1 / 3, np.float32), np.ones((1, 3), np.float32), 0.75))
    found = find_lesson(lake, "a")
    assert found is not None
    assert (found.soft.shape, found.soft.dtype, found.macro_recall) == ((2, 3), np.float32, 0.75)
    assert (found.excerpts.shape, found.excerpts.dtype) == ((1, 3), np.float32)
    lake.write(lesson_key("a"), damage)
    assert find_lesson(lake, "a") is None
    with pytest.raises(LakeError, match=r"lessons/a.npz, is damaged or gone: run again"):
        read_lesson(lake, "a")
