"""Images in Amazon's Elastic Container Registry."""

import json
import re
from base64 import b64decode
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Any

from prefect_aws import AwsCredentials
from pydantic import Field

from blocks.aws import client, code, pairs, trouble
from blocks.images import KINDS, Images, ImagesError, TakenError
from blocks.role import BlockError, Resource

MINE = {"project": "sentiment-flows"}  # tags of a repository that was made here
DAYS = 7  # that an image without a tag is kept, such as one of a push that was cut off

REMEDIES = {
    "RepositoryNotFoundException": "Somebody deleted it just now: publish again.",
    "AccessDeniedException": "Permit it: deployments/iam has the policies, and deployments/aws.yaml makes a "
    "repository that is missing.",
}
"""What to do about codes of ECR's API."""


class EcrImages(Images):
    """A repository of ECR. Its password is fetched for each push, ends within hours and is never stored."""

    _block_type_name = "ECR Images"
    _block_type_slug = "ecr-images"

    repository: str = Field(default="sentiment", description="Name of the repository.")
    registry: str | None = Field(default=None, description="Host of another registry than the account's own.")
    endpoint: str | None = Field(default=None, description="Address of another ECR API than AWS's.")
    credentials: AwsCredentials = Field(description="Credentials of AWS, with their region.")

    keep: int = Field(
        default=50, ge=1, description="Images of each kind that a repository made here keeps, the last ones."
    )

    def find(self, image: str) -> str | None:  # noqa: D102
        api = self._api
        stored = self._stored(api, _tag(image))
        return f"{self._host(api)}/{self.repository}@{stored[0]}" if stored else None

    def publish(self, image: str) -> str:  # noqa: D102
        from docker.client import DockerClient

        tag, api = _tag(image), self._api
        with closing(DockerClient.from_env()) as engine:
            local = engine.images.get(image)
            target = f"{self._host(api)}/{self.repository}"
            if stored := self._stored(api, tag):
                if local.id not in stored:
                    raise TakenError(
                        f"{target}:{tag} is another image than {image} of this machine, and no tag is moved: "
                        "give this one another tag."
                    )
                return f"{target}@{stored[0]}"
            self._prepare(api)
            local.tag(target, tag)
            try:
                digest = self._push(api, engine, target, tag)
            except _DeniedError:  # the password may have ended in the middle of a long push
                digest = self._push(api, engine, target, tag)
            stored = self._stored(api, tag)
            if stored is None or stored[0] != digest:
                found = stored[0] if stored else "nothing"
                raise ImagesError(f"{digest} was pushed as {target}:{tag}, but {found} is there: push again.")
        return f"{target}@{digest}"

    def remove(self) -> bool:  # noqa: D102
        api = self._api
        arn = self._arn(api)
        if arn is None or not self._is_ours(api, arn):
            return False
        with suppress(api.exceptions.RepositoryNotFoundException):  # somebody else was faster
            api.delete_repository(repositoryName=self.repository, force=True)  # with its images
        return True

    def resources(self) -> list[Resource]:  # noqa: D102
        api = self._api
        arn = self._arn(api)
        if arn is None:
            return []
        ours = self._is_ours(api, arn)
        detail = f"{arn}, with its images" if ours else f"{arn}, not made here: it lacks the tags {MINE}"
        delete = f"aws ecr delete-repository --force --repository-name {self.repository}"
        by_hand = "" if ours else delete
        return [Resource(kind="ECR repository", name=self.repository, detail=detail, by_hand=by_hand)]

    def check(self) -> str:  # noqa: D102
        api = self._api
        target = f"{self._host(api)}/{self.repository}"
        return target if self._exists(api) else f"{target}, which the first image makes"

    def explain(self, error: BaseException) -> BlockError | None:  # noqa: D102
        found = trouble(error, REMEDIES)
        if found is None:
            return super().explain(error)
        what = f"The ECR repository {self.repository!r} cannot be used: {found.cause}. {found.remedy}"
        return ImagesError(what, found.transient)

    @property
    def _api(self) -> Any:
        return client(self.credentials, "ecr", self.endpoint)

    def _host(self, api: Any) -> str:
        return self.registry or self._login(api)[0]

    def _login(self, api: Any) -> tuple[str, dict[str, str]]:
        """Return the registry's host, and user and password for it, which ECR makes anew."""
        data = api.get_authorization_token()["authorizationData"][0]
        user, _, password = b64decode(data["authorizationToken"]).decode().partition(":")
        host = self.registry or re.sub("^https?://", "", data["proxyEndpoint"])
        return host, {"username": user, "password": password}

    def _exists(self, api: Any) -> bool:
        return self._arn(api) is not None

    def _arn(self, api: Any) -> str | None:
        """Return the ARN of the repository, None if it is missing."""
        try:
            [found] = api.describe_repositories(repositoryNames=[self.repository])["repositories"]
        except api.exceptions.RepositoryNotFoundException:
            return None
        return str(found["repositoryArn"])

    def _is_ours(self, api: Any, arn: str) -> bool:
        """Tell whether it was made here, and not by a template or another project."""
        tags = api.list_tags_for_resource(resourceArn=arn)["tags"]
        return MINE.items() <= {tag["Key"]: tag["Value"] for tag in tags}.items()

    def _prepare(self, api: Any) -> None:
        """Make the repository if it is missing; of one that is there, only finish what was cut off here."""
        arn = self._arn(api)
        if arn is not None and not self._is_half_made(api, arn):
            return
        if arn is None:
            try:
                api.create_repository(
                    repositoryName=self.repository,
                    tags=pairs(MINE),
                    imageTagMutability="IMMUTABLE",
                    imageScanningConfiguration={"scanOnPush": True},
                )
            except api.exceptions.RepositoryAlreadyExistsException:
                return  # somebody else has made it meanwhile
        policy = json.dumps({"rules": _rules(self.keep)})
        api.put_lifecycle_policy(repositoryName=self.repository, lifecyclePolicyText=policy)

    def _is_half_made(self, api: Any, arn: str) -> bool:
        """Tell whether it was made here and lacks its lifecycle: a deploy was killed in between."""
        try:
            if not self._is_ours(api, arn):
                return False
            api.get_lifecycle_policy(repositoryName=self.repository)
        except api.exceptions.LifecyclePolicyNotFoundException:
            return True
        except api.exceptions.ClientError as error:
            if code(error) != "AccessDeniedException":
                raise
        return False  # who may not look has not made it

    def _stored(self, api: Any, tag: str) -> tuple[str, str] | None:
        """Return the digests of manifest and configuration that are stored under a tag.

        An engine calls an image by one or the other, depending on how it stores them.
        """
        try:
            answer = api.batch_get_image(repositoryName=self.repository, imageIds=[{"imageTag": tag}])
        except api.exceptions.RepositoryNotFoundException:
            return None
        for image in answer["images"]:
            configuration = json.loads(image["imageManifest"]).get("config", {}).get("digest", "")
            return image["imageId"]["imageDigest"], configuration
        return None

    def _push(self, api: Any, engine: Any, target: str, tag: str) -> str:
        """Return the digest of what was pushed, with a password that was made for it."""
        _, login = self._login(api)
        answers = engine.images.push(target, tag, auth_config=login, stream=True, decode=True)
        return _digest(answers, f"{target}:{tag}")


