"""The log of whatever runs."""

import logging

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger


def logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the logger of the current run, or a plain one outside of runs."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("sentiment")
