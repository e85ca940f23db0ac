"""The serving image's package list and its tag, which stands for all that goes into it."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from blocks.images import ImagesError, LocalImages
from blocks.role import ROOT
from tasks import image
from tasks.image import PACKAGES, packages, serving_image

LOCK = (ROOT / "requirements.lock").read_text()


def test_packages_are_those_of_the_lock_that_the_app_needs() -> None:
    part = packages(LOCK)
    names = re.findall(r"^([\w-]+)==", part, re.MULTILINE)
    assert set(PACKAGES) <= set(names)
    assert {"anyio", "h11", "click", "protobuf"} <= set(names), "what those need"
    assert not {"huggingface-hub", "httpx", "mlflow", "tensorflow", "pip"} & set(names)
    assert part.count("==") >= len(names) < 20
    for entry in re.split(r"\n(?=\S)", part.strip()):
        assert entry in LOCK
        assert "--hash=sha256:" in entry


def test_the_app_imports_nothing_that_is_not_installed() -> None:
    imported = {
        name
        for path in (ROOT / "containers" / "serve").glob("*.py")
        if path.name != "model.py"
        for name in re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
    }
    import sys

    found_by_uvicorn = {"httptools", "uvloop"}
    assert imported - sys.stdlib_module_names - {"containers"} == set(PACKAGES) - found_by_uvicorn


def test_a_package_that_the_lock_lacks_is_named() -> None:
    with pytest.raises(ImagesError, match="lacks uvicorn: run `make lock`"):
        packages(LOCK.replace("\nuvicorn==", "\nother=="))


def test_the_tag_stands_for_app_packages_and_base() -> None:
    app = image._app()
    assert {"Dockerfile", "packages.txt", "containers/serve/app.py"} <= app.keys()
    assert "containers/serve/model.py" not in app
    sums = {
        image._sum(app, {}),
        image._sum(app, {"BASE_IMAGE": "other"}),
        *(image._sum(app | {name: b"other"}, {}) for name in app),
    }
    assert len(sums) == 2 + len(app)
    assert image._sum(image._app(), {}) == image._sum(app, {})


def test_another_bundle_than_the_one_that_is_meant_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    found = sha256(b"{}").hexdigest()
    with pytest.raises(ImagesError, match=f"{found}.*copy the bundle of that version again"):
        serving_image(LocalImages(), tmp_path, "7", "0" * 64)
