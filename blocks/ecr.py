"""Images in Amazon's Elastic Container Registry."""

import re
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from prefect_aws import AwsCredentials
from pydantic import Field

from blocks.images import Images, ImagesError
from blocks.role import BlockError, causes

REMEDIES = {
    "RepositoryNotFoundException": "create it: `aws ecr create-repository --repository-name {repository}`",
    "AccessDeniedException": "allow the credentials what deployments/iam names for the registry",
    "UnrecognizedClientException": "correct the key in the block `sentiment-aws`",
    "InvalidSignatureException": "correct the secret in the block `sentiment-aws`",
    "ExpiredTokenException": "renew the credentials in the block `sentiment-aws`",
}
"""What to do about the error codes of ECR's API
(https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html)."""


class EcrImages(Images):
    """A repository of ECR. Its password is fetched for each push, ends within hours and is never stored."""

    _block_type_name = "ECR Images"
    _block_type_slug = "ecr-images"

    repository: str = Field(default="sentiment", description="Name of the repository.")
    registry: str | None = Field(default=None, description="Host of another registry than the account's own.")
    endpoint: str | None = Field(default=None, description="Address of another ECR API than AWS's.")
    credentials: AwsCredentials = Field(description="Credentials of AWS, with their region.")

    def publish(self, image: str) -> str:  # noqa: D102
        from docker.client import DockerClient

        host, login = self._login()
        name, _, tag = image.rpartition(":")
        target = f"{host}/{self.repository}"
        engine = DockerClient.from_env()
        try:
            engine.images.get(image).tag(target, f"{name}-{tag}")
            answers = engine.images.push(target, f"{name}-{tag}", auth_config=login, stream=True, decode=True)
            return f"{target}@{_digest(answers, f'{target}:{name}-{tag}')}"
        finally:
            engine.close()

    def check(self) -> str:  # noqa: D102
        host, _ = self._login()
        self._client().describe_repositories(repositoryNames=[self.repository])
        return f"{host}/{self.repository}"

    def explain(self, error: BaseException) -> BlockError | None:  # noqa: D102
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        from docker.errors import DockerException, ImageNotFound

        for cause in causes(error):
            if isinstance(cause, ClientError):
                code = cause.response.get("Error", {}).get("Code", "")
                status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                away = status == 429 or status >= 500 or "Throttl" in code
                remedy = REMEDIES.get(code, "see `python -m blocks.register check`")
                remedy = "it is tried again" if away else remedy.format(repository=self.repository)
                return self._error(f"{code or status}: {remedy}", away)
            if isinstance(cause, NoCredentialsError):
                return self._error("nobody has given this machine credentials: put a key in `sentiment-aws`")
            if isinstance(cause, BotoCoreError):
                return self._error(f"{cause}: check region, address and network", transient=True)
            if isinstance(cause, ImageNotFound):
                return self._error("the image to publish is not in the Docker engine: build it first")
            if isinstance(cause, DockerException):
                return self._error(f"the Docker engine does not answer ({cause}): start it", transient=True)
        return None

    def _error(self, reason: str, transient: bool = False) -> ImagesError:
        return ImagesError(f"The ECR repository {self.repository!r} cannot be used. {reason}.", transient)

    def _client(self) -> Any:
        from botocore.config import Config

        config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=30)
        session = self.credentials.get_boto3_session()
        return session.client("ecr", endpoint_url=self.endpoint, config=config)

    def _login(self) -> tuple[str, dict[str, str]]:
        """Return the registry's host, and user and password for it, which ECR makes anew."""
        data = self._client().get_authorization_token()["authorizationData"][0]
        user, _, password = b64decode(data["authorizationToken"]).decode().partition(":")
        host = self.registry or re.sub("^https?://", "", data["proxyEndpoint"])
        return host, {"username": user, "password": password}


def _digest(answers: Iterable[dict[str, Any]], target: str) -> str:
    """Return the digest that the registry gave to what was pushed; the engine raises no error by itself."""
    digest = None
    for answer in answers:
        if "error" in answer:
            reason = str(answer["error"])
            away = not re.search("denied|unauthorized|authoriz|immutable|not exist", reason, re.IGNORECASE)
            raise ImagesError(f"Pushing {target} failed: {reason}. Nothing refers to it; push again.", away)
        digest = answer.get("aux", {}).get("Digest", digest)
    if digest is None:
        raise ImagesError(f"Pushing {target} ended without a digest: push again.", transient=True)
    return str(digest)
