"""The app without HTTP: each line of the input is a request's body, each line of the output its answer.

    echo '["Lovely day!"]' | python -m containers.serve.batch FOLDER

It ends with its input, so that it never outlives who started it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from starlette.exceptions import HTTPException

from containers.serve.formats import WRITERS, read_texts
from containers.serve.predictor import WINDOW, BundleError, Predictor

KIND = "application/json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and answer until the input ends; returns the exit status."""
    parser = argparse.ArgumentParser("python -m containers.serve.batch", description="Answer lines of JSON.")
    parser.add_argument("bundle", type=Path, help="folder")
    options = parser.parse_args(arguments)
    try:
        predictor = Predictor(options.bundle)
        for line in sys.stdin.buffer:
            texts = read_texts(KIND, line)
            parts = (predictor.predict(texts[i : i + WINDOW]) for i in range(0, len(texts), WINDOW))
            sys.stdout.writelines(WRITERS[KIND](parts))
            print(flush=True)
    except (BundleError, HTTPException) as error:
        print(f"error: {getattr(error, 'detail', error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
