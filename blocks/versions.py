"""What an endpoint of SageMaker has had: a model and a configuration of the same name for each version."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blocks.aws import pairs, unless
from blocks.endpoint import Release
from blocks.hosting import Instances, Serverless
from blocks.role import Resource

PASSED = "passed"  # tag of a configuration that has served and passed the check: when
KINDS = {"model": "Model", "endpoint-config": "EndpointConfig"}  # of ARNs, and what the API calls them


@dataclass(frozen=True)
class _Part:
    """A configuration or a model."""

    kind: str
    name: str
    created: datetime
    tags: dict[str, str]


@dataclass(frozen=True)
class Versions:
    """The versions of an endpoint that SageMaker knows, those alone that bear its tags.

    Args:
        client: Of sagemaker.
        prefix: What their names begin with.
        tags: What they bear.
    """

    client: Any
    prefix: str
    tags: dict[str, str]

    def make(self, name: str, release: Release, role: str, hosting: Instances | Serverless) -> None:
        """Make model and configuration, each unless it is there; an image only for a new model."""
        self.make_model(name, release, role, hosting)
        if not self._there(self.client.describe_endpoint_config, EndpointConfigName=name):
            tags = pairs(self.tags | {"version": release.version, "digest": release.digest})
            with unless("already existing"):
                self.client.create_endpoint_config(EndpointConfigName=name, Tags=tags, **hosting.config(name))

    def make_model(self, name: str, release: Release, role: str, hosting: Instances | Serverless) -> str:
        """Make the model, and an image for it, unless it is there; returns its name."""
        if not self._there(self.client.describe_model, ModelName=name):
            image = release.image()
            with unless("already existing"):
                self.client.create_model(
                    ModelName=name,
                    PrimaryContainer={"Image": image},
                    ExecutionRoleArn=role,
                    EnableNetworkIsolation=isinstance(hosting, Instances),  # serverless has no such thing
                    Tags=pairs(self.tags | {"version": release.version, "digest": release.digest}),
                )
        return name

    def passed(self) -> list[str]:
        """Return the names of those that have passed the check, the last one first."""
        return _passed(self._parts())

    def mark(self, arn: str) -> None:
        """Note that the configuration of an ARN has passed the check."""
        self.client.add_tags(ResourceArn=arn, Tags=pairs({PASSED: datetime.now(UTC).isoformat()}))

    def tags_of(self, arn: str) -> dict[str, str]:
        """Return the tags of something; none if it is not there."""
        return tags_of(self.client, arn)

    def resources(self) -> list[Resource]:
        """Return those that are there."""
        return [
            Resource(kind=part.kind, name=part.name, detail=f"made {part.created:%Y-%m-%d %H:%M}")
            for part in self._parts()
        ]

    def discard(self, *names: str) -> bool:
        """Delete those of the given names, or all of them; tells whether there were any."""
        return self._delete([part for part in self._parts() if not names or part.name in names])

    def prune(self, used: set[str], keep: int, age: float) -> None:
        """Delete all but those that are used, and the last ones that passed.

        Args:
            used: Names of those that serve, or are about to.
            keep: Number of others to keep.
            age: Seconds for which one may be another deploy's, which is about to use it.
        """
        parts = self._parts()
        former = [name for name in _passed(parts) if name not in used]
        kept, now = used | set(former[:keep]), datetime.now(UTC)
        self._delete(
            [
                part
                for part in parts
                if part.name not in kept
                and (part.name in former or (now - part.created).total_seconds() > age)
            ]
        )

    def _parts(self) -> list[_Part]:
        parts = []
        for kind, key in KINDS.items():
            operation = {"model": "list_models", "endpoint-config": "list_endpoint_configs"}[kind]
            for page in self.client.get_paginator(operation).paginate(NameContains=self.prefix):
                for item in page[f"{key}s"]:
                    name = item[f"{key}Name"]
                    tags = self.tags_of(item[f"{key}Arn"]) if name.startswith(self.prefix) else {}
                    if tags.items() >= self.tags.items():
                        parts.append(_Part(kind, name, item["CreationTime"], tags))
        return parts

    def _delete(self, parts: list[_Part]) -> bool:
        for part in parts:  # models come first: it is their configurations that say that they may go
            with unless("Could not find"):
                if part.kind == "model":
                    self.client.delete_model(ModelName=part.name)
                else:
                    self.client.delete_endpoint_config(EndpointConfigName=part.name)
        return bool(parts)

    def _there(self, describe: Any, **name: str) -> bool:
        with unless("Could not find"):
            describe(**name)
            return True
        return False


def tags_of(client: Any, arn: str) -> dict[str, str]:
    """Return the tags of something in SageMaker; none if it is not there."""
    with unless("not (find|found|exist)"):
        pages = client.get_paginator("list_tags").paginate(ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    return {}


def _passed(parts: list[_Part]) -> list[str]:
    passed = [part for part in parts if PASSED in part.tags]
    return [part.name for part in sorted(passed, key=lambda part: part.tags[PASSED], reverse=True)]
