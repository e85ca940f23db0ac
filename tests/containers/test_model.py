"""The MLflow model works where the project is not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from containers.serve.predictor import Predictor
from tests.bundles import build_bundle

ROOT = Path(__file__).parents[2]
COLUMNS = ["p_negative", "p_neutral", "p_positive"]
SIGNATURE = ModelSignature(
    Schema([ColSpec("string", "text")]),
    Schema([ColSpec("string", "label"), *(ColSpec("double", name) for name in COLUMNS)]),
)
TEXTS = ["I love it", "", "\N{PILE OF POO}", "I hate it"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tracking store in `tmp_path`, with nothing written beside it."""
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield tmp_path
    mlflow.set_tracking_uri(before)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_logged_here_loaded_elsewhere(store: Path) -> None:
    bundle = store / "bundle"
    build_bundle(bundle)
    experiment = mlflow.create_experiment("test", artifact_location=(store / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(ROOT / "containers/serve/model.py"),
            artifacts={"bundle": str(bundle)},
            code_paths=[str(ROOT / "containers")],
            signature=SIGNATURE,
            pip_requirements=["onnxruntime", "tokenizers"],
        )
    expected = pd.DataFrame(Predictor(bundle).predict(TEXTS))
    frame = pd.DataFrame({"text": TEXTS}, index=[5, 6, 7, 8])
    model = mlflow.pyfunc.load_model(logged.model_uri)
    pd.testing.assert_frame_equal(model.predict(frame), expected.set_index(frame.index))
    inside = model.unwrap_python_model()
    pd.testing.assert_frame_equal(inside.predict(None, TEXTS), expected)
    with pytest.raises(ValueError, match="columns tweet: name the one with the texts `text`"):
        inside.predict(None, pd.DataFrame({"tweet": TEXTS}))

    elsewhere = store / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import json, sys, mlflow, pandas as pd\n"
        f"model = mlflow.pyfunc.load_model({logged.model_uri!r})\n"
        f"frame = model.predict(pd.DataFrame({{'text': {TEXTS!r}}}))\n"
        "import containers\n"
        "print(json.dumps([containers.__file__, frame.to_dict('records')]))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=environment | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file, records = json.loads(done.stdout)
    assert not Path(file).is_relative_to(ROOT), "the code must come from the model"
    assert records == expected.to_dict("records")
    assert not list(elsewhere.iterdir())
