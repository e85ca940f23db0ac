"""Disk: what grows with the number of rows is kept there, in files without a name, and not in memory."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from mmap import ACCESS_READ, mmap
from shutil import disk_usage
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def spill(parts: Iterable[bytes | memoryview]) -> memoryview:
    """Return parts one after the other, in a file of TMPDIR that is gone with what is returned.

    Args:
        parts: Contiguous; each can be dropped when the next one is asked for.

    Raises:
        OSError: There is no room for them.
    """
    with _file() as file:
        for part in parts:
            file.write(part)
        file.flush()
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ) if file.tell() else b"")


def blank(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros to fill, in such a file.

    Raises:
        OSError: There is no room for it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not size:  # an empty file cannot be mapped
        return np.empty(shape, dtype)
    with _file() as file:
        if disk_usage(gettempdir()).free < size:  # or it would show on writing, and kill the process
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        file.truncate(size)
        return np.memmap(file, dtype, "r+", shape=shape)


@contextmanager
def _file() -> Iterator[IO[bytes]]:
    try:
        with TemporaryFile() as file:
            yield file
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        remedy = "where rows are kept while they are learned: free some, or set TMPDIR to another disk"
        raise OSError(ENOSPC, f"{error.strerror} in {gettempdir()}, {remedy}") from error
