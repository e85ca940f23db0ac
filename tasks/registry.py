"""The model registry: versions, the aliases `challenger` and `production`, and the history of the latter.

The history is a registered model of its own, `<model>-production`, with a version an entry. The registry
numbers them, whoever writes them, which decides between two runs that promote at once: an alias moves from
whatever it points to. An entry says all there is to say of a move. Alias and tags of the versions follow it,
and if the run dies before they do, the next one brings them in line.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blocks.tracking import Tracking, one_attempt
from tasks import reigns
from tasks.gate import Verdict
from tasks.reigns import Reign

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER, PRODUCTION = "challenger", "production"
FINGERPRINT = "fingerprint"
STATUS = "status"
ARCHIVED = "archived"
RUN = "benchmark.run"
REPLACED = REPLACED_BY, REPLACED_AT = "replaced.by", "replaced.at"
ROLLED_BACK = "rolled.back"
"""On a version that was taken out of production by a rollback: why. It does not ask for production again."""


class RegistryError(RuntimeError):
    """Raised when the registry has not the version that is needed; says how to get one."""


class Version(NamedTuple):
    """A version of a registered model."""

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


def serving(tracking: Tracking) -> Version | None:
    """Return the version in production, if any.

    Raises:
        RegistryError: The one that was has been deleted, and an earlier one can be put back.
    """
    version = aliased(tracking, PRODUCTION)
    if version is None and (past := history(tracking)):
        lost = past[-1].version
        there = versions(tracking)
        earlier = reigns.previous(past, there)
        if lost not in there and earlier is not None:
            raise RegistryError(
                f"Version {lost} of the model {tracking.model!r} was in production and has been deleted "
                "from the registry: put the one before it back with "
                f"`python -m flows.rollback --version {earlier}`."
            )
    return version


def production(tracking: Tracking) -> Version:
    """Return the version in production.

    Raises:
        RegistryError: There is none.
    """
    version = serving(tracking)
    if version is None:
        raise RegistryError(
            f"The model {tracking.model!r} has no version in production: train one and let the benchmark "
            "promote it with `python -m flows.pipeline`."
        )
    return version


def versions(tracking: Tracking) -> dict[str, Version]:
    """Return the versions of the model by their numbers, in order."""
    return _versions(tracking, tracking.model)


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


def name_challenger(tracking: Tracking, version: str) -> bool:
    """Point `challenger` at a version that asks for production, unless it is there already.

    Returns:
        Whether it may ask: not if a rollback took it out of production.
    """
    with tracking.opened() as client:
        if ROLLED_BACK in client.get_model_version(tracking.model, version).tags:
            return False
        serving = aliased(tracking, PRODUCTION)
        if serving is None or serving.number != version:
            client.set_registered_model_alias(tracking.model, CHALLENGER, version)
    return True


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
    """Return a local folder with the bundle of a version, fetched if it is elsewhere.

    Raises:
        RegistryError: Its files are gone.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        with tracking.opened():
            model = mlflow.artifacts.download_artifacts(f"models:/{tracking.model}/{version.number}")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        model = None
    bundle = Path(model or "") / "artifacts" / "bundle"
    if model is None or not bundle.is_dir():
        raise RegistryError(
            f"The files of version {version.number} of the model {tracking.model!r} are gone from where "
            "MLflow keeps artifacts: restore them, or put another version into production with "
            "`python -m flows.rollback --version N`."
        )
    return bundle


def digest(version: Version) -> str:
    """Return the SHA-256 of a version's bundle.json in hex.

    Raises:
        RegistryError: Training has not registered it.
    """
    if "digest" not in version.tags:
        raise RegistryError(
            f"Version {version.number} lacks the tag `digest`, so `python -m flows.train` has not registered "
            "it: train one, or name another version."
        )
    return version.tags["digest"]


def withdraw_challenger(tracking: Tracking, version: str) -> None:
    """Take the alias `challenger` from a version, unless a newer one asks for production by now."""
    challenger = aliased(tracking, CHALLENGER)
    if challenger is not None and challenger.number == version:
        with tracking.opened() as client:
            client.delete_registered_model_alias(tracking.model, CHALLENGER)


def apply(
    tracking: Tracking,
    verdict: Verdict,
    tags: Mapping[str, str],
    announce: Callable[[], object] = lambda: None,
) -> None:
    """Write a verdict into the registry: `production` moves once, what it leaves is archived.

    Each call may be the last one before a crash. `challenger` goes last: until then the next run finds it and
    does it all again.

    Args:
        tracking: Where the registry is.
        verdict: Of the gate.
        tags: Further tags of the challenger.
        announce: Called when the verdict stands; should the run die then, it is called again by the next one.

    Raises:
        RegistryError: Another version has come into production since the benchmark began; that of the verdict
            still challenges.
    """
    told = {
        "verdict": verdict.decision,
        "verdict.at": reigns.now(),
        "verdict.reasons": " ".join(verdict.reasons),
        "verdict.against": verdict.production or "nothing",
        **tags,
    }
    if verdict.decision == "promote":
        why = {reigns.BY: "benchmark", reigns.WHY: told["verdict.reasons"]}
        if RUN in tags:
            why[reigns.RUN] = tags[RUN]
        try:
            remedy = "Its verdict is void: run the benchmark again."
            _move(tracking, verdict.challenger, verdict.production, {**why, **told}, remedy)
        except RegistryError:
            _remain(tracking, verdict.challenger)
            raise
    else:
        now = aliased(tracking, PRODUCTION)
        if now is None or now.number != verdict.challenger:
            told[STATUS] = ARCHIVED
        with tracking.opened() as client:
            _tag(client, tracking.model, verdict.challenger, told)
    announce()
    withdraw_challenger(tracking, verdict.challenger)


