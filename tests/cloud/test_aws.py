"""The template of AWS, made into a stack by moto."""

import re
import sys
from ast import literal_eval
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import free_ports
from tests.cloud.registry_server import ACCOUNT, REGION, running
from tests.template import PARAMETERS, TEMPLATE, policy

STACK = "sentiment-team"
Clients = dict[str, Any]

MOTO = """
import sys
from unittest.mock import MagicMock

for name in ("", ".validation", ".validation.exceptions"):
    sys.modules["openapi_spec_validator" + name] = MagicMock()

from moto.server import main

main(sys.argv[1:])
"""
"""A moto server of its own: its CloudFormation imports a package that only API Gateway uses."""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    import boto3

    [port] = free_ports(1)
    names = ("cloudformation", "ec2", "ecr", "iam", "s3", "ssm")
    settings = {
        "region_name": REGION,
        "endpoint_url": f"http://127.0.0.1:{port}",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    command = [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, tmp_path_factory.mktemp("aws")):
        yield {name: boto3.client(name, **settings) for name in names}


@pytest.fixture
def stack(aws: Clients) -> Iterator[dict[str, Any]]:
    """Create the stack, and delete it if the test has not."""
    [vpc] = aws["ec2"].describe_vpcs()["Vpcs"]
    subnet = aws["ec2"].describe_subnets()["Subnets"][0]["SubnetId"]
    image = aws["ec2"].describe_images()["Images"][0]["ImageId"]
    aws["ssm"].put_parameter(Name="/test/image", Value=image, Type="String", Overwrite=True)
    network = {"Vpc": vpc["VpcId"], "Subnet": subnet}
    aws["cloudformation"].create_stack(
        StackName=STACK,
        TemplateBody=re.sub("/aws/service/canonical/.*", "/test/image", TEMPLATE),  # moto does not know it
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in (PARAMETERS | network).items()
        ],
    )
    [made] = aws["cloudformation"].describe_stacks(StackName=STACK)["Stacks"]
    yield made
    aws["cloudformation"].delete_stack(StackName=STACK)
    aws["ssm"].delete_parameter(Name="/test/image")


def inventory(aws: Clients) -> dict[str, set[str]]:
    """Return what there is of the kinds that the template makes, less addresses: moto deletes none."""
    instances = [run["Instances"] for run in aws["ec2"].describe_instances()["Reservations"]]
    return {
        "buckets": {found["Name"] for found in aws["s3"].list_buckets()["Buckets"]},
        "repositories": {
            found["repositoryName"] for found in aws["ecr"].describe_repositories()["repositories"]
        },
        "roles": {found["RoleName"] for found in aws["iam"].list_roles()["Roles"]},
        "profiles": {
            found["InstanceProfileName"] for found in aws["iam"].list_instance_profiles()["InstanceProfiles"]
        },
        "groups": {found["GroupId"] for found in aws["ec2"].describe_security_groups()["SecurityGroups"]},
        "instances": {
            found["InstanceId"] for run in instances for found in run if found["State"]["Name"] == "running"
        },
    }


def physical(aws: Clients) -> dict[str, str]:
    listed = aws["cloudformation"].describe_stack_resources(StackName=STACK)["StackResources"]
    known = [entry for entry in listed if "LogicalResourceId" in entry]  # moto has no bucket policies
    return {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in known}


def test_the_stack_has_all_that_the_team_needs(aws: Clients, stack: dict[str, Any]) -> None:
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    made = physical(aws)
    encryption = aws["s3"].get_bucket_encryption(Bucket=made["Bucket"])["ServerSideEncryptionConfiguration"]
    assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    [repository] = aws["ecr"].describe_repositories(repositoryNames=["sentiment"])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"

    [instance] = [
        found
        for run in aws["ec2"].describe_instances(InstanceIds=[made["MlflowServer"]])["Reservations"]
        for found in run["Instances"]
    ]
    assert instance["State"]["Name"] == "running"
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{made['MlflowProfile']}")
    for profile, role in (("MlflowProfile", "MlflowRole"), ("WorkerProfile", "WorkerRole")):
        found = aws["iam"].get_instance_profile(InstanceProfileName=made[profile])["InstanceProfile"]
        assert [entry["RoleName"] for entry in found["Roles"]] == [made[role]]

    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in stack["Outputs"]}
    assert f"SENTIMENT_BUCKET={made['Bucket']}\n" in outputs["Environment"]
    assert outputs["GitHubRole"] == f"arn:aws:iam::{ACCOUNT}:role/{made['GitHubRole']}"
    [address] = aws["ec2"].describe_addresses(PublicIps=[outputs["Address"]])["Addresses"]
    assert address["InstanceId"] == made["MlflowServer"]


def test_the_roles_got_the_policies_of_the_folder(aws: Clients, stack: dict[str, Any]) -> None:
    made = physical(aws)
    roles = {
        "EndpointRole": ("endpoint-trust", ["endpoint"]),
        "GitHubRole": ("github-trust", ["deployer", "github"]),
        "WorkerRole": ("ec2-trust", ["worker"]),
        "MlflowRole": ("ec2-trust", ["mlflow"]),
    }
    assert {name for name in made if name.endswith("Role")} == roles.keys()

    def expected(name: str) -> Any:
        return policy(name, made["Bucket"], made["Repository"], made["EndpointRole"], ACCOUNT, REGION)

    for name, (trust, policies) in roles.items():
        role = aws["iam"].get_role(RoleName=made[name])["Role"]
        assert role["AssumeRolePolicyDocument"] == expected(trust)
        assert sorted(aws["iam"].list_role_policies(RoleName=made[name])["PolicyNames"]) == policies
        for stem in policies:
            answer = aws["iam"].get_role_policy(RoleName=made[name], PolicyName=stem)
            document = answer["PolicyDocument"]
            found = literal_eval(document) if isinstance(document, str) else document  # moto's is no JSON
            assert found == expected(stem)


def test_deleting_the_stack_leaves_nothing(aws: Clients, request: pytest.FixtureRequest) -> None:
    before = inventory(aws)
    request.getfixturevalue("stack")
    during = inventory(aws)
    assert all(len(during[kind]) > len(before[kind]) for kind in before), during
    aws["cloudformation"].delete_stack(StackName=STACK)
    assert inventory(aws) == before
