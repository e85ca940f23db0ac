"""How the ranking of simple methods moves with the cut of the sample's ratings: `python -m tests.yardstick`.

The sample's tweets have mean ratings in [-4, 4], and people's labels are made of them by `RATING_CUT`. Prints
macro recall on the test split for other cuts, each with the methods that learn trained on labels of that cut.
"""

import polars as pl

from tasks.baselines import NAMES, measure
from tasks.cleaning import cleaned
from tasks.etl import EtlParameters
from tasks.labelling import LABELS, add_labels
from tasks.sources import RATING_CUT, fetch_sample, label_of_rating, sample_ratings
from tasks.splitting import add_split

CUTS = (0.05, 0.25, RATING_CUT, 0.75, 1.0, 1.5)


def sample() -> pl.DataFrame:
    """Return the sample's tweets with rating, weak label and split, as the ETL makes them."""
    fetch_sample()
    numbers, ratings, texts = zip(*sample_ratings(), strict=True)
    rows = pl.DataFrame({"id": numbers, "rating": ratings, "text": texts})
    own = EtlParameters()
    rows = rows.with_columns(cleaned_text=cleaned("text"))
    return add_split(add_labels(rows, own.negative_below, own.positive_above))


def ranking(rows: pl.DataFrame, cut: float) -> dict[str, float]:
    """Return the macro recall of each method on human labels by this cut."""
    labels = [LABELS.index(label_of_rating(rating, cut)) for rating in rows["rating"]]
    rows = rows.with_columns(human_label=pl.Series(labels, dtype=pl.Int8))
    test, train = (rows.filter(pl.col("split") == split) for split in ("test", "train"))
    found = {}
    for baseline in measure(test, train, "human"):
        scores = {one.labels: one for one in baseline.scores}
        found[baseline.name] = scores["human"].macro_recall
    return found


def main() -> None:
    """Print a Markdown table."""
    rows = sample()
    print(f"| cut | neutral | {' | '.join(NAMES)} | ranking |")
    print("|---" * (len(NAMES) + 3) + "|")
    for cut in CUTS:
        found = ranking(rows, cut)
        neutral = rows.filter(pl.col("rating").abs() <= cut).height / len(rows)
        order = " > ".join(sorted(found, key=lambda name: -found[name]))
        print(f"| ±{cut} | {neutral:.0%} | {' | '.join(f'{found[n]:.3f}' for n in NAMES)} | {order} |")


if __name__ == "__main__":
    main()
