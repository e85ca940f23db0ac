"""The command line of a flow: its flags are the fields of its parameters."""

import os
import sys
from collections.abc import Callable
from typing import Any

from prefect.settings import get_current_settings
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict


def parse(parameters: type[BaseModel], program: str, arguments: list[str] | None = None) -> Any:
    """Return `parameters` filled from command line flags alone; explain and exit with 2 if they are wrong.

    Args:
        parameters: A pydantic model; `source_path` becomes `--source-path`.
        program: Name shown in the usage line, such as "python -m flows.etl".
        arguments: Instead of `sys.argv[1:]`.
    """

    class Flags(parameters, BaseSettings):  # type: ignore[misc, valid-type]
        model_config = SettingsConfigDict(
            cli_prog_name=program,
            cli_kebab_case=True,
            cli_implicit_flags=True,
            cli_avoid_json=True,
            cli_hide_none_type=True,
            cli_enforce_required=True,
        )

        @classmethod
        def settings_customise_sources(cls, *_: Any, **__: Any) -> tuple[PydanticBaseSettingsSource, ...]:
            return ()  # flags only: an environment variable called PATH is not a flow's path

    Flags.__doc__ = parameters.__doc__
    try:
        flags = CliApp.run(Flags, cli_args=sys.argv[1:] if arguments is None else arguments)
    except ValidationError as error:
        for problem in error.errors():
            name = "-".join(str(part) for part in problem["loc"]).replace("_", "-")
            print(f"{program}: {'--' + name + ': ' if name else ''}{problem['msg']}", file=sys.stderr)
        sys.exit(2)
    return parameters.model_validate(flags.model_dump())


def run(flow: Callable[[Any], Any], parameters: type[BaseModel], module: str) -> Any:
    """Run a flow from the command line; on failure print what is wrong and exit with 1.

    Args:
        flow: The flow, a function of one argument.
        parameters: Type of the argument.
        module: Name of the module behind `python -m`.
    """
    filled = parse(parameters, f"python -m {module}")
    prepare()
    try:
        return flow(filled)
    except Exception as error:
        # Prefect has logged the traceback; the last line on the screen is the one a person needs.
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


def prepare() -> None:
    """Make ready what a first run needs: quiet libraries, and the folder of Prefect's database."""
    quiet()
    get_current_settings().home.mkdir(parents=True, exist_ok=True)


def quiet() -> None:
    """Keep libraries from chattering: their notices tell a user of the flows nothing."""
    settings = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
