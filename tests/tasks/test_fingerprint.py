"""Fingerprints: another input, another name; the same input, the same name on every machine."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import BaseModel

from tasks.fingerprint import fingerprint


class Options(BaseModel):
    name: str = "a"
    size: int = 1


class Others(BaseModel):
    name: str = "a"
    size: int = 1


def test_it_is_short_and_stays_the_same() -> None:
    assert fingerprint() == "e3b0c44298fc1c14"
    assert fingerprint("a", 1, None, (0.0, 0.25)) == "01ef7c678ac7bc61"


def test_it_is_the_same_in_another_process() -> None:
    code = (
        "from tasks.fingerprint import fingerprint; print(fingerprint('a', {'k': 1}, packages=('polars',)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == fingerprint("a", {"k": 1}, packages=("polars",))


def test_every_input_counts() -> None:
    inputs = [
        (),
        ("",),
        ("a",),
        ("b",),
        ("a", "b"),
        ("b", "a"),
        ("ab",),
        ("a\0b",),
        (1,),
        ("1",),
        (1.0,),
        (True,),
        (None,),
        (("a", "b"),),
        (Options(),),
        (Options(size=2),),
        (Options(name="b"),),
    ]
    assert len({fingerprint(*values) for values in inputs}) == len(inputs)


def test_models_count_by_their_fields() -> None:
    assert fingerprint(Options()) == fingerprint(Options(size=1)) == fingerprint(Others())


def test_packages_count_by_their_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint("a", packages=("polars",))
    assert before == fingerprint("a", packages=("polars",))
    assert before not in {fingerprint("a"), fingerprint("a", packages=("duckdb",))}
    monkeypatch.setattr("tasks.fingerprint.version", lambda name: version(name) + ".post1")
    assert fingerprint("a", packages=("polars",)) != before


def test_modules_count_by_their_source(tmp_path: Path) -> None:
    """Each source is read in a process of its own, as after an edit."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import edited\n"
        "from tasks.fingerprint import fingerprint; print(fingerprint(edited))"
    )
    found = []
    for number, source in enumerate(["LIMIT = 1\n", "LIMIT = 2\n", "LIMIT = 1\n"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "edited.py").write_text(source)
        command = [sys.executable, "-c", code, str(folder)]
        found.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found[0] == found[2] != found[1]
