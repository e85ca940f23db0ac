"""The template of AWS, made into a stack by moto, which has no bucket policies and checks few properties."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud.registry_server import ACCOUNT, REGION, Ecr
from tests.template import PARAMETERS, TEMPLATE, policy

STACK = "sentiment-team"
Clients = dict[str, Any]


@pytest.fixture
def aws(ecr: Ecr) -> Clients:
    import boto3

    names = ("cloudformation", "ec2", "ecr", "iam", "s3", "ssm")
    settings = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "endpoint_url": ecr.api.url}
    return {name: boto3.client(name, region_name=REGION, **settings) for name in names}


@pytest.fixture
def stack(aws: Clients) -> Iterator[dict[str, Any]]:
    """Create the stack, and delete it if the test has not."""
    [vpc] = aws["ec2"].describe_vpcs()["Vpcs"]
    subnet = aws["ec2"].describe_subnets()["Subnets"][0]["SubnetId"]
    image = aws["ec2"].describe_images()["Images"][0]["ImageId"]
    aws["ssm"].put_parameter(Name="/test/image", Value=image, Type="String", Overwrite=True)
    network = {"Vpc": vpc["VpcId"], "Subnet": subnet, "Image": "/test/image"}
    aws["cloudformation"].create_stack(
        StackName=STACK,
        TemplateBody=TEMPLATE,
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
    """Return what there is of the kinds that the template makes."""
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
        "addresses": {found["PublicIp"] for found in aws["ec2"].describe_addresses()["Addresses"]},
        "instances": {
            found["InstanceId"] for run in instances for found in run if found["State"]["Name"] == "running"
        },
    }


def physical(aws: Clients) -> dict[str, str]:
    listed = aws["cloudformation"].describe_stack_resources(StackName=STACK)["StackResources"]
    return {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in listed}


def test_the_stack_has_all_that_the_team_needs(aws: Clients, stack: dict[str, Any]) -> None:
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    made = physical(aws)
    encryption = aws["s3"].get_bucket_encryption(Bucket=made["Bucket"])["ServerSideEncryptionConfiguration"]
    assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    [repository] = aws["ecr"].describe_repositories(repositoryNames=["sentiment"])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}

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
    assert outputs["Address"] in inventory(aws)["addresses"]


def test_the_roles_got_the_policies_of_the_folder(aws: Clients, stack: dict[str, Any]) -> None:
    made = physical(aws)
    roles = {
        "GitHubRole": ("github-trust", ["github"]),
        "WorkerRole": ("ec2-trust", ["worker"]),
        "MlflowRole": ("ec2-trust", ["mlflow"]),
    }
    assert {name for name in made if name.endswith("Role")} == roles.keys()

    def expected(name: str) -> Any:
        return policy(name, made["Bucket"], made["Repository"], ACCOUNT, REGION)

    for name, (trust, policies) in roles.items():
        role = aws["iam"].get_role(RoleName=made[name])["Role"]
        assert role["AssumeRolePolicyDocument"] == expected(trust)
        assert aws["iam"].list_role_policies(RoleName=made[name])["PolicyNames"] == policies
        for stem in policies:
            answer = aws["iam"].get_role_policy(RoleName=made[name], PolicyName=stem)
            assert answer["PolicyDocument"] == expected(stem)


def test_deleting_the_stack_leaves_nothing(aws: Clients, request: pytest.FixtureRequest) -> None:
    before = inventory(aws)
    request.getfixturevalue("stack")
    during = inventory(aws)
    assert all(len(during[kind]) > len(before[kind]) for kind in before), during
    aws["cloudformation"].delete_stack(StackName=STACK)
    assert inventory(aws) == before
