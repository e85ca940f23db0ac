"""The MLflow model around a bundle, logged as code: text in, label and probabilities out.

    mlflow.pyfunc.log_model(name="model", python_model="containers/serve/model.py",
                            artifacts={"bundle": folder}, code_paths=["containers"], ...)

MLflow runs this file when it logs and when it loads a model (MLflow, "Models From Code"): it is a script.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from containers.serve.predictor import Predictor


class SentimentModel(PythonModel):
    """Answers with the predictor over the artifact `bundle`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle, once for each process."""
        self.predictor = Predictor(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row for each text, with the index of the input.

        Args:
            context: Not used.
            model_input: A frame with a column `text` of strings; or a list of strings.
            params: Not used.

        Returns:
            `label` (str), `p_negative`, `p_neutral`, `p_positive` (float64).

        Raises:
            ValueError: The frame has no column `text`.
        """
        texts, index = _texts(model_input)
        return pd.DataFrame(self.predictor.predict(texts), index=index, columns=list(self.predictor.columns))


def _texts(model_input: pd.DataFrame | Sequence[str]) -> tuple[list[str], pd.Index | None]:
    if not isinstance(model_input, pd.DataFrame):
        return list(model_input), None
    if "text" not in model_input.columns:
        columns = ", ".join(map(str, model_input.columns[:20]))
        raise ValueError(f"The input has the columns {columns}: name the one with the texts `text`.")
    return model_input["text"].tolist(), model_input.index


set_model(SentimentModel())
