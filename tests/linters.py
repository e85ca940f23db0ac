"""The linters of `make lint`, one at a time."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
LINTERS = [
    line.lstrip("\t@") for line in re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)[0].splitlines()
]


def lint(folder: Path, linter: str) -> subprocess.CompletedProcess[str]:
    """Run a line of `make lint` in a folder that holds what it is to find fault with."""
    command = next(line for line in LINTERS if f"/{linter}" in line)
    command = command.replace("$(BIN)", str(ROOT / ".venv/bin"))
    return subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
