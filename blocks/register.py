"""Save the blocks that flows ask for by name; saving them again changes nothing."""

import os
import sys

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import CliApp, CliSubCommand, get_subcommand

from blocks.endpoint import LocalEndpoint
from blocks.lake import LocalLake
from blocks.role import Role
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from blocks.x import XCredentials

TOKEN_VARIABLE = "X_BEARER_TOKEN"


class Local(BaseModel):
    """Save the embedded defaults: a folder, DuckDB, MLflow on SQLite, a local process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lake: str = Field(default=LocalLake().folder, description="Folder of the lake.")
    warehouse: str = Field(default=DuckDBWarehouse().path, description="DuckDB file of the warehouse.")
    tracking: str = Field(default=LocalTracking().folder, description="Folder of MLflow's runs and models.")
    host: str = Field(default=LocalEndpoint().host, description="Address that the endpoint listens on.")
    port: int = Field(default=LocalEndpoint().port, ge=1, le=65535, description="Port of the endpoint.")

    def save(self) -> list[str]:
        """Save the blocks and return what was saved, a line each."""
        roles: list[Role] = [
            LocalLake(folder=self.lake),
            DuckDBWarehouse(path=self.warehouse),
            LocalTracking(folder=self.tracking),
            LocalEndpoint(host=self.host, port=self.port),
        ]
        return [f"{role.slot}: {role.appoint()!r}" for role in roles]


class X(BaseModel):
    """Save the bearer token of the X API from the environment variable X_BEARER_TOKEN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def save(self) -> list[str]:
        """Save the block and return what was saved, less the secret."""
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            raise ValueError(f"Set the environment variable {TOKEN_VARIABLE} to the token and run again.")
        XCredentials(bearer_token=SecretStr(token)).save(XCredentials.slot, overwrite=True)
        return [f"{XCredentials.slot}: token of {len(token)} characters"]


class Register(BaseModel):
    """Save the blocks that flows ask for by name."""

    local: CliSubCommand[Local]
    x: CliSubCommand[X]


def main() -> None:
    """Run the command line."""
    try:
        command = get_subcommand(CliApp.run(Register), is_required=True, cli_exit_on_error=True)
        assert isinstance(command, Local | X)
        print("\n".join(command.save()))
    except ValidationError as error:
        sys.exit("\n".join(f"--{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
