"""The endpoint in Amazon SageMaker."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Self

from prefect_aws import AwsCredentials
from pydantic import Field, model_validator

from blocks import alarms, autoscaling
from blocks.aws import client, code, pairs, trouble, unless
from blocks.endpoint import Check, Deployment, Endpoint, EndpointError, Release, batches
from blocks.hosting import Instances, Serverless
from blocks.lake import Lake
from blocks.log import logger
from blocks.role import BlockError, Resource
from blocks.state import MOVING, State, look
from blocks.transform import Batch, Jobs
from blocks.versions import PASSED, Versions

_Restore = tuple[Callable[[], None], ...]

REMEDIES = {
    "NoSuchEntity": "Make the role: deployments/iam/endpoint.json and endpoint-trust.json are for it.",
    "ResourceLimitExceeded": "Ask AWS for a higher quota, or choose another type of instance.",
    "ModelError": "The log group /aws/sagemaker/Endpoints/ of CloudWatch says why.",
}


class SageMakerEndpoint(Endpoint):
    """An endpoint of SageMaker, with a model and a configuration of the same name for each version.

    Names follow from version, bundle and settings, and the tag `passed` tells which configurations have
    passed the check: so a deploy that was killed is finished, or undone, by the next one. Two at once wait
    for each other as SageMaker makes them. Only what bears the tags is ever changed or deleted.
    """

    _block_type_name = "SageMaker Endpoint"
    _block_type_slug = "sagemaker-endpoint"

    name: str = Field(
        default="sentiment", pattern="^[a-z0-9](-*[a-z0-9])*$", max_length=30, description="Its name."
    )
    role: str = Field(
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$",
        description="ARN of the role that SageMaker takes on: it pulls the image and writes the logs.",
    )
    hosting: Instances | Serverless = Field(
        default=Instances(), discriminator="kind", description="What it runs on."
    )
    batch: Batch = Field(default=Batch(), description="What batch transforms run on.")
    keep: int = Field(default=2, ge=0, description="Former versions to keep beside the one that serves.")
    timeout: float = Field(default=1800.0, gt=0, description="Seconds that a change may take, 600 or more.")
    poll: float = Field(default=10.0, gt=0, description="Seconds between two looks at a change.")
    api: str | None = Field(default=None, description="Address of other APIs than AWS's.")
    credentials: AwsCredentials = Field(description="Credentials of AWS, with their region.")

    @model_validator(mode="after")
    def _patient(self) -> Self:
        if isinstance(self.hosting, Instances) and self.timeout <= self.hosting.shift.seconds:
            raise ValueError(f"A shift takes {self.hosting.shift.seconds} seconds: raise `timeout`.")
        return self

    def serving(self) -> Deployment | None:  # noqa: D102
        state = self._look()
        if state is None or state.status in ("Creating", "Deleting", "Failed", "OutOfService"):
            return None
        _, said = self._invoke(["ping"])
        live = dict(part.split("=", 1) for part in said.split(";") if "=" in part)
        version, digest = live.get("version", "?"), live.get("digest", "")
        known = self._versions.tags_of(self._config_arn(state.config)).get("digest", "")
        return self._deployment(version, known if digest and known.startswith(digest) else digest)

    def deploy(self, release: Release, check: Check) -> Deployment:  # noqa: D102
        wanted = self._title(release)
        before = self._settled()
        self._require_ours(before)
        if not (before and before.serves(wanted) and self._has_passed(wanted)):
            self._replace(before, wanted, release, check)
        after = self._look()
        used = ({after.config, after.pending} if after else set()) | self._jobs.models()
        self._versions.prune(used, self.keep, self.timeout)
        return self._deployment(release.version, release.digest)

    def stop(self) -> bool:  # noqa: D102
        state = self._settled()
        self._require_ours(state)
        scaled = self._unscale()
        if state:
            self._client("sagemaker").delete_endpoint(EndpointName=self.name)
            self._settled(since=state.modified)
        jobs = self._jobs.stop(self.timeout)
        parts = self._versions.discard()
        watched = self._unwatch()
        return bool(state or scaled or jobs or parts or watched)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:  # noqa: D102
        return [answer for batch in batches(texts) for answer in self._invoke(batch)[0]]

    def require_reach(self, lake: Lake) -> None:  # noqa: D102
        self._jobs.require_reach(lake)

    def transform(  # noqa: D102
        self, release: Release, lake: Lake, folder: str, on_files: Callable[[int], object]
    ) -> dict[str, str]:
        make = self._versions.make_model
        model = partial(make, self._title(release), release, self.role, self.hosting)
        return self._jobs.answer(lake, folder, self.batch, model, on_files)

    def check(self) -> str:  # noqa: D102
        role = self._client("iam").get_role(RoleName=self.role.rpartition("/")[2])["Role"]
        if "sagemaker.amazonaws.com" not in json.dumps(role["AssumeRolePolicyDocument"]):
            raise EndpointError(
                f"SageMaker may not take on the role {self.role}: give it the trust policy "
                "deployments/iam/endpoint-trust.json."
            )
        state = self._look()
        self._require_ours(state)
        if state is None:
            return f"{self.name}: there is none yet, `python -m flows.deploy` makes it"
        if state.status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
            raise EndpointError(
                f"The endpoint {self.name!r} is {state.status}: {state.reason or 'for no given reason'}. "
                "`python -m flows.deploy` puts it right."
            )
        found = self.serving()
        live = f"serves version {found.version}" if found else "serves nothing"
        return f"{self.name} ({state.status}) {live}"

    def resources(self) -> list[Resource]:  # noqa: D102
        state, log = self._look(), f"/aws/sagemaker/Endpoints/{self.name}"
        remedy = f"aws logs delete-log-group --log-group-name {log}"
        found = [Resource(kind="log group", name=log, detail="if it has ever run", by_hand=remedy)]
        if isinstance(self.hosting, Instances) and (capture := self.hosting.capture):
            remedy = f"aws s3 rm --recursive {capture.prefix.rstrip('/')}/"
            found.append(Resource(kind="captured requests", name=capture.prefix, by_hand=remedy))
        if state:
            remedy = "" if self._is_ours(state) else "leave it, it lacks the tags: rename the block's"
            detail = f"{state.arn}, {state.status}"
            found.append(Resource(kind="endpoint", name=self.name, detail=detail, by_hand=remedy))
        scaled = autoscaling.there(self._client("application-autoscaling"), self.name)
        watched = alarms.there(self._client("cloudwatch"), self.name, self._alarm_arn, self._mine)
        found += [Resource(kind="autoscaling", name=name) for name in scaled]
        found += [Resource(kind="alarm", name=name) for name in watched]
        return found + self._jobs.resources() + self._versions.resources()

    def explain(self, error: BaseException) -> EndpointError | None:
        """Return the cause and remedy of an error of AWS."""
        found = trouble(error, REMEDIES)
        if found is None:
            return None
        what = f"The endpoint {self.name!r} cannot be used: {found.cause}. {found.remedy}"
        return EndpointError(what, found.transient)

    # Changes

    def _replace(self, before: State | None, wanted: str, release: Release, check: Check) -> None:
        """Make a configuration serve in place of another one, and bring that back unless all is well."""
        answers = False
        scaling, watch = self._client("application-autoscaling"), self._client("cloudwatch")
        settings = (
            autoscaling.remember(scaling, self.name),
            alarms.remember(watch, self.name, self._alarm_arn, self._mine),
        )
        try:
            self._put(wanted, release)
            self._scale()
            answers = True
            check(self.predict)
            self._require(release)
            self._versions.mark(self._config_arn(wanted))
        except Exception as error:
            found = error if isinstance(error, BlockError) else self.explain(error)
            if answers or not (found and found.transient):  # else the next try goes on from here
                self._undo(before, wanted, found or error, settings)
            raise

    def _put(self, wanted: str, release: Release) -> None:
        """Make the endpoint serve a configuration, and wait until it does."""
        deadline = time.monotonic() + self.timeout
        while True:
            state = self._settled()
            if state and state.serves(wanted):
                return
            self._versions.make(wanted, release, self.role, self.hosting)
            self._watch()
            try:
                self._switch(wanted, state)
                break
            except Exception as error:
                # another deploy was faster, or what was just made is not yet seen everywhere
                overtaken = re.search("in-progress|already existing|Could not find", str(error))
                if not (overtaken and code(error) == "ValidationException" and time.monotonic() < deadline):
                    raise
                time.sleep(self.poll)
        now = self._settled(since=state.modified if state else None)
        if now is None or not now.serves(wanted):
            is_now = f"{now.status} with {now.config}" if now else "gone"
            why = (now and now.reason) or "SageMaker gives no reason: an alarm, or another deploy"
            raise EndpointError(
                f"The endpoint {self.name!r} did not take {wanted}, it is {is_now}. {why.rstrip('.')}. The "
                f"log group /aws/sagemaker/Endpoints/{self.name} and the alarms of CloudWatch say more."
            )

    def _switch(self, config: str, state: State | None, back: bool = False) -> None:
        """Ask for a configuration; when it is to bring back an old one, without shift and alarms."""
        sagemaker = self._client("sagemaker")
        if state and state.status == "Failed":  # nothing but this can be done with it
            with unless("Could not find"):
                sagemaker.delete_endpoint(EndpointName=self.name)
            state = self._settled(since=state.modified)
        names = {"EndpointName": self.name, "EndpointConfigName": config}
        if state is None:
            sagemaker.create_endpoint(**names, Tags=pairs(self._mine))
            return
        how: dict[str, Any] = {}
        if isinstance(self.hosting, Instances) and not back:
            watching = alarms.quiet(self._client("cloudwatch"), self.name) if self.hosting.alarms else []
            how = self.hosting.update(watching, self.timeout, state.scaled)
        sagemaker.update_endpoint(**names, **how)

    def _undo(self, before: State | None, wanted: str, error: Exception, settings: _Restore) -> None:
        """Bring back what served before, with its scaling and alarms, and remove what will not do."""
        logger().warning("The endpoint %s does not take %s: %s", self.name, wanted, error)
        try:
            now = self._settled()
            passed = self._versions.passed()
            back = before.config if before else ""
            if now and (now.config == wanted or now.status == "Failed"):
                if old := self._former(before, wanted, passed):
                    back = old
                    self._switch(old, now, back=True)
                    now = self._settled(since=now.modified)
                    if now is None or not now.serves(old):
                        raise EndpointError(f"it is {now.status if now else 'gone'}.")
                else:
                    self._unscale()
                    self._client("sagemaker").delete_endpoint(EndpointName=self.name)
                    now = self._settled(since=now.modified)
            if now is None:
                self._unwatch()
            elif now.config == back:  # else it is another deploy's
                for restore in settings:
                    restore()
            if wanted not in passed:
                self._versions.discard(wanted)
        except Exception as second:
            found = second if isinstance(second, BlockError) else self.explain(second)
            raise EndpointError(
                f"{error} And what served before could not be brought back: {found or second} "
                "`python -m flows.deploy` tries again.",
                transient=bool(found and found.transient),
            ) from second

    def _former(self, before: State | None, wanted: str, passed: list[str]) -> str | None:
        """Return the configuration to bring back: the last one, unless that has never passed the check."""
        last = before.config if before and before.status == "InService" else ""
        ours = self._mine.items() <= self._versions.tags_of(self._config_arn(last)).items() if last else False
        candidates = [*passed, last] if ours and last not in passed else [last, *passed]
        return next((name for name in candidates if name not in ("", wanted)), None)

    # Scaling and alarms

    def _scale(self) -> None:
        """Bring the autoscaling in line with the settings."""
        scaling = self._client("application-autoscaling")
        if isinstance(self.hosting, Instances) and self.hosting.autoscaling:
            self.hosting.autoscaling.apply(scaling, self.name, self.hosting.count)
        else:
            autoscaling.remove(scaling, self.name)

    def _unscale(self) -> bool:
        return autoscaling.remove(self._client("application-autoscaling"), self.name)

    def _watch(self) -> None:
        """Bring the alarms in line with the settings."""
        if isinstance(self.hosting, Instances) and self.hosting.alarms:
            self.hosting.alarms.apply(self._client("cloudwatch"), self.name, self._alarm_arn, self._mine)
        else:
            self._unwatch()

    def _unwatch(self) -> bool:
        return alarms.remove(self._client("cloudwatch"), self.name, self._alarm_arn, self._mine)

    # What is there

    def _look(self) -> State | None:
        return look(self._client("sagemaker"), self.name)

    def _settled(self, since: datetime | None = None) -> State | None:
        """Return the endpoint's state as soon as no change is under way.

        Args:
            since: When it was last changed, if it has been asked for another change after that.

        Raises:
            EndpointError: That takes too long.
        """
        began = time.monotonic()
        while True:
            state = self._look()
            if state is None or (state.status not in MOVING and state.modified != since):
                return state
            seconds = time.monotonic() - began
            if seconds > self.timeout:
                raise EndpointError(
                    f"The endpoint {self.name!r} has been {state.status} for {seconds:.0f} seconds and "
                    "cannot be changed meanwhile."
                )
            logger().info("Endpoint %s: %s for %.0f s", self.name, state.status, seconds)
            time.sleep(self.poll)

    def _has_passed(self, config: str) -> bool:
        return PASSED in self._versions.tags_of(self._config_arn(config))

    def _is_ours(self, state: State) -> bool:
        return self._versions.tags_of(state.arn).items() >= self._mine.items()

    def _require_ours(self, state: State | None) -> None:
        if state and not self._is_ours(state):
            raise EndpointError(
                f"The endpoint {self.name!r} lacks the tags {self._mine}, so it is not this project's: "
                "choose another name in the block `sentiment-endpoint`."
            )

    def _require(self, release: Release) -> None:
        """Raise an error unless it is this release that answers."""
        live = self.serving()
        if live is None or (live.version, live.digest) != (release.version, release.digest):
            raise EndpointError(
                f"The endpoint {self.name!r} answers as version {live.version if live else None}, not as "
                f"version {release.version}: its image holds something else, or another deploy was at work."
            )

    # Names and addresses

    @property
    def _versions(self) -> Versions:
        return Versions(self._client("sagemaker"), f"{self.name}-v", self._mine)

    @property
    def _jobs(self) -> Jobs:
        return Jobs(self._client("sagemaker"), f"{self.name}-t", self._mine, self.poll)

    @property
    def _mine(self) -> dict[str, str]:
        """Tags of all that is this endpoint's."""
        return {"project": "sentiment-flows", "endpoint": self.name}

    def _title(self, release: Release) -> str:
        """Return the name of a release's configuration and model."""
        settings = self.hosting.model_dump_json(exclude={"shift"}) + self.role
        version = re.sub("[^a-z0-9]+", "-", release.version.lower()).strip("-")
        short = hashlib.sha256(settings.encode()).hexdigest()[:8]
        title = f"{self.name}-v{version}-{release.digest[:12]}-{short}"
        if len(title) > 63:
            raise EndpointError(
                f"The name {title!r} is too long for SageMaker: shorten that of the endpoint."
            )
        return title

    def _arn(self, service: str, path: str) -> str:
        _, partition, _, _, account, _ = self.role.split(":", 5)
        return f"arn:{partition}:{service}:{self._region}:{account}:{path}"

    @property
    def _alarm_arn(self) -> str:
        return self._arn("cloudwatch", "alarm:")

    def _config_arn(self, name: str) -> str:
        return self._arn("sagemaker", f"endpoint-config/{name}")

    def _client(self, service: str) -> Any:
        return client(self.credentials, service, self.api)

    @property
    def _region(self) -> str:
        return str(self._client("sagemaker").meta.region_name)

    def _deployment(self, version: str, digest: str) -> Deployment:
        region, address = self._region, self._client("sagemaker-runtime").meta.endpoint_url
        return Deployment(
            version=version,
            digest=digest,
            url=f"{address}/endpoints/{self.name}",
            page=f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/endpoints/{self.name}",
            detail=f"SageMaker endpoint {self.name}, region {region}",
        )

    def _invoke(self, texts: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
        """Return the answers to texts, and the custom attributes of the response."""
        response = self._client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.name, ContentType="application/json", Body=json.dumps(list(texts))
        )
        return json.load(response["Body"])["predictions"], response.get("CustomAttributes", "")
