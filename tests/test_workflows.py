"""The workflows: clean to three linters that do find defects, short on rights, and true to prefect.yaml."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.linters import MAKEFILE, lint
from tests.workflows import ROOT, WORKFLOWS, jobs, loaded, steps

PAGE = (ROOT / "docs" / "ci.md").read_text()
IAM = sorted((ROOT / "deployments" / "iam").glob("*.json"))


def declared() -> list[dict[str, Any]]:
    deployments: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return deployments


def flow(deployment: dict[str, Any]) -> str:
    return str(deployment["entrypoint"]).rpartition(":")[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the workflows into a repository of their own."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    return tmp_path


DEFECTS = {
    "an action that is not pinned": (
        "run_flows",
        "zizmor",
        r"actions/checkout@\w{40} # \S+",
        "actions/checkout@v6",
    ),
    "a template in a script": ("run_flows", "zizmor", r'"\$DEPLOYMENT"', "${{ inputs.deployment }}"),
    "a choice in a script": ("deploy", "zizmor", r"case \$ACTION", "case ${{ inputs.action }}"),
    "a tag in a script": ("release", "zizmor", r'create "\$TAG"', "create ${{ github.ref_name }}"),
    "credentials left on disk": (
        "run_flows",
        "zizmor",
        r"        with:\n          persist-credentials: false\n",
        "",
    ),
    "rights for all jobs": ("run_flows", "zizmor", r"permissions: \{\}", "permissions: write-all"),
    "an input that is not there": ("run_flows", "actionlint", r"inputs\.parameters", "inputs.params"),
    "a job that is not there": ("benchmark", "actionlint", "needs: deploy", "needs: deployment"),
    "a workflow that is not there": ("release", "actionlint", r"/ci\.yml", "/cj.yml"),
    "an unknown key": ("run_flows", "check-jsonschema", "runs-on:", "runs-at:"),
    "an unknown right": ("release", "check-jsonschema", "contents: write", "contents: sometimes"),
}


@pytest.mark.parametrize("linter", ["actionlint", "zizmor", "check-jsonschema"])
def test_the_linters_find_nothing(checkout: Path, linter: str) -> None:
    result = lint(checkout, linter)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails_its_linter(checkout: Path, defect: str) -> None:
    stem, linter, found, planted = DEFECTS[defect]
    name = f"{stem}.yml"
    workflow = checkout / ".github" / "workflows" / name
    text, count = re.subn(found, lambda _: planted, workflow.read_text(), count=1)
    if defect == "rights for all jobs":
        text = re.sub(r"    permissions:\n(      .*\n)+", "", text)
    assert count == 1
    workflow.write_text(text)
    result = lint(checkout, linter)
    assert result.returncode != 0
    assert name in result.stdout + result.stderr


def test_every_action_is_pinned_by_commit_and_names_its_version() -> None:
    used = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    used = [line for line in used if "uses: $/" not in line]  # this repository, at the same commit
    assert len(used) > 8
    for line in used:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    commits: dict[str, set[str]] = {}
    for line in used:
        action, commit = line.split("uses: ")[1].split("@")
        commits.setdefault(action, set()).add(commit)
    assert all(len(pins) == 1 for pins in commits.values()), "the same action at two versions"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_rights_are_given_to_jobs_and_sparingly(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {}
    assert "cancel-in-progress" in workflow["concurrency"]
    for job in workflow["jobs"].values():
        if "steps" not in job:
            assert job["uses"].startswith("$/.github/workflows/")
            assert job["permissions"] == {"contents": "read"}
            continue
        assert job["timeout-minutes"] <= 360
        scripts = [step["run"] for step in job["steps"] if "run" in step]
        configures = any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
        releases = any("gh release create" in script for script in scripts)
        rights = {"contents": "write" if releases else "read"} | ({"id-token": "write"} if configures else {})
        assert job["permissions"] == rights
        assert not releases or len(job["steps"]) == 1, "what may write to the repository runs nothing else"


def test_no_job_has_a_long_lived_key_of_aws() -> None:
    for path in WORKFLOWS:
        assert not re.search(r"(?i)aws[-_](access|secret|session)|AKIA|ASIA", path.read_text())
    given = [step["with"] for step in steps() if "aws" in step.get("uses", "")]
    role = {"role-to-assume": "${{ vars.AWS_ROLE_ARN }}", "aws-region": "${{ vars.AWS_REGION }}"}
    assert given == [role] * 3


def test_secrets_reach_only_shells_of_jobs_in_the_protected_environment() -> None:
    for name, job in jobs():
        scripts = [step for step in job.get("steps", []) if "run" in step]
        secret = sum(str(step.get("env", {})).count("secrets.") for step in scripts)
        assert str(job).count("secrets.") == secret, f"{name} gives a secret to more than a script"
        assert secret == 0 or job["environment"] == "production", name
        for step in scripts:
            assert "${{" not in step["run"], f"{name} pastes a value into a script"


def test_every_deployment_that_a_workflow_runs_is_declared() -> None:
    there = {f"{flow(deployment)}/{deployment['name']}" for deployment in declared()}
    scripts = "\n".join(step.get("run", "") for step in steps())
    named = set(re.findall(r"deployment run ([\w-]+/[\w-]+)", scripts))
    assert named == {"benchmark/docker"}
    inputs = loaded(ROOT / ".github/workflows/run_flows.yml")["on"]["workflow_dispatch"]["inputs"]
    assert named <= there == set(inputs["deployment"]["options"])


def test_no_flow_is_scheduled_both_here_and_in_prefect() -> None:
    scheduled = {flow(deployment) for deployment in declared() if deployment.get("schedules")}
    (path,) = [path for path in WORKFLOWS if "schedule" in loaded(path)["on"]]
    (step,) = [step for step in loaded(path)["jobs"]["run"]["steps"] if "env" in step]
    (here,) = re.findall(r"inputs\.deployment \|\| '(\w+)/\w+'", step["env"]["DEPLOYMENT"])
    assert here == "benchmark"
    assert here not in scheduled
    assert scheduled


def test_what_changes_production_waits_for_approval_and_is_never_cut_off() -> None:
    for name in ("deploy.yml", "release.yml"):
        workflow = loaded(ROOT / ".github/workflows" / name)
        assert workflow["concurrency"]["cancel-in-progress"] is False
        environments = [job.get("environment") for job in workflow["jobs"].values()]
        assert "production" in environments
        assert "pull_request" not in workflow["on"]


def test_each_action_of_deploy_is_a_flow() -> None:
    workflow = loaded(ROOT / ".github/workflows/deploy.yml")
    actions = workflow["on"]["workflow_dispatch"]["inputs"]["action"]["options"]
    script = workflow["jobs"]["deploy"]["steps"][-1]["run"]
    flows = dict(re.findall(r"^ *(\w+)\) set -- flows\.(\w+)", script, re.M))
    assert list(flows) == actions
    assert set(flows.values()) == {"deploy", "rollback"}


def test_a_release_needs_its_version_all_tests_and_the_image_in_this_order() -> None:
    release = loaded(ROOT / ".github/workflows/release.yml")["jobs"]
    assert [(name, job.get("needs")) for name, job in release.items()] == [
        ("version", None),
        ("test", "version"),
        ("image", "test"),
        ("release", "image"),
    ]
    called = loaded(ROOT / release["test"]["uses"].removeprefix("$/"))
    assert "workflow_call" in called["on"]
    assert called["jobs"]["test"]["strategy"]["matrix"]["tests"] == ["quick", "slow", "cloud"]


def script_of(workflow: str, name: str) -> str:
    (step,) = [
        step
        for job in loaded(ROOT / ".github/workflows" / workflow)["jobs"].values()
        for step in job.get("steps", [])
        if step.get("name") == name
    ]
    return str(step["run"])


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("tag", "merged", "said"),
    [("v1.2.3", True, ""), ("v1.2.4", True, "is not v1.2.3"), ("v1.2.3", False, "is not on main")],
    ids=["sound", "another version", "another branch"],
)
def test_a_tag_must_be_the_version_and_on_main(tmp_path: Path, tag: str, merged: bool, said: str) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    git(tmp_path, "init", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=Start")
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    if not merged:
        git(tmp_path, "commit", "--allow-empty", "--message=Go on")
    git(tmp_path, "checkout", "--detach")
    result = subprocess.run(
        ["bash", "-ec", script_of("release.yml", "Compare tag, version and branch")],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "TAG": tag},
        capture_output=True,
        text=True,
    )
    assert (result.returncode == 0) == (said == ""), result.stderr
    assert said in result.stdout


@pytest.mark.parametrize("there", [False, True])
def test_a_release_is_made_once(tmp_path: Path, there: bool) -> None:
    """With a stand-in for gh, which writes down how it is called: there is no GitHub here."""
    log = tmp_path / "log"
    program = f'#!/bin/sh\necho "$GH_REPO: $*" >> {log}\n[ "$2" != view ] || exit {0 if there else 1}\n'
    (tmp_path / "gh").write_text(program)
    (tmp_path / "gh").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TAG": "v1.2.3", "GH_REPO": "you/project"}
    script = script_of("release.yml", "Make the release")
    subprocess.run(["bash", "-ec", script], env=environment, check=True, capture_output=True)
    view = ["you/project: release view v1.2.3"]
    create = "you/project: release create v1.2.3 --verify-tag --title v1.2.3 --generate-notes"
    assert log.read_text().splitlines() == (view if there else [*view, create])


def test_make_and_paths_know_what_the_workflows_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    scripts = "\n".join(step.get("run", "") for step in steps()) + (ROOT / ".ci" / "run").read_text()
    used = set(re.findall(r"\b(?:make|twice) ([a-z-]+)", scripts))
    assert {"setup", "lint", "test", "test-slow", "test-cloud"} <= used <= targets
    for module in re.findall(r"python -m ([\w.]+)", scripts):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
    for pattern in loaded(ROOT / ".github/workflows/benchmark.yml")["on"]["push"]["paths"]:
        assert list(ROOT.glob(pattern)), f"nothing is called {pattern}"


def test_the_page_names_every_workflow_variable_and_policy() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    names = set(re.findall(r"\b(?:secrets|vars)\.(\w+)", text))
    assert {"PREFECT_API_URL", "AWS_ROLE_ARN"} <= names
    for name in [*names, *(path.name for path in WORKFLOWS), *(path.name for path in IAM)]:
        assert f"`{name}`" in PAGE, f"docs/ci.md does not name {name}"


def statements(path: Path) -> list[dict[str, Any]]:
    policy = json.loads(path.read_text())
    assert policy.keys() == {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    listed: list[dict[str, Any]] = policy["Statement"]
    assert len({statement["Sid"] for statement in listed}) == len(listed)
    assert all(statement["Effect"] == "Allow" for statement in listed)
    return listed


SERVICES = "application-autoscaling|cloudwatch|ecr|iam|logs|s3|sagemaker|sts"
EVERYWHERE = {  # what AWS grants for no less than everything
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScalingPolicies",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "sagemaker:ListEndpointConfigs",
    "sagemaker:ListModels",
    "sagemaker:ListTransformJobs",
}
NAMED = (
    r"arn:aws:(s3:::[A-Z_]+(/([A-Z_]+|backups|LAKE_PREFIX/(trained|transform))/\*)?"
    r"|ecr:REGION:ACCOUNT:repository/REPOSITORY"
    r"|iam::ACCOUNT:role/(ENDPOINT_ROLE|aws-service-role/[\w.-]+/\*)"
    r"|(sagemaker|cloudwatch|logs):REGION:ACCOUNT:[\w/:-]+[/:]ENDPOINT(-[a-z0-9]+|-v\*|-t\*|/\*|\*)?"
    r"|logs:REGION:ACCOUNT:log-group:/aws/sagemaker/TransformJobs\*"
    r"|application-autoscaling:REGION:ACCOUNT:scalable-target/\*)"
)


def listed(statement: dict[str, Any], key: str) -> list[str]:
    return statement[key] if isinstance(statement[key], list) else [statement[key]]


@pytest.mark.parametrize("path", IAM, ids=lambda path: path.name)
def test_policies_allow_named_actions_on_named_things(path: Path) -> None:
    for statement in statements(path):
        actions = listed(statement, "Action")
        assert all(re.fullmatch(rf"({SERVICES}):[A-Z][A-Za-z]+", action) for action in actions), actions
        if path.name.endswith("-trust.json"):
            assert statement["Principal"].keys() <= {"Federated", "Service"}
            continue
        resources = listed(statement, "Resource")
        if "*" in resources:
            assert set(actions) <= EVERYWHERE
        else:
            assert all(re.fullmatch(NAMED, resource) for resource in resources), resources
        if "scalable-target/*" in str(resources) or "iam:PassRole" in actions:
            assert statement["Condition"]["StringEquals"], "the service's name, as the thing has none"
        if "s3:ListBucket" in actions:
            assert statement["Condition"]["StringLike"]["s3:prefix"].rstrip("/*")


def test_the_role_of_ci_pushes_images_and_nothing_else() -> None:
    login, push = statements(ROOT / "deployments/iam/github.json")
    assert login["Action"] == "ecr:GetAuthorizationToken"
    assert "ecr:PutImage" in push["Action"]
    assert not [action for action in push["Action"] if re.search("Delete|Policy|Create|^(?!ecr:)", action)]


def test_only_jobs_of_this_repository_and_environment_get_the_role_of_ci() -> None:
    (statement,) = statements(ROOT / "deployments/iam/github-trust.json")
    issuer = "token.actions.githubusercontent.com"
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Principal"] == {"Federated": f"arn:aws:iam::ACCOUNT:oidc-provider/{issuer}"}
    assert statement["Condition"] == {
        "StringEquals": {
            f"{issuer}:aud": "sts.amazonaws.com",
            f"{issuer}:sub": "repo:OWNER@OWNER_ID/PROJECT@PROJECT_ID:environment:production",
        }
    }
    (environment,) = {job["environment"] for _, job in jobs() if "id-token" in job["permissions"]}
    assert environment == "production"


def test_the_page_names_every_placeholder_of_the_policies() -> None:
    text = "".join(path.read_text() for path in IAM)
    for placeholder in set(re.findall(r"\b[A-Z][A-Z_]{4,}\b", text)):
        assert f"`{placeholder}`" in PAGE


@pytest.mark.parametrize("path", IAM, ids=lambda path: path.name)
def test_the_command_of_the_page_fills_the_placeholders(path: Path) -> None:
    fill = "\n".join(line.strip() for line in PAGE[PAGE.index("    fill()") :].splitlines()[:2])
    result = subprocess.run(
        ["bash", "-ec", f"{fill}\nfill {path.name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    left = set(re.findall(r"\b[A-Z][A-Z_]{4,}\b", json.dumps(json.loads(result.stdout))))
    buckets = {f"{what}_{part}" for what in ("LAKE", "MLFLOW", "CAPTURE") for part in ("BUCKET", "PREFIX")}
    assert left <= {"BACKUP_BUCKET", *buckets}
    assert not left or not path.name.startswith("github")
