"""What is on the disk reads as what is in memory does, leaves nothing behind, and a full disk is told."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tasks import disk


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_parts_come_back_in_a_row(folder: Path) -> None:
    held = disk.spill(part for part in (b"ab", memoryview(b"c"), b""))
    assert (bytes(held), bytes(disk.spill([])), os.listdir(folder)) == (b"abc", b"", [])


def test_a_blank_array_can_be_filled(folder: Path) -> None:
    array = disk.blank((3, 2), np.float16)
    array[[2, 0]] = [[1, 2], [3, 4]]
    assert (array.tolist(), array.dtype, os.listdir(folder)) == ([[3, 4], [0, 0], [1, 2]], np.float16, [])


def test_a_blank_array_may_be_empty(folder: Path) -> None:
    array = disk.blank((0, 2), np.float16)
    assert (array.shape, array.dtype, os.listdir(folder)) == ((0, 2), np.float16, [])


def test_a_full_disk_is_told(folder: Path) -> None:
    with pytest.raises(OSError, match=rf"No space left.*{folder}.*free some, or set TMPDIR"):
        disk.blank((2**50,), np.float64)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_fills_up_is_told(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)
    try:
        with pytest.raises(OSError, match=rf"No space left.*{folder}.*free some, or set TMPDIR"):
            disk.spill(bytes(100_000) for _ in range(20))
    finally:
        subprocess.run(["umount", folder], check=True)
