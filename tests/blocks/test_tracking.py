"""MLflow on this machine's files."""

import mlflow

from blocks.tracking import LocalTracking


def test_the_experiment_is_made_once(tracking: LocalTracking) -> None:
    assert tracking.prepare() == tracking.prepare()
    (experiment,) = [e for e in tracking.client().search_experiments() if e.name == "sentiment"]
    assert experiment.artifact_location.startswith("file://")
    assert tracking.folder in experiment.artifact_location


def test_a_connection_ends_where_it_began(tracking: LocalTracking) -> None:
    before = mlflow.get_tracking_uri()
    with tracking.connected() as experiment:
        assert mlflow.get_tracking_uri() == tracking.uri()
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.log_metric("loss", 1.0, step=1)
    assert mlflow.get_tracking_uri() == before
    assert tracking.client().get_run(run.info.run_id).data.metrics == {"loss": 1.0}
