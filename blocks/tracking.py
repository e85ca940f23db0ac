"""Tracking: where MLflow keeps runs, figures, models and their versions."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from blocks.role import Role, local_path

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Tracking(Role):
    """An MLflow tracking server and model registry."""

    slot: ClassVar[str] = "sentiment-tracking"
    kinds: ClassVar[Mapping[str, str]] = {
        "local-tracking": "blocks.tracking",
        "mlflow-server": "blocks.tracking",
    }

    experiment: str = Field(default="sentiment", description="MLflow experiment that the runs go to.")
    model: str = Field(default="sentiment", description="Name of the registered model.")

    @abstractmethod
    def uri(self) -> str:
        """Return MLflow's tracking URI; it holds no secret."""

    @abstractmethod
    def prepare(self) -> str:
        """Make ready what has to exist before the first run and return the experiment's id."""

    @abstractmethod
    def where(self) -> str:
        """Tell a person where to look at the runs."""

    def client(self) -> "MlflowClient":
        """Return a client of this server."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri())

    @contextmanager
    def connected(self) -> Iterator[str]:
        """Point MLflow's fluent API at this server for a while; yields the experiment's id."""
        import mlflow

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.uri())
        try:
            yield self.prepare()
        finally:
            mlflow.set_tracking_uri(before)


class LocalTracking(Tracking):
    """MLflow on SQLite and a folder of this machine; no server runs."""

    _block_type_name = "Local Tracking"
    _block_type_slug = "local-tracking"

    folder: str = Field(default=".local/mlflow", description="Folder; a relative one starts at the checkout.")

    def uri(self) -> str:  # noqa: D102
        return f"sqlite:///{local_path(self.folder) / 'mlflow.db'}"

    def prepare(self) -> str:  # noqa: D102
        local_path(self.folder).mkdir(parents=True, exist_ok=True)
        client = self.client()
        found = client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        artifacts = (local_path(self.folder) / "artifacts").as_uri()
        return str(client.create_experiment(self.experiment, artifact_location=artifacts))

    def where(self) -> str:  # noqa: D102
        return "`make ui`, then http://127.0.0.1:5000"

    def check(self) -> str:  # noqa: D102
        self.prepare()
        return f"MLflow on {self.uri()}"
