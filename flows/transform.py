"""Predict the texts of files in the lake with the production model, where the endpoint's image runs."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from blocks.endpoint import Endpoint, EndpointError
from blocks.images import Images
from blocks.lake import Lake
from blocks.tracking import Tracking
from flows import cli
from tasks import transform as steps
from tasks.transform import Plan, TransformError, TransformParameters, TransformResult


@flow(name="transform")
def transform(parameters: TransformParameters) -> TransformResult:
    """Score the files of a folder of the lake with the production model.

    A run that was killed is taken up by the next one; what has been done is not done again.
    """
    lake, tracking, endpoint = Lake.current(), Tracking.current(), Endpoint.current()
    plan = steps.plan(parameters, lake, tracking, endpoint)
    result = steps.find_result(plan, lake) or work(plan, lake, tracking, endpoint)
    steps.clean(plan, lake)
    text = f"Version {result.version} scored {result.rows:,} rows of {len(result.files)} files."
    create_markdown_artifact(f"{text} They are in `{result.output}`.", key="transform", description=text)
    return result


def work(plan: Plan, lake: Lake, tracking: Tracking, endpoint: Endpoint) -> TransformResult:
    """Do what is to be done."""
    try:
        steps.stage(plan, lake, tracking)
        answers = steps.answer(plan, lake, tracking, Images.current(), endpoint)
        return steps.join(plan, answers, lake, tracking)
    except (EndpointError, TransformError):
        result = steps.find_result(plan, lake)  # another run of the same was faster, and has tidied up
        if result is None:
            raise
        return result


if __name__ == "__main__":
    cli.run(transform, TransformParameters, "flows.transform")
