"""Extract, transform, load: tweets from a source to the warehouse."""

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from blocks.lake import Lake
from blocks.warehouse import Merged, Warehouse
from blocks.x import XCredentials
from flows import cli
from tasks import etl as steps
from tasks.etl import EtlParameters


class EtlResult(BaseModel):
    """What a run of the ETL did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="Kind of the source.")
    rows_in: int = Field(description="Rows that the source gave.")
    rejected: dict[str, int] = Field(description="Rows turned away, by reason.")
    loaded: Merged = Field(description="What the merge did to the warehouse's table.")
    raw: str = Field(description="Address of the raw snapshot.")
    labelled: str = Field(description="Address of the labelled snapshot.")
    processed: str = Field(description="Address of the processed snapshot.")


@flow(name="etl")
def etl(parameters: EtlParameters = EtlParameters()) -> EtlResult:
    """Fill the table of processed tweets; running it again with the same input changes nothing."""
    lake, warehouse = Lake.current(), Warehouse.current()
    token = XCredentials.token() if parameters.source == "x" else None
    raw = steps.extract(parameters, lake, token)
    labelled = steps.label(raw, parameters, lake)
    processed = steps.normalise(labelled, parameters, lake)
    merged = steps.load(processed, lake, warehouse)
    rejected = dict(raw.rejected)
    if merged.conflicting:
        rejected["id in the warehouse with another text"] = merged.conflicting
    result = EtlResult(
        source=parameters.source,
        rows_in=raw.rows + sum(raw.rejected.values()),
        rejected=rejected,
        loaded=merged,
        raw=lake.uri(raw.prefix),
        labelled=lake.uri(labelled.prefix),
        processed=lake.uri(processed.prefix),
    )
    create_table_artifact(
        [{"step": "rows in", "rows": result.rows_in}]
        + [{"step": f"rejected: {reason}", "rows": count} for reason, count in rejected.items()]
        + [{"step": step, "rows": count} for step, count in merged.model_dump().items()],
        key="etl-rows",
        description=f"Rows of the source {parameters.source!r} on their way to {warehouse.table}",
    )
    return result


if __name__ == "__main__":
    cli.run(etl, EtlParameters, "flows.etl")
