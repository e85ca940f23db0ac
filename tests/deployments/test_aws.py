"""The template of AWS: whole in itself, with the policies of deployments/iam; its host starts the stack."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.cloud import Environment
from tests.linters import lint
from tests.template import (
    PARAMETERS,
    POLICIES,
    ROOT,
    TEMPLATE,
    loaded,
    policy,
    references,
    resolved,
    resources,
)

PSEUDO = {"AWS::AccountId", "AWS::Region", "AWS::StackName"}
ATTRIBUTES = {"AWS::IAM::Role": {"Arn"}, "AWS::EC2::SecurityGroup": {"GroupId"}}
VALUES = PARAMETERS | {
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-central-1",
    "Bucket": "sentiment-bucket",
    "Repository": "sentiment",
    "EndpointName": "sentiment",
    "EndpointRole": "sentiment-endpoint",
    "EndpointRole.Arn": "arn:aws:iam::123456789012:role/sentiment-endpoint",
    "GitHubProject": "sentiment-flows",
    "Revision": "v0.1.0",
}
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
[ "$1" != clone ] || mkdir -p {folder}/opt/sentiment-flows/containers/stack
"""


def test_every_reference_leads_somewhere_and_every_parameter_is_used() -> None:
    template = loaded()
    types = {name: resource["Type"] for name, resource in template["Resources"].items()}
    used = set(references(template))
    for name in used:
        owner, _, attribute = name.partition(".")
        if attribute:
            assert attribute in ATTRIBUTES[types[owner]], name
        else:
            assert name in PSEUDO | types.keys() | template["Parameters"].keys(), name
    assert template["Parameters"].keys() <= used


DEFECTS = {
    "E3002": ("VersioningConfiguration:", "Versioning:"),
    "E3030": ("ImageTagMutability: IMMUTABLE", "ImageTagMutability: MUTABEL"),
    "W3037": ("Action: iam:PassRole", "Action: iam:HandOnRole"),
    "E3012": ("VolumeSize: 50", "VolumeSize: large"),
}
"""Rules of cfn-lint, and what breaks them."""


def test_its_linter_finds_nothing_but_what_is_planted(tmp_path: Path) -> None:
    template = tmp_path / "deployments" / "aws.yaml"
    template.parent.mkdir()
    template.write_text(TEMPLATE)
    result = lint(tmp_path, "cfn-lint")
    assert result.returncode == 0, result.stdout + result.stderr
    planted = TEMPLATE
    for sound, broken in DEFECTS.values():
        assert sound in planted
        planted = planted.replace(sound, broken, 1)
    template.write_text(planted)
    result = lint(tmp_path, "cfn-lint")
    assert result.returncode != 0
    assert set(re.findall(r"^[EW]\d{4}\b", result.stdout, re.M)) == set(DEFECTS), result.stdout


def test_it_keeps_to_what_cloudformation_reads() -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html"""
    assert not [
        event for event in yaml.parse(TEMPLATE, yaml.SafeLoader) if isinstance(event, yaml.AliasEvent)
    ]
    assert len(TEMPLATE.encode()) < 51200, "longer ones have to be put into S3 first"
    template = loaded()
    for section in ("Parameters", "Resources", "Outputs"):
        assert all(name.isascii() and name.isalnum() for name in template[section])


def expected(name: str) -> Any:
    return policy(name, "sentiment-bucket", "sentiment", "sentiment-endpoint", "123456789012", "eu-central-1")


def test_the_roles_have_the_policies_of_the_folder_and_no_others() -> None:
    used = set()
    for name, role in resources("AWS::IAM::Role").items():
        for entry in role["Policies"]:
            used.add(stem := entry["PolicyName"])
            assert resolved(entry["PolicyDocument"], VALUES) == expected(stem), f"{stem}.json differs"
        trust = resolved(role["AssumeRolePolicyDocument"], VALUES)
        [stem] = [stem for stem in POLICIES if stem.endswith("-trust") and expected(stem) == trust]
        used.add(stem)
        managed = role.get("ManagedPolicyArns", [])
        shell = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
        assert managed == ([shell] if name == "MlflowRole" else [])
    [deployer] = resources("AWS::IAM::Policy").values()
    assert resolved(deployer["PolicyDocument"], VALUES) == expected("deployer"), "deployer.json differs"
    assert used | {"deployer"} == POLICIES.keys()


def test_the_bucket_and_the_host_are_shut_and_images_are_scanned() -> None:
    [bucket] = resources("AWS::S3::Bucket").values()
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert any("AbortIncompleteMultipartUpload" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])
    [repository] = resources("AWS::ECR::Repository").values()
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    rules = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert [rule["rulePriority"] for rule in rules] == [1, 2, 3]
    [group] = resources("AWS::EC2::SecurityGroup").values()
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupIngress"]] == [(443, 443)]
    [host] = resources("AWS::EC2::Instance").values()
    assert host["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert all(disk["Ebs"]["Encrypted"] for disk in host["BlockDeviceMappings"])


def test_its_output_is_a_file_of_variables_that_the_blocks_read() -> None:
    text = resolved(loaded()["Outputs"]["Environment"]["Value"], VALUES)
    given = dict(line.split("=", 1) for line in text.splitlines())
    assert {"sentiment_bucket", "sentiment_repository", "mlflow_tracking_uri"} <= set(map(str.lower, given))
    assert set(map(str.lower, given)) <= Environment.model_fields.keys()
    page = (ROOT / "docs" / "cloud.md").read_text()
    assert all(f"`{name}`" in page for name in given)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Run what the host runs on its first start, with stand-ins for apt-get, git and docker."""
    [server] = resources("AWS::EC2::Instance").values()
    script = resolved(server["UserData"]["Fn::Base64"], VALUES)
    for folder in ("/etc", "/opt"):
        (tmp_path / folder[1:]).mkdir()
        script = script.replace(f"{folder}/sentiment", f"{tmp_path}{folder}/sentiment")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "git", "docker"):
        (programs / name).write_text(STAND_IN.format(log=tmp_path / "log", folder=tmp_path))
        (programs / name).chmod(0o755)
    (tmp_path / "script").write_text(script)
    command = [str(tmp_path / "script")]
    (tmp_path / "script").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(command, env={"PATH": path}, check=True, capture_output=True, text=True)
    return tmp_path


def test_the_host_gets_all_that_the_stack_asks_for(host: Path) -> None:
    compose = (ROOT / "containers" / "stack" / "compose.yaml").read_text()
    stack = host / "opt" / "sentiment-flows" / "containers" / "stack"
    given = dict(line.split("=", 1) for line in (stack / ".env").read_text().splitlines())
    assert given.keys() == set(re.findall(r"\$\{(\w+):\?", compose))
    assert given["BACKUP_BUCKET"] == given["MLFLOW_BUCKET"] == "sentiment-bucket"
    secrets = host / "etc" / "sentiment-stack"
    assert {path.name for path in secrets.iterdir()} == yaml.safe_load(compose)["secrets"].keys()
    assert secrets.stat().st_mode & 0o777 == 0o700
    texts = {path.read_text() for path in secrets.iterdir()}
    assert len(texts) == 6 and all(re.fullmatch(r"(flows:)?[0-9a-f]{64}\n", text) for text in texts)
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in secrets.iterdir())
    log = (host / "log").read_text().splitlines()
    assert log[-1] == "docker compose up --build --detach --wait"
    assert log[-2].startswith(
        "git clone --depth 1 --branch v0.1.0 https://github.com/you/sentiment-flows.git "
    )
