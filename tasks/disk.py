"""Disk: what grows with the number of rows is kept there, in files without a name, and not in memory."""

from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from tempfile import TemporaryFile


def spill(parts: Iterable[bytes | memoryview]) -> memoryview:
    """Return parts one after the other, in a file of TMPDIR that is gone with what is returned.

    Args:
        parts: Contiguous; each can be dropped when the next one is asked for.
    """
    with TemporaryFile() as file:
        for part in parts:
            file.write(part)
        file.flush()
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ) if file.tell() else b"")
