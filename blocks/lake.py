"""The lake: where parquet files and their manifests lie between the steps of ETL."""

import hashlib
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import polars as pl
from pydantic import Field

from blocks.role import BlockError, Resource, Role, local_path, local_resources

PART = ".tmp"  # ends the name of a file that is being written


class LakeError(BlockError):
    """Raised when the lake cannot be read or written; says where and what to do."""


class File(NamedTuple):
    """A file of the lake."""

    key: str
    tag: str
    """Changes whenever the content does."""


class Lake(Role):
    """Files under keys such as `raw/sample/3f2a/part-00000.parquet`, each written whole or not at all."""

    slot: ClassVar[str] = "sentiment-lake"
    kinds: ClassVar[Mapping[str, str]] = {"local-lake": "blocks.lake", "s3-lake": "blocks.s3"}

    @abstractmethod
    def uri(self, key: str) -> str:
        """Return the full address of `key`, fit for a person and for polars."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Tell whether a file lies under `key`."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return the bytes under `key`.

        Raises:
            FileNotFoundError: There are none.
        """

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Put `data` under `key`; a reader sees all of it or none."""

    @abstractmethod
    def write_frame(self, key: str, frame: pl.DataFrame) -> None:
        """Put `frame` under `key` as parquet; a reader sees all of it or none."""

    @abstractmethod
    def scan(self, keys: list[str]) -> pl.LazyFrame:
        """Return the rows of the parquet files under `keys`, in that order, lazily."""

    @abstractmethod
    def find(self, place: str) -> list[File]:
        """Return the files in the folder `place` and below it, or the file `place`, in the order of keys."""

    @abstractmethod
    def fetch(self, key: str, path: Path) -> None:
        """Copy the file under `key` to a path of this machine, in bounded memory.

        Raises:
            FileNotFoundError: There is none.
        """

    @abstractmethod
    def put(self, key: str, path: Path) -> None:
        """Copy a file of this machine to `key`, in bounded memory; a reader sees all of it or none."""

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Delete all files in a folder and below it; none need be there."""


class LocalLake(Lake):
    """A lake in a folder of this machine."""

    _block_type_name = "Local Lake"
    _block_type_slug = "local-lake"

    folder: str = Field(default=".local/lake", description="Folder; a relative one starts at the checkout.")

    def _path(self, key: str) -> Path:
        return local_path(self.folder) / key

    def uri(self, key: str) -> str:  # noqa: D102
        return str(self._path(key))

    def exists(self, key: str) -> bool:  # noqa: D102
        return self._path(key).is_file()

    def read(self, key: str) -> bytes:  # noqa: D102
        return self._path(key).read_bytes()

    def write(self, key: str, data: bytes) -> None:  # noqa: D102
        self._write(key, lambda part: part.write_bytes(data))

    def put(self, key: str, path: Path) -> None:  # noqa: D102
        self._write(key, lambda part: shutil.copyfile(path, part))

    def _write(self, key: str, fill: Callable[[Path], object]) -> None:
        path = self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fill(part)
            part.replace(path)
        except OSError as error:
            raise self._unwritable(path, error) from error
        finally:
            if part.exists():
                part.unlink()

    def write_frame(self, key: str, frame: pl.DataFrame) -> None:  # noqa: D102
        from io import BytesIO

        buffer = BytesIO()
        frame.write_parquet(buffer)
        self.write(key, buffer.getvalue())

    def scan(self, keys: list[str]) -> pl.LazyFrame:  # noqa: D102
        return pl.scan_parquet([self._path(key) for key in keys])

    def find(self, place: str) -> list[File]:  # noqa: D102
        root, path = local_path(self.folder), self._path(place)
        found = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        files = []
        for one in found:
            if not one.name.endswith(PART):
                with one.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                files.append(File(one.relative_to(root).as_posix(), digest))
        return sorted(files)

    def fetch(self, key: str, path: Path) -> None:  # noqa: D102
        shutil.copyfile(self._path(key), path)

    def remove(self, folder: str) -> None:  # noqa: D102
        try:
            if self._path(folder).is_dir():
                shutil.rmtree(self._path(folder))
        except OSError as error:
            raise self._unwritable(self._path(folder), error) from error

    def check(self) -> str:  # noqa: D102
        self.write("check", b"")
        return f"folder {local_path(self.folder)}"

    def resources(self) -> list[Resource]:  # noqa: D102
        return local_resources("folder of the lake", self.folder)

    def _unwritable(self, path: Path, error: OSError) -> LakeError:
        folder = local_path(self.folder)
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free / 2**20
        return LakeError(
            f"Cannot write {path}: {error.strerror} ({free:,.0f} MiB free). Free some space or make the "
            f"folder writable, or save another `{self._block_type_slug}` block as {self.slot!r}, then run "
            "again: finished steps are not repeated."
        )
