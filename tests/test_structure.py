"""What keeps the rooms apart."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "deployments": {"deployments", "flows", "tasks", "blocks"},
    "flows": {"flows", "tasks", "blocks", "containers"},
    "tasks": {"tasks", "blocks", "containers"},
    "blocks": {"blocks"},
    "containers": {"containers"},
}
MODULES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
HEAVY = (
    "tensorflow",
    "keras",
    "mlflow",
    "optuna",
    "matplotlib",
    "checklist",
    "spacy",
    "snscrape",
    "tweepy",
    "textblob",
    "sklearn",
    "duckdb",
)


def files() -> set[Path]:
    """Return what the repository holds, less what tools that run beside this test may write."""
    caches = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
    left_out = caches | {".venv", ".git", ".local"}
    return {path for path in ROOT.rglob("*") if not set(path.parts) & left_out}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert imported(path) & MAY_IMPORT.keys() <= MAY_IMPORT[room]


def test_importing_every_module_does_nothing(tmp_path: Path) -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    names = [name for name in names if name != "containers.serve.model"]  # a script that MLflow runs
    code = (
        f"import sys\nfor name in {names}: __import__(name)\nprint([h for h in {HEAVY} if h in sys.modules])"
    )
    home = tmp_path / "home"
    before = files()
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", "PREFECT_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"
    after = files()
    assert after == before


def test_files_stay_short() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 420} == {}
