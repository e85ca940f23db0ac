"""The stack: what its files promise of versions, exposure and secrets."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from containers.stack.backup import seconds_to_wait

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "containers" / "stack"
COMPOSE: dict[str, Any] = yaml.safe_load((STACK / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PINS = dict(re.findall(r"^([\w.-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))


def test_the_compose_file_is_one() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(STACK / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_to_exact_versions(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w.]+)?", SERVICES[name]["image"])


def test_servers_have_the_versions_of_their_clients() -> None:
    assert SERVICES["mlflow"]["image"].endswith(f":{PINS['mlflow']}")
    assert SERVICES["backup"]["image"].endswith(f":{PINS['mlflow']}")
    assert f":{PINS['prefect']}-" in SERVICES["prefect"]["image"]


def test_the_image_takes_all_versions_from_the_lock() -> None:
    dockerfile = (STACK / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE_IMAGE=python:3\.11\.\d+-slim-bookworm$", dockerfile, re.MULTILINE)
    [expression] = re.findall(r"sed -n '(.*?)'", dockerfile)
    lock = str(ROOT / "requirements.lock")
    lines = subprocess.check_output(["sed", "-n", expression, lock], text=True).splitlines()
    constraints = map(Requirement, lines)
    assert {(r.name, str(r.specifier)) for r in constraints} >= {(n, f"=={v}") for n, v in PINS.items()}
    assert {"mlflow", "psycopg2-binary", "boto3", "flask-wtf"} <= PINS.keys()


def test_only_the_proxy_is_reachable_and_only_by_tls() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"proxy": ["443:443"]}
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["data"]
    assert not any("network_mode" in service or "privileged" in service for service in SERVICES.values())


def test_secrets_are_files_outside_of_the_checkout() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-/etc/sentiment-stack}}/{name}"}
    used = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert used == COMPOSE["secrets"].keys()
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|AUTH|KEY|URL", variable):
                assert variable.endswith("_FILE") or variable == "PREFECT_UI_API_URL"
            assert not re.search(r"://[^/\s]*@", str(value))
    for text in (path.read_text() for path in STACK.iterdir() if path.is_file()):
        assert not re.search(r"://\w+:[^/\s]*@", text), "no password in an address"


def test_services_have_no_more_rights_than_they_need() -> None:
    for name in SERVICES.keys() - {"postgres"}:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert all(service["security_opt"] == ["no-new-privileges:true"] for service in SERVICES.values())
    users = re.findall(r"^USER (\w+)$", (STACK / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["mlflow", "root", "mlflow"]


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert sorted(mounted) == ["./Caddyfile", "./databases.sh", "./prefect.sh"]
    assert all((STACK / name).is_file() for name in mounted)


@pytest.mark.parametrize("script", sorted(path.name for path in STACK.glob("*.sh")))
def test_scripts_are_whole(script: str) -> None:
    assert subprocess.run(["sh", "-n", str(STACK / script)], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-11-24T02:00", 1), ("2026-11-24T03:00", 24), ("2026-12-31T23:00", 4), ("2026-02-28T12:30", 14.5)],
)
def test_backups_are_due_at_three(now: str, hours: float) -> None:
    assert seconds_to_wait(datetime.fromisoformat(now).replace(tzinfo=UTC)) == hours * 3600
