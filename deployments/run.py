"""Run a flow of this checkout by its command line, where `deployments.summary` finds it.

`python -m deployments.run NAME MODULE [FLAGS]`: Prefect names a run that no deployment has started by chance,
so the name becomes a tag.
"""

import runpy
import sys

from prefect import tags


def main() -> None:
    """Run from the command line."""
    name, module, *flags = sys.argv[1:]
    sys.argv = [module, *flags]
    with tags(name):
        runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
