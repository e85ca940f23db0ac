"""What SageMaker is asked for, and what a request can hold; no service is needed for that."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect_aws import AwsCredentials
from pydantic import ValidationError

from blocks.endpoint import MAX_BYTES, MAX_TEXTS, EndpointError, Release, batches
from blocks.hosting import Autoscaling, Instances, Serverless, Shift, hosting
from blocks.sagemaker import SageMakerEndpoint

ROLE = "arn:aws:iam::123456789012:role/sentiment"


def endpoint(**fields: Any) -> SageMakerEndpoint:
    credentials = AwsCredentials(region_name="eu-central-1")
    return SageMakerEndpoint(**{"role": ROLE, "credentials": credentials} | fields)


@given(st.lists(st.text(max_size=20)))
def test_few_texts_are_one_request(texts: list[str]) -> None:
    assert list(batches(texts)) == ([texts] if texts else [])


def test_many_and_long_texts_are_several_requests_in_order() -> None:
    texts = [str(number) for number in range(2 * MAX_TEXTS + 1)]
    assert [text for batch in batches(texts) for text in batch] == texts
    assert max(len(batch) for batch in batches(texts)) == MAX_TEXTS
    long = ["é" * 200_000] * 11  # each takes six bytes in JSON
    assert [len(batch) for batch in batches(long)] == [4, 4, 3]
    assert all(len(json.dumps(batch)) <= MAX_BYTES for batch in batches(long))


@pytest.mark.parametrize(
    ("shift", "seconds"),
    [(Shift(), 120), (Shift(kind="canary"), 240), (Shift(kind="linear", percent=30, wait=10), 40)],
)
def test_shifts_take_their_steps(shift: Shift, seconds: int) -> None:
    assert shift.seconds == seconds
    with pytest.raises(ValidationError, match=f"A shift takes {seconds} seconds"):
        endpoint(hosting=Instances(count=2, shift=shift), timeout=seconds)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"hosting": {"kind": "instances", "shift": {"kind": "canary"}}}, "raise `count`"),
        ({"hosting": {"kind": "instances", "count": 3, "autoscaling": {"max_count": 2}}}, "max_count"),
        ({"hosting": {"kind": "serverless", "memory_mb": 1000}}, "memory_mb"),
        ({"hosting": {"kind": "serverless", "capture": None}}, "capture"),
        ({"name": "Sentiment"}, "name"),
        ({"role": "sentiment"}, "role"),
    ],
)
def test_what_aws_would_refuse_is_refused_at_once(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        endpoint(**fields)


def test_a_new_version_starts_with_as_many_instances_as_serve() -> None:
    scaled = Instances(autoscaling=Autoscaling(max_count=9))
    assert scaled.update([], 60, scaled=True)["RetainAllVariantProperties"]
    assert "RetainAllVariantProperties" not in scaled.update([], 60, scaled=False)
    assert "RetainAllVariantProperties" not in Instances().update([], 60, scaled=True)


def test_variables_change_the_type_and_keep_the_rest() -> None:
    rich = Instances(count=3, autoscaling=Autoscaling(max_count=9))
    assert hosting("ml.m5.large", rich) == rich.model_copy(update={"type": "ml.m5.large"})
    assert hosting("ml.m5.large", Serverless()) == Instances(type="ml.m5.large")
    assert hosting("serverless", rich) == Serverless()
    assert hosting("serverless", Serverless(memory_mb=4096)) == Serverless(memory_mb=4096)


@pytest.mark.parametrize("kind", [Instances(), Instances(autoscaling=Autoscaling(max_count=2)), Serverless()])
def test_a_block_that_was_saved_asks_for_the_same_names(kind: Instances | Serverless) -> None:
    release = Release(Path(), "7", "d" * 64, str)
    block = endpoint(hosting=kind)
    saved = endpoint(hosting=json.loads(kind.model_dump_json()))
    assert repr(saved) == repr(block)
    assert saved._title(release) == block._title(release)
    assert block._title(release).startswith("sentiment-v7-dddddddddddd-")
    assert endpoint(hosting=kind, role=f"{ROLE}-2")._title(release) != block._title(release)
    with pytest.raises(EndpointError, match="too long"):
        endpoint(name="n" * 30)._title(Release(Path(), "7" * 20, "d" * 64, str))