def restore(tracking: Tracking, version: str, former: str | None, why: str) -> None:
    """Put an earlier version back into production; what it takes the place of is archived.

    Args:
        tracking: Where the registry is.
        version: That is to be in production.
        former: That is to be there until now, if any is.
        why: In a person's words.

    Raises:
        RegistryError: Another version has come into production meanwhile.
    """
    told = {reigns.BY: "rollback", reigns.WHY: why}
    _move(tracking, version, former, told, "If it still is to be, run the rollback again.")


def history(tracking: Tracking) -> tuple[Reign, ...]:
    """Return who was in production when, in order."""
    entries = _entries(tracking)
    now = aliased(tracking, PRODUCTION)
    return reigns.reigns(entries, unsettled(tracking) or (now.number if now else None))


def unsettled(tracking: Tracking) -> str | None:
    """Return the version that comes into production, if the run that began to put it there has died."""
    entries = _entries(tracking)
    last = entries.get(max(reigns.standing(entries), default=0), {reigns.SETTLED: ""})
    return None if reigns.SETTLED in last else last[reigns.VERSION]


def settle(tracking: Tracking) -> int:
    """Bring alias and tags in line with the history where a run has died, or was overtaken, before it did.

    Returns:
        Number of the last entry, 0 if there is none.
    """
    from mlflow.exceptions import MlflowException

    done = failed = 0
    while True:
        entries = _entries(tracking)
        last = max(reigns.standing(entries), default=0)
        # Having written, look again: a run that was held up may have written over what came after.
        if last == done or (not done and reigns.SETTLED in entries[last]):
            return last
        try:
            _follow(tracking, last, entries[last])
        except MlflowException as error:
            # Two that insert the same tag at once: one gets the database's error, and updates it next time.
            if error.error_code != "BAD_REQUEST" or failed == last:
                raise
            failed = last
        else:
            done = last


def _move(tracking: Tracking, version: str, former: str | None, tags: Mapping[str, str], remedy: str) -> None:
    """Write into the history that a version takes the place of another, and bring alias and tags in line."""
    # Before the alias is read: whoever moves it from here on appends to the same entry.
    last = settle(tracking)
    now = aliased(tracking, PRODUCTION)
    if now is not None and now.number == version:
        return
    if (now and now.number) == former:
        entry = _append(tracking, version, last, {**tags, reigns.OVER: former or ""})
        if entry in reigns.standing(_entries(tracking)):
            settle(tracking)
            return
        now = aliased(tracking, PRODUCTION)
    moved = f"from {_named(former)} to {_named(unsettled(tracking) or (now and now.number))}"
    raise RegistryError(f"Production moved {moved} meanwhile: version {version} was not put there. {remedy}")


def _append(tracking: Tracking, version: str, last: int, tags: Mapping[str, str]) -> int:
    """Append an entry to the history; returns its number. Whether it counts, all entries together tell."""
    from mlflow.exceptions import MlflowException

    told = {**tags, reigns.VERSION: version, reigns.AFTER: str(last), **reigns.signature()}
    name = _history(tracking)
    with tracking.opened() as client:
        try:
            client.create_registered_model(name, description=f"Who was in production when: {tracking.model}.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        with one_attempt():
            source = f"models:/{tracking.model}/{version}"
            return int(client.create_model_version(name, source, tags=told).version)


def _follow(tracking: Tracking, number: int, entry: Mapping[str, str]) -> None:
    """Bring alias and tags in line with an entry."""
    version, former = entry[reigns.VERSION], entry[reigns.OVER]
    there = versions(tracking)
    with tracking.opened() as client:
        if version in there:
            client.set_registered_model_alias(tracking.model, PRODUCTION, version)
            told = {key: value for key, value in entry.items() if not key.startswith(reigns.PREFIX)}
            _tag(client, tracking.model, version, {**told, STATUS: PRODUCTION})
            for key in (*REPLACED, ROLLED_BACK):  # it may have been in production before
                client.delete_model_version_tag(tracking.model, version, key)
        if former in there:
            ended = {STATUS: ARCHIVED, REPLACED_BY: version, REPLACED_AT: entry[reigns.SINCE]}
            if entry[reigns.BY] == "rollback":
                ended[ROLLED_BACK] = entry[reigns.WHY]
            _tag(client, tracking.model, former, ended)
        if entry[reigns.BY] == "rollback":
            for one in filter(None, (version, former)):  # neither asks for production
                withdraw_challenger(tracking, one)
        client.set_model_version_tag(_history(tracking), str(number), reigns.SETTLED, reigns.now())


def _remain(tracking: Tracking, version: str) -> None:
    """Let a version whose verdict is void ask again, unless a newer one asks by now."""
    challenger, now = aliased(tracking, CHALLENGER), aliased(tracking, PRODUCTION)
    if challenger is None or (now is not None and challenger.number == now.number):
        name_challenger(tracking, version)


def _entries(tracking: Tracking) -> dict[int, dict[str, str]]:
    found = _versions(tracking, _history(tracking)).values()
    return {int(entry.number): entry.tags for entry in found if reigns.AFTER in entry.tags}


def _history(tracking: Tracking) -> str:
    return f"{tracking.model}-production"


def _versions(tracking: Tracking, model: str) -> dict[str, Version]:
    with tracking.opened() as client:
        found = map(_version, client.search_model_versions(f"name = '{model}'"))
        return {version.number: version for version in sorted(found, key=lambda found: int(found.number))}


def _tag(client: "MlflowClient", model: str, version: str, values: Mapping[str, str]) -> None:
    for key, value in values.items():
        client.set_model_version_tag(model, version, key, value)


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no version"


def _version(found: "ModelVersion") -> Version:
    return Version(str(found.version), str(found.run_id), dict(found.tags))
