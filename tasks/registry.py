"""The model registry: versions, the aliases `challenger` and `production`, and what tags say of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blocks.tracking import Tracking, one_attempt
from tasks.gate import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER, PRODUCTION = "challenger", "production"
FINGERPRINT = "fingerprint"
STATUS = "status"
ARCHIVED = "archived"
REPLACED = REPLACED_BY, REPLACED_AT = "replaced.by", "replaced.at"


class RegistryError(RuntimeError):
    """Raised when the registry has not the version that is needed; says how to get one."""


class Version(NamedTuple):
    """A version of the registered model."""

    number: str
    run_id: str
    tags: dict[str, str]


def aliased(tracking: Tracking, alias: str) -> Version | None:
    """Return the version that an alias points to, if any."""
    from mlflow.exceptions import MlflowException

    try:
        with tracking.opened() as client:
            return _version(client.get_model_version_by_alias(tracking.model, alias))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def production(tracking: Tracking) -> Version:
    """Return the version in production.

    Raises:
        RegistryError: There is none.
    """
    version = aliased(tracking, PRODUCTION)
    if version is None:
        raise RegistryError(
            f"The model {tracking.model!r} has no version in production: train one and let the benchmark "
            "promote it with `python -m flows.pipeline`."
        )
    return version


def find_version(tracking: Tracking, fingerprint: str) -> Version | None:
    """Return the newest version made from the same rows, recipe and code, if any."""
    query = f"name = '{tracking.model}' AND tags.{FINGERPRINT} = '{fingerprint}'"
    with tracking.opened() as client:
        versions = [_version(found) for found in client.search_model_versions(query)]
    return max(versions, key=lambda version: int(version.number), default=None)


def register(tracking: Tracking, model_uri: str, run_id: str, tags: Mapping[str, str]) -> Version:
    """Make a logged model a new version; it is complete, tags and all, or not there.

    Args:
        tracking: Where the registry is.
        model_uri: Of the logged model.
        run_id: Of the run that logged it.
        tags: What the version should say of itself, its fingerprint among them.
    """
    from mlflow.exceptions import MlflowException

    with tracking.opened() as client:
        try:
            client.create_registered_model(tracking.model, description="Sentiment of tweets: three classes.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        logged = model_uri.removeprefix("models:/") if model_uri.startswith("models:/") else None
        with one_attempt():  # a second one would make a second version
            made = client.create_model_version(
                tracking.model, model_uri, run_id, tags=dict(tags), model_id=logged
            )
    return _version(made)


def name_challenger(tracking: Tracking, version: str) -> None:
    """Point `challenger` at a version that asks for production, unless it is there already."""
    serving = aliased(tracking, PRODUCTION)
    if serving is None or serving.number != version:
        with tracking.opened() as client:
            client.set_registered_model_alias(tracking.model, CHALLENGER, version)


def close_orphans(tracking: Tracking, experiment: str, fingerprint: str, but: str = "") -> None:
    """End the runs of this fingerprint that were killed and still count as running.

    Args:
        tracking: Where the runs are.
        experiment: Id of their experiment.
        fingerprint: What they have in common.
        but: Id of one that goes on.
    """
    query = f"tags.{FINGERPRINT} = '{fingerprint}' AND attributes.status = 'RUNNING'"
    with tracking.opened() as client:
        for run in client.search_runs([experiment], query):
            if run.info.run_id != but:
                client.set_terminated(run.info.run_id, "KILLED")


def find_run(tracking: Tracking, experiment: str, fingerprint: str) -> str | None:
    """Return the id of the newest finished run of this fingerprint, if any."""
    query = f"tags.{FINGERPRINT} = '{fingerprint}' AND attributes.status = 'FINISHED'"
    with tracking.opened() as client:
        runs = client.search_runs([experiment], query, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def load_result(tracking: Tracking, run_id: str, name: str) -> dict[str, Any]:
    """Return the JSON object that a run logged as an artifact."""
    import mlflow

    with tracking.opened():
        return dict(mlflow.artifacts.load_dict(f"runs:/{run_id}/{name}"))


def bundle_folder(tracking: Tracking, version: Version) -> Path:
    """Return a local folder with the bundle of a version, fetched if it is elsewhere."""
    import mlflow

    with tracking.opened():
        model = mlflow.artifacts.download_artifacts(f"models:/{tracking.model}/{version.number}")
    return Path(model) / "artifacts" / "bundle"


def withdraw_challenger(tracking: Tracking, version: str) -> None:
    """Take the alias `challenger` from a version, unless a newer one asks for production by now."""
    challenger = aliased(tracking, CHALLENGER)
    if challenger is not None and challenger.number == version:
        with tracking.opened() as client:
            client.delete_registered_model_alias(tracking.model, CHALLENGER)


def apply(tracking: Tracking, verdict: Verdict, tags: Mapping[str, str]) -> None:
    """Write a verdict into the registry: `production` moves once, what it leaves is archived.

    Each call may be the last one before a crash. The verdict is on record before the alias moves, the alias
    moves in one call, and `challenger` goes last: until then the next run finds it and does it all again.

    Args:
        tracking: Where the registry is.
        verdict: Of the gate.
        tags: Further tags of the challenger.
    """
    with tracking.opened() as client:
        _write(client, tracking.model, verdict, tags)
    withdraw_challenger(tracking, verdict.challenger)


def _write(client: "MlflowClient", model: str, verdict: Verdict, tags: Mapping[str, str]) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    promoted = verdict.decision == "promote"

    def tag(version: str, values: Mapping[str, str]) -> None:
        for key, value in values.items():
            client.set_model_version_tag(model, version, key, value)

    tag(
        verdict.challenger,
        {
            "verdict": verdict.decision,
            "verdict.at": now,
            "verdict.reasons": " ".join(verdict.reasons),
            "verdict.against": verdict.production or "nothing",
            **tags,
        },
    )
    if promoted:
        client.set_registered_model_alias(model, PRODUCTION, verdict.challenger)
        for key in REPLACED:  # it may have been in production before
            client.delete_model_version_tag(model, verdict.challenger, key)
    tag(verdict.challenger, {STATUS: PRODUCTION if promoted else ARCHIVED})
    if promoted and verdict.production is not None:
        tag(verdict.production, {STATUS: ARCHIVED, REPLACED_BY: verdict.challenger, REPLACED_AT: now})


def _version(found: "ModelVersion") -> Version:
    return Version(str(found.version), str(found.run_id), dict(found.tags))
