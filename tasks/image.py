"""The serving image: the app of `containers/serve` with one bundle in it."""

import re
import shutil
from collections.abc import Mapping
from contextlib import closing
from hashlib import sha256
from importlib.metadata import requires
from pathlib import Path
from tempfile import TemporaryDirectory

from blocks.images import Images, ImagesError, LocalImages, TakenError
from blocks.role import ROOT
from tasks.progress import logger

NAME = "sentiment-serve"
APP = ROOT / "containers" / "serve"
PACKAGES = ("httptools", "numpy", "onnxruntime", "starlette", "tokenizers", "uvicorn", "uvloop")
"""What the app imports."""
NEEDLESS = {"huggingface-hub"}
"""What those ask for and the app does not use: its tokenizer is a file, and nothing is downloaded."""
PLATFORM = {"extra": "", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
NOISE = re.compile("--->|Removing intermediate container")
LINES = 10  # of the build's output, shown when it fails


def serving_image(images: Images, bundle: Path, version: str, digest: str) -> str:
    """Return the reference to pull of the image that serves a bundle; build and publish it if need be.

    Its tag is made of all that goes into it, so an image that is there already is the one that is wanted.

    Args:
        images: Where it goes.
        bundle: Folder of the bundle.
        version: Model version to report.
        digest: SHA-256 of its bundle.json in hex.

    Raises:
        ImagesError: The bundle is another one, or the image cannot be built or published.
    """
    found = sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    if found != digest:
        raise ImagesError(
            f"{bundle / 'bundle.json'} has the SHA-256 {found}, but {digest} is to be served: copy the "
            "bundle of that version again from where it is registered."
        )
    app = _app()
    image = f"{NAME}:{version}-{digest[:12]}-{_sum(app, images.build_args)[:8]}"
    if reference := images.find(image):
        logger().info("The image is there: %s", reference)
        return reference
    if LocalImages().find(image) is None:
        with TemporaryDirectory() as context:
            _lay_out(Path(context), app, bundle, version)
            _build(Path(context), image, {"VERSION": version, "DIGEST": digest} | images.build_args)
    logger().info("Publishing %s", image)
    try:
        reference = images.publish(image)
    except TakenError:  # another deploy of the same bundle was faster
        reference = images.find(image)
        if reference is None:
            raise
    logger().info("Published %s", reference)
    return reference


def packages(lock: str) -> str:
    """Return the part of a lock file that the app needs, with versions, markers and hashes.

    Args:
        lock: requirements.lock, from which this environment was installed.

    Raises:
        ImagesError: The lock lacks a package.
    """
    entries = {
        entry.split("==")[0]: entry for entry in re.findall(r"^\S+==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    }
    wanted = sorted(_closure())
    if lacking := [name for name in wanted if name not in entries]:
        raise ImagesError(
            f"requirements.lock lacks {', '.join(lacking)}: run `make lock`, then `make setup`."
        )
    return "".join(entries[name] for name in wanted)


def _closure() -> set[str]:
    """Return the names of the packages that the app needs on Linux."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    names: set[str] = set()
    ahead = list(PACKAGES)
    while ahead:
        name = str(canonicalize_name(ahead.pop()))
        if name in names or name in NEEDLESS:
            continue
        names.add(name)
        asked = map(Requirement, requires(name) or ())
        ahead += [one.name for one in asked if one.marker is None or one.marker.evaluate(PLATFORM)]
    return names


def _app() -> dict[str, bytes]:
    """Return the files of the context that are the same for all bundles, by their paths in it."""
    files = {f"containers/serve/{path.name}": path.read_bytes() for path in sorted(APP.glob("*.py"))}
    del files["containers/serve/model.py"]  # MLflow's
    lock = (ROOT / "requirements.lock").read_text()
    return files | {"Dockerfile": (APP / "Dockerfile").read_bytes(), "packages.txt": packages(lock).encode()}


def _sum(app: Mapping[str, bytes], build_args: Mapping[str, str]) -> str:
    """Return a SHA-256 in hex of the files and of what the build is told."""
    parts = [(name, sha256(content).hexdigest()) for name, content in sorted(app.items())]
    return sha256(repr((parts, sorted(build_args.items()))).encode()).hexdigest()


def _lay_out(context: Path, app: Mapping[str, bytes], bundle: Path, version: str) -> None:
    shutil.copytree(bundle, context / "bundle")
    for name, content in {**app, "bundle/version": version.encode()}.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_bytes(content)
    for path in context.rglob("*"):  # whoever runs the image must be able to read it
        path.chmod(0o755 if path.is_dir() else 0o644)


def _build(context: Path, image: str, build_args: Mapping[str, str]) -> None:
    """Build with the classic builder: one platform, no attestations, which SageMaker does not take."""
    from docker.client import DockerClient

    logger().info("Building %s", image)
    said: list[str] = []
    with closing(DockerClient.from_env(timeout=600)) as engine:
        options = {
            "path": str(context),
            "tag": image,
            "buildargs": dict(build_args),
            "rm": True,
            "forcerm": True,
        }
        for answer in engine.api.build(**options, decode=True):
            if "error" in answer:
                last = " | ".join(said[-LINES:])
                raise ImagesError(f"Building {image} failed: {answer['error'].strip()}. It said last: {last}")
            for line in answer.get("stream", "").splitlines():
                if (line := re.sub(r"\x1b\[[\d;]*m", "", line).strip()) and not NOISE.match(line):
                    said.append(line)
                    logger().info(line) if line.startswith("Step ") else logger().debug(line)
