"""Save the blocks that flows ask for by name, and check them; saving them again changes nothing."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from prefect.settings import get_current_settings
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import CliApp, CliSubCommand, get_subcommand

from blocks.endpoint import Endpoint
from blocks.images import Images, LocalImages
from blocks.lake import Lake, LocalLake
from blocks.process import LocalEndpoint
from blocks.role import Role
from blocks.tracking import LocalTracking, Tracking
from blocks.warehouse import DuckDBWarehouse, Warehouse
from blocks.x import XCredentials

ROLES: tuple[type[Role], ...] = (Lake, Warehouse, Tracking, Images, Endpoint)
TOKEN_VARIABLE = "X_BEARER_TOKEN"


class Local(BaseModel):
    """Save the embedded defaults: a folder, DuckDB, MLflow on SQLite, a local process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lake: str = Field(default=LocalLake().folder, description="Folder of the lake.")
    warehouse: str = Field(default=DuckDBWarehouse().path, description="DuckDB file of the warehouse.")
    tracking: str = Field(default=LocalTracking().folder, description="Folder of MLflow's runs and models.")
    host: str = Field(default=LocalEndpoint().host, description="Address that the endpoint listens on.")
    port: int = Field(default=LocalEndpoint().port, ge=1, le=65535, description="Port of the endpoint.")

    def run(self) -> list[str]:
        """Save the blocks and return what was saved, a line each."""
        roles: list[Role] = [
            LocalLake(folder=self.lake),
            DuckDBWarehouse(path=self.warehouse),
            LocalTracking(folder=self.tracking),
            LocalImages(),
            LocalEndpoint(host=self.host, port=self.port),
        ]
        return [f"{role.slot}: {role.appoint()!r}" for role in roles]


class Aws(BaseModel):
    """Save the blocks of S3, Snowflake, MLflow, ECR and SageMaker from variables (docs/cloud.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env_file: str = Field(default=".env", description="File of variables that the environment lacks.")

    def run(self) -> list[str]:
        """Save the blocks and return what was saved, less the secrets."""
        from blocks.cloud import Environment

        return [f"{role.slot}: {role!r}" for role in Environment.read(Path(self.env_file)).save()]


class Check(BaseModel):
    """Connect to what the blocks stand for; a line each, and on failure the cause and the remedy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def run(self) -> list[str]:
        """Return a line for each role.

        Raises:
            CheckError: Not all of them can be used; carries all lines.
        """
        found = [_prefect()]
        if found[0].works:  # what is saved can only be asked there
            found += map(_diagnose, ROLES)
        lines = [f"{'ok    ' if works else 'FAILED'}  {line}" for works, line in found]
        if not all(works for works, _ in found):
            raise CheckError("\n".join(lines))
        return lines


class CheckError(RuntimeError):
    """Raised when a block cannot be used."""


class Finding(NamedTuple):
    """What the doctor found out about one service."""

    works: bool
    line: str


def _prefect() -> Finding:
    from prefect.client.orchestration import get_client

    address = get_current_settings().api.url or f"of this machine, in {get_current_settings().home}"
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is None:
        return Finding(True, f"Prefect API {address}")
    return Finding(
        False,
        f"Prefect API {address}: {error or type(error).__name__}. Start it, or correct PREFECT_API_URL "
        "and PREFECT_API_AUTH_STRING (or PREFECT_API_KEY).",
    )


def _diagnose(role: type[Role]) -> Finding:
    block: Role | None = None
    try:
        if not role.saved():
            return Finding(True, f"{role.slot}: nothing saved; flows save a {next(iter(role.kinds))} there")
        block = role.current()
        return Finding(True, f"{role.slot}: {block.check()}")
    except Exception as error:  # whatever it is, the other roles are still to be checked
        explanation = (block.explain(error) if block else None) or error
        return Finding(False, f"{role.slot}: {' '.join(str(explanation).split()) or type(error).__name__}")


class X(BaseModel):
    """Save the bearer token of the X API from the environment variable X_BEARER_TOKEN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def run(self) -> list[str]:
        """Save the block and return what was saved, less the secret."""
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            raise ValueError(f"Set the environment variable {TOKEN_VARIABLE} to the token and run again.")
        XCredentials(bearer_token=SecretStr(token)).save(XCredentials.slot, overwrite=True)
        return [f"{XCredentials.slot}: token of {len(token)} characters"]


class Register(BaseModel):
    """Save the blocks that flows ask for by name, and check them."""

    local: CliSubCommand[Local]
    aws: CliSubCommand[Aws]
    x: CliSubCommand[X]
    check: CliSubCommand[Check]


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    get_current_settings().home.mkdir(parents=True, exist_ok=True)
    try:
        command = get_subcommand(CliApp.run(Register), is_required=True, cli_exit_on_error=True)
        assert isinstance(command, Local | Aws | X | Check)
        print("\n".join(command.run()))
    except ValidationError as error:
        sys.exit("\n".join(f"--{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()))
    except (ValueError, CheckError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
