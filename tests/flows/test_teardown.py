"""Taking it down, with the blocks of a laptop; tests/cloud/docker/test_teardown.py has those of AWS."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect_aws import AwsCredentials
from prefect_snowflake import SnowflakeConnector, SnowflakeCredentials
from pydantic import SecretStr

from blocks.endpoint import Release
from blocks.lake import LocalLake
from blocks.process import LocalEndpoint
from blocks.role import Resource
from blocks.s3 import S3Lake
from blocks.snowflake import SnowflakeWarehouse
from blocks.tracking import ServerTracking
from flows.teardown import show, teardown
from tasks.endpoint import smoke_test
from tasks.teardown import TeardownError, TeardownParameters, TeardownResult
from tests.bundles import build_bundle

YES = TeardownParameters(yes=True)


def release(bundle: Path) -> Release:
    return Release(bundle, "1", build_bundle(bundle), lambda: "")


def listed(result: TeardownResult) -> dict[str, str]:
    """Return the fate of each thing but the engine's images, which are not the test's."""
    return {what: fate for what, _, _, fate in result.rows() if what != "image"}


def test_the_endpoint_is_listed_then_ended_and_data_stays(
    blocks: None,
    lake: LocalLake,
    endpoint: LocalEndpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lake.write("raw/tweets", b"text")
    serving = endpoint.deploy(release(tmp_path / "bundle"), smoke_test)
    data = {
        "folder of the endpoint": f"left: rm -r {tmp_path / 'endpoint'}",
        "folder of the lake": f"left: rm -r {tmp_path / 'lake'}",
        "folder of MLflow": f"left: rm -r {tmp_path / 'mlflow'}",
    }
    result = teardown()
    assert listed(result) == {"process": "to delete", **data}
    assert result.deleted == ()
    assert "1 to delete" in result.said()
    assert endpoint.serving() == serving

    result = teardown(YES)
    assert listed(result) == {"process": "deleted", **data}
    assert result.said().startswith("1 deleted, 0 to delete, ")
    assert endpoint.serving() is None
    assert lake.read("raw/tweets") == b"text"
    assert listed(teardown(YES)) == data

    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    kept = [artifact for artifact in artifacts if artifact.key == "teardown"]
    assert any('"deleted"' in str(artifact.data) for artifact in kept)
    show(result)
    assert "process" in capsys.readouterr().out


def test_a_failure_is_named_with_the_way_on(blocks: None, endpoint: LocalEndpoint, tmp_path: Path) -> None:
    endpoint.deploy(release(tmp_path / "bundle"), smoke_test)
    (tmp_path / "endpoint" / "lock").unlink()
    (tmp_path / "endpoint" / "lock").mkdir()
    with pytest.raises(TeardownError, match="Cannot write to .* The same command goes on"):
        teardown(YES)
    assert endpoint.serving() is not None
    (tmp_path / "endpoint" / "lock").rmdir()
    assert listed(teardown(YES))["process"] == "deleted"


def test_the_data_of_a_team_is_listed_with_what_deletes_it_and_without_secrets() -> None:
    secret = SecretStr("planted-7e1d-secret")
    keys = AwsCredentials(aws_access_key_id="key", aws_secret_access_key=secret, region_name="eu-central-1")
    user = SnowflakeCredentials(account="org-account", user="flows", password=secret)
    connector = SnowflakeConnector(credentials=user, database="TWEETS", warehouse="WH", schema="PUBLIC")
    roles = (
        S3Lake(bucket="tweets", prefix="production", credentials=keys),
        SnowflakeWarehouse(connector=connector),
        ServerTracking(address="https://mlflow.example.com", user="flows", password=secret),
    )
    found = [resource for role in roles for resource in role.resources()]
    assert [resource.by_hand for resource in found] == [
        "aws s3 rm --recursive s3://tweets/production/",
        "DROP TABLE TWEETS.PUBLIC.PROCESSED_TWEETS",
        "delete them at https://mlflow.example.com",
    ]
    assert "planted" not in str(found)


def test_what_shows_a_path_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    odd = Resource(kind="folder", name="[/b]", by_hand="rm")
    show(TeardownResult(deleted=(), left=(odd,)))
    assert "[/b]" in capsys.readouterr().out