class _DeniedError(ImagesError):
    """Raised when the registry does not accept the password."""


def _tag(image: str) -> str:
    """Return the tag of an image of the engine in the one repository for all."""
    return image.replace(":", "-")


def _rules(keep: int) -> list[dict[str, Any]]:
    """Return what ECR may delete
    (https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html)."""
    old = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": DAYS}
    many = {"tagStatus": "tagged", "countType": "imageCountMoreThan", "countNumber": keep}
    selections = [old, *(many | {"tagPrefixList": [f"{kind}-"]} for kind in KINDS)]
    return [
        {"rulePriority": priority, "selection": selection, "action": {"type": "expire"}}
        for priority, selection in enumerate(selections, start=1)
    ]


def _digest(answers: Iterable[dict[str, Any]], target: str) -> str:
    """Return the digest that the registry gave to what was pushed; the engine raises no error by itself."""
    digest = None
    for answer in answers:
        if "error" in answer:
            reason = str(answer["error"])
            remedy = "push again"
            if re.search(r"\b5\d\d\b|no space|unknown error", reason):  # all that it says of a full disk
                remedy = "see the log of that registry, make room if its disk is full, and push again"
            message = f"Pushing {target} failed: {reason.rstrip('.')}. Nothing refers to it; {remedy}."
            if re.search("denied|authori[sz]|no basic auth|expired", reason, re.IGNORECASE):
                raise _DeniedError(message)
            if "immutable" in reason:
                raise TakenError(message)
            raise ImagesError(message, transient="not exist" not in reason)
        digest = answer.get("aux", {}).get("Digest", digest)
    if digest is None:
        raise ImagesError(f"Pushing {target} ended without a digest: push again.", transient=True)
    return str(digest)
