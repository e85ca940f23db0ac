"""The template of AWS, as data."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = (ROOT / "deployments" / "aws.yaml").read_text()
POLICIES = {path.stem: path.read_text() for path in (ROOT / "deployments" / "iam").glob("*.json")}
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]{4,}\b")
VARIABLE = re.compile(r"\$\{([\w:.]+)\}")


class _Loader(yaml.SafeLoader):
    """Reads `!Ref A` as `{"!Ref": "A"}`."""


def _function(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    sequence = isinstance(node, yaml.SequenceNode)
    return {f"!{name}": loader.construct_sequence(node, True) if sequence else loader.construct_scalar(node)}


_Loader.add_multi_constructor("!", _function)


def loaded() -> dict[str, Any]:
    """Return the template."""
    template: dict[str, Any] = yaml.load(TEMPLATE, _Loader)
    return template


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of the resources of a type, by name."""
    found = loaded()["Resources"].items()
    return {name: resource["Properties"] for name, resource in found if resource["Type"] == kind}


def references(node: Any) -> Iterator[str]:
    """Yield each name that a part of the template refers to, such as `Bucket` or `Role.Arn`."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("!Ref", "!GetAtt"):
                yield value
            elif key == "!Sub":
                yield from VARIABLE.findall(value)
            elif key == "!If":
                yield from references(value[1:])
            else:
                assert key == "!Equals" or not key.startswith("!"), f"{key} is not known here"
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(node: Any, values: Mapping[str, str]) -> Any:
    """Return a part of the template with values in the place of references."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("!Ref", "!GetAtt"):
                return values[value]
            if key == "!Sub":
                return VARIABLE.sub(lambda name: values[name[1]], value)
        return {key: resolved(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, values) for value in node]
    return node


def policy(name: str, bucket: str, repository: str, role: str, account: str, region: str) -> Any:
    """Return a policy of deployments/iam for what the template makes; `role` is the endpoint's."""
    values = {
        "ACCOUNT": account,
        "REGION": region,
        "REPOSITORY": repository,
        "OWNER": "you",
        "OWNER_ID": "1234",
        "PROJECT": "sentiment-flows",
        "PROJECT_ID": "5678",
        "LAKE_BUCKET": bucket,
        "LAKE_PREFIX": "lake",
        "MLFLOW_BUCKET": bucket,
        "MLFLOW_PREFIX": "artifacts",
        "BACKUP_BUCKET": bucket,
        "CAPTURE_BUCKET": bucket,
        "CAPTURE_PREFIX": "captured",
        "ENDPOINT": "sentiment",
        "ENDPOINT_ROLE": role,
    }
    return json.loads(PLACEHOLDER.sub(lambda found: values[found[0]], POLICIES[name]))


PARAMETERS = {
    "GitHubOwner": "you",
    "GitHubOwnerId": "1234",
    "GitHubProjectId": "5678",
    "MlflowHost": "mlflow.example.com",
    "PrefectHost": "prefect.example.com",
    "AcmeEmail": "operations@example.com",
}
"""Those that have no default, less the network."""
