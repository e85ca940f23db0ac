"""Learning curves: what more rows would bring, and how far seeds alone lie apart."""

from collections.abc import Sequence

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from flows import cli
from flows.series import Attempt, carry_out
from tasks import curve as steps
from tasks import report
from tasks import series as nested
from tasks.curve import CurveParameters, CurveResult
from tasks.parameters import narrow
from tasks.progress import progress
from tasks.series import Series
from tasks.shares import Fit, Point
from tasks.training import FitParameters


@flow(name="curve")
def curve(parameters: CurveParameters = CurveParameters()) -> CurveResult:
    """Fit shares of the rows with several seeds; a curve that was cut short goes on.

    Raises:
        SeriesError: No fit was completed, or the process of one was killed.
    """
    warehouse, tracking = Warehouse.current(), Tracking.current()
    identity = steps.identify(parameters, warehouse)
    found = steps.resume(identity, narrow(FitParameters, parameters), tracking, str(flow_run.get_id()))
    try:
        fits = _fit(found, parameters, warehouse, tracking)
        result = steps.conclude(found, fits, tracking)
    except Exception:
        nested.give_up(found, tracking)
        raise
    create_markdown_artifact(report.curve(result), key="curve", description="Macro recall by rows")
    return result


def _fit(
    curve: Series[Fit], parameters: CurveParameters, warehouse: Warehouse, tracking: Tracking
) -> list[Fit]:
    """Return the fits that are asked for, those that ended before among them."""
    points, recipe = parameters.points(), narrow(FitParameters, parameters)
    before = {fit.point for fit in curve.ended}
    left = [point for point in points if point not in before]
    coming = iter(left)

    def plan(ended: Sequence[Fit], running: Sequence[Point]) -> Attempt | None:
        point = next(coming, None)
        if point is None:
            return None
        given = {"identity": curve.identity, "recipe": recipe, "point": point, "warehouse": warehouse}
        return Attempt(f"share-{point.share}-seed-{point.seed}", point, given)

    with progress("Fitting", len(points), "fits") as advance:
        advance(len(points) - len(left))
        fits = carry_out(curve, steps.attempt, plan, parameters.parallel, tracking, advance)
    return [fit for fit in fits if fit.point in points]


if __name__ == "__main__":
    print(report.curve(cli.run(curve, CurveParameters, "flows.curve")))
