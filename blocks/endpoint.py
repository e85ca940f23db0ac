"""The endpoint: what answers texts over HTTP, and with which version of the model."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel, ConfigDict, Field

from blocks.lake import Lake
from blocks.role import BlockError, Role

TEXTS = "texts"  # folder of the files to transform
MAX_BYTES, MAX_TEXTS = 6_000_000, 20_000  # of a request; its answer may have no more bytes than it

Predict = Callable[[Sequence[str]], list[dict[str, Any]]]
"""From texts to `label` and the probabilities `p_<label>` of each."""

Check = Callable[[Predict], object]
"""A smoke test: it raises if the answers will not do."""


class EndpointError(BlockError):
    """Raised when the endpoint cannot do what is asked; says why and what to do."""


@dataclass(frozen=True)
class Release:
    """What is to answer.

    Args:
        bundle: Folder of the bundle.
        version: Model version to report.
        digest: SHA-256 of its bundle.json in hex.
        image: Builds and publishes the image that serves the bundle, and returns the reference to pull. Kinds
            of endpoint that need no image do not call it.
    """

    bundle: Path
    version: str
    digest: str
    image: Callable[[], str]


class Deployment(BaseModel):
    """What answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(description="Version of the registered model.")
    digest: str = Field(description="Digest of the bundle, SHA-256 in hex.")
    url: str = Field(description="Where it answers: POST to /invocations under it.")
    page: str = Field(description="What a person opens in a browser to see it.")
    detail: str = Field(description="What runs there, for a person: a process, or a cloud resource.")


class Endpoint(Role):
    """A place where one version of the model answers over HTTP."""

    slot: ClassVar[str] = "sentiment-endpoint"
    kinds: ClassVar[Mapping[str, str]] = {
        "local-endpoint": "blocks.process",
        "sagemaker-endpoint": "blocks.sagemaker",
    }

    @abstractmethod
    def serving(self) -> Deployment | None:
        """Return what really answers now; asked over HTTP, not remembered."""

    @abstractmethod
    def deploy(self, release: Release, check: Check) -> Deployment:
        """Make a release answer. If it already does, nothing is touched.

        Unless it passes the check, what answered before goes on.

        Args:
            release: What is to answer.
            check: Smoke test; gets the function that asks the candidate.

        Raises:
            EndpointError: It could not be started. What `check` raises comes through as it is.
        """

    @abstractmethod
    def stop(self) -> bool:
        """Stop answering; tells whether anything had to be stopped."""

    @abstractmethod
    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return `label` and the probabilities `p_<label>` for each text, over HTTP."""

    @abstractmethod
    def transform(
        self, release: Release, lake: Lake, folder: str, on_files: Callable[[int], object]
    ) -> dict[str, str]:
        """Answer files of texts with what serves the release, whatever serves at the endpoint.

        The name of the folder stands for the work: what is under way there, or done, is not begun anew.

        Args:
            release: What is to answer.
            lake: Where the files lie.
            folder: In the lake. Under its `texts/` are the files: JSON Lines, each line `{"text": "..."}` of
                less than a megabyte.
            on_files: Called with the number of files that have been answered since the last call.

        Returns:
            Key of the answers to each file, by the file's name: JSON Lines, each line `label` and `p_<label>`
            for the line of the same number; there may be blank lines, which do not count.

        Raises:
            EndpointError: It could not be done.
        """

    def require_reach(self, lake: Lake) -> None:
        """See that `transform` can get at the files of a lake.

        Raises:
            EndpointError: It cannot.
        """


def invoke(url: str, texts: Sequence[str], seconds: float = 60) -> list[dict[str, Any]]:
    """Return the predictions of the endpoint at `url`.

    Args:
        url: Address without a path, such as http://127.0.0.1:8080.
        texts: At most 6,291,456 bytes as JSON.
        seconds: Longest wait for the answer.

    Raises:
        EndpointError: Nothing answers there, or it refuses.
    """
    if not texts:
        return []
    # json.dumps escapes lone surrogates, so that any string gets there.
    body, headers = json.dumps(list(texts)), {"Content-Type": "application/json"}
    try:
        response = httpx.post(
            f"{url}/invocations", content=body, headers=headers, timeout=seconds, trust_env=False
        )
    except httpx.HTTPError as error:
        raise EndpointError(
            f"The endpoint {url} did not answer ({type(error).__name__}: {error}): start it with "
            "`python -m flows.deploy`."
        ) from error
    if response.status_code != 200:
        raise EndpointError(f"The endpoint {url} answered {response.status_code}: {response.text[:500]}")
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in lists that fit into a request, and their answers into its response."""
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(json.dumps(text)) + 2  # all of it ASCII
        if batch and (size + length > MAX_BYTES or len(batch) == MAX_TEXTS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch
