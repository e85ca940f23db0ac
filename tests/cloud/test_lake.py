"""The lake in S3: the contract of all lakes, and what does not pass by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect_aws import AwsCredentials

from blocks.lake import Lake
from blocks.s3 import S3Lake, _connection
from tasks.snapshots import write_snapshot
from tests.blocks.test_lake import (  # noqa: F401
    test_a_killed_writer_leaves_the_file_as_it_was,
    test_a_reader_never_sees_half_a_file,
    test_an_empty_frame_keeps_its_columns,
    test_files_are_found_copied_and_removed,
    test_frames_come_back_as_they_went,
    test_rows_come_in_the_order_of_the_keys,
    test_the_same_frame_is_the_same_bytes,
    test_what_is_written_is_read,
)
from tests.cloud.gateway import Gateway
from tests.cloud.lake import ANSWER, FRAME, failure, objects, plain_answers, read_part
from tests.cloud.s3_server import REGION, S3
from tests.tasks.test_snapshots import parts


@pytest.fixture
def lake(s3: S3, bucket: str) -> S3Lake:
    return S3Lake(bucket=bucket, prefix="team/lake", credentials=s3.credentials())


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Take all credentials away that this machine may have."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    _connection.cache_clear()
    yield
    _connection.cache_clear()


# Saved and used


def test_saved_it_is_the_lake_of_the_flows_and_keeps_its_secret(
    prefect_api: None, s3: S3, bucket: str, lake: S3Lake
) -> None:
    lake.credentials.save("test-aws", overwrite=True)
    S3Lake(bucket=bucket, prefix="/team/lake/", credentials=AwsCredentials.load("test-aws")).appoint()
    lake = Lake.current()  # type: ignore[assignment]
    assert type(lake) is S3Lake
    assert lake.check() == f"s3://{bucket}/team/lake, region {REGION}"
    lake.write_frame("a.parquet", FRAME)
    assert lake.uri("a.parquet") == f"s3://{bucket}/team/lake/a.parquet"
    assert sorted(objects(s3, bucket)) == [
        f"team/lake/{key}" for key in ("a.parquet", "check", "check.parquet")
    ]
    whole = S3Lake(bucket=bucket, credentials=s3.credentials())
    assert whole.uri("a") == f"s3://{bucket}/a"
    assert whole.scan(["team/lake/a.parquet"]).collect().equals(FRAME)
    answers = plain_answers("block_documents/filter", "block_types/filter")
    assert bucket in answers and s3.key in answers
    assert s3.secret not in answers + repr(lake) + str(lake) + repr(lake.credentials)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("given", ["variables", "profile"])
def test_the_identity_of_the_machine_serves_too(
    s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    if given == "variables":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    else:
        (tmp_path / "credentials").write_text(
            f"[team]\naws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n"
        )
    credentials = s3.credentials(
        aws_access_key_id=None,
        aws_secret_access_key=None,
        profile_name="team" if given == "profile" else None,
    )
    S3Lake(bucket=bucket, credentials=credentials).check()
    assert sorted(objects(s3, bucket)) == ["check", "check.parquet"]


@pytest.mark.usefixtures("bare")
def test_a_role_is_assumed_once(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto gives the role's keys; the S3 server does not know them, but shows who asked."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0)
    moto.start()
    arn = "arn:aws:iam::123456789012:role/flows"
    try:
        with Gateway(moto.get_host_and_port()[1]) as sts:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
            lake = S3Lake(bucket=bucket, credentials=s3.credentials(assume_role_arn=arn))
            for work in (lambda: lake.write("k", b"1"), lambda: lake.write_frame("k", FRAME)):
                assert KEY[0] in str(failure(work, s3.secret))
            assert len(sts.requests) == 1 and b"role%2Fflows" in sts.requests[0].body
            _connection.cache_clear()
            denied = "User: x is not authorized to perform: sts:AssumeRole on resource: " + arn
            sts.fail(
                403,
                None,
                body=f"<ErrorResponse>{ANSWER.format('AccessDenied', denied)}</ErrorResponse>".encode(),
            )
            error = failure(lambda: lake.exists("k"), s3.secret)
            assert f"the role cannot be assumed (AccessDenied: {denied})" in str(error)
            assert "Let its trust policy name who asks" in str(error) and not error.transient
    finally:
        moto.stop()
    asked = {
        (request.headers["Authorization"].split("/")[0], request.headers["x-amz-security-token"])
        for request in s3.gateway.requests
        if "/k" in request.path
    }
    assert len(asked) == 1
    ((key, token),) = asked
    assert "Credential=ASIA" in key and token


def test_a_big_frame_goes_in_parts(s3: S3, bucket: str, lake: S3Lake) -> None:
    big = pl.select(n=pl.int_range(6_000_000).hash())
    lake.write_frame("big.parquet", big)
    assert sum("partNumber=" in request.path for request in s3.gateway.requests) == 2
    assert len(objects(s3, bucket)["team/lake/big.parquet"]) > 40 * 2**20
    assert lake.scan(["big.parquet"]).collect().equals(big)
    s3.gateway.fail(403, None, "partNumber=2")
    failure(lambda: lake.write_frame("other.parquet", big))
    assert not lake.exists("other.parquet")


# What does not pass by itself

DENIED = "the credentials do not permit it", "Permit s3:ListBucket on the bucket, s3:GetObject and s3:Put"
EXPIRED = (
    "the session token is no longer valid",
    "Put a role, or a key that lasts, in the credentials of the block",
)
KEY = "the access key is unknown", "Correct the access key in the credentials of the block 'sentiment-lake'"
NONE = "nobody has given this machine credentials", "Put a key in the credentials of the block"
REGIONS = "the bucket is in another region", "Put the bucket's region in the credentials of the block"
SECRET = "the secret does not belong to the access key", "Correct the secret in the credentials of the block"
GONE = "there is no such bucket", "Make it, or name another one in the block 'sentiment-lake'"
CLOCK = "the clock of this machine is wrong", "Set it."

PLANTED = "planted-secret-of-nobody"


@pytest.mark.parametrize(
    ("changes", "bucket_name", "expected"),
    [
        ({}, "nobody-has-made-this-one", GONE),
        ({"aws_access_key_id": "AKIANOBODY"}, None, KEY),
        ({"aws_secret_access_key": PLANTED}, None, SECRET),
        ({"aws_access_key_id": None, "aws_secret_access_key": None}, None, NONE),
    ],
    ids=["no bucket", "wrong key", "wrong secret", "no credentials"],
)
@pytest.mark.usefixtures("bare")
def test_wrong_settings_are_named_with_the_remedy(
    s3: S3, bucket: str, changes: dict[str, Any], bucket_name: str | None, expected: tuple[str, str]
) -> None:
    name = bucket_name or bucket
    lake = S3Lake(bucket=name, prefix="p", credentials=s3.credentials(**changes))
    for work in (lake.check, lambda: lake.exists("k"), lambda: lake.read("k"), lambda: read_part(lake)):
        error = failure(work, s3.secret, PLANTED)
        assert str(error).startswith(f"Cannot use s3://{name}/p: {expected[0]}")
        assert expected[1] in str(error)
        assert not error.transient
    assert objects(s3, bucket) == {}


def test_a_user_without_the_right_to_write(s3: S3, bucket: str) -> None:
    lake = S3Lake(bucket=bucket, credentials=s3.credentials(s3.guest))
    assert not lake.exists("k")
    for work in (lambda: lake.write("k", b"1"), lambda: lake.write_frame("k", FRAME)):
        error = failure(work, s3.guest.secret)
        assert f"Cannot use s3://{bucket}/: {DENIED[0]} (AccessDenied" in str(error)
        assert DENIED[1] in str(error) and not error.transient
    assert objects(s3, bucket) == {}


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "ExpiredToken", EXPIRED),
        (400, "AuthorizationHeaderMalformed", REGIONS),
        (403, "RequestTimeTooSkewed", CLOCK),
        (403, "AllAccessDisabled", DENIED),
    ],
)
def test_refusals_of_aws_are_explained(
    s3: S3, bucket: str, lake: S3Lake, status: int, code: str, expected: tuple[str, str]
) -> None:
    lake.write_frame("raw/k/part-00000.parquet", FRAME)
    s3.gateway.fail(status, None, bucket, ANSWER.format(code, "As AWS says.").encode())
    for work in (
        lambda: lake.exists("k"),
        lambda: lake.read("k"),
        lambda: lake.write("k", b"1"),
        lambda: lake.write_frame("k", FRAME),
        lambda: read_part(lake),
    ):
        error = failure(work, s3.secret)
        assert expected[0] in str(error) and expected[1] in str(error) and lake.uri("") in str(error)
        assert not error.transient
    s3.gateway.mend()
    read_part(lake)


def test_a_redirect_without_an_address_is_a_matter_of_the_region(s3: S3, bucket: str, lake: S3Lake) -> None:
    s3.gateway.fail(301, None, bucket, ANSWER.format("PermanentRedirect", "Elsewhere.").encode())
    for work in (lambda: read_part(lake), lambda: lake.write_frame("k", FRAME)):
        error = failure(work, s3.secret)
        assert REGIONS[0] in str(error) and REGIONS[1] in str(error) and not error.transient


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more", None], ids=["empty", "cut", "gone"])
def test_damage_is_not_taken_for_an_outage(s3: S3, bucket: str, lake: S3Lake, damage: bytes | None) -> None:
    snapshot = write_snapshot(lake, "raw", "k", parts())
    key = "team/lake/raw/k/part-00002.parquet"
    if damage is None:
        s3.client().delete_object(Bucket=bucket, Key=key)
    else:
        s3.client().put_object(Bucket=bucket, Key=key, Body=damage)
    frames = snapshot.frames(lake)
    assert len(next(frames)) == 10
    error = failure(lambda: list(frames))
    assert f"The snapshot {lake.uri('raw/k')} cannot be read: " in str(error)
    assert "Delete it and run again: it is made anew." in str(error)
    assert not error.transient
    assert lake.explain(error) is None
