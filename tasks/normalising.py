"""NLP normalisation: from cleaned text to the words that carry meaning, for analysis in the warehouse."""

from collections.abc import Callable, Iterable

import polars as pl

NEGATIONS = frozenset(
    [
        "no",
        "not",
        "never",
        "nor",
        "none",
        "nothing",
        "nobody",
        "nowhere",
        "neither",
        "cannot",
        "without",
        "n't",
    ]
)
"""Stop words that are kept, since they turn a sentiment around."""


def words(column: str = "cleaned_text") -> pl.Expr:
    """Return the expression of a text's lower-case words, a List(String); don't, can't and such are `not`."""
    plain = pl.col(column).str.to_lowercase().str.replace_all(r"\b\p{L}+n't\b", "not")
    return plain.str.extract_all(r"\p{L}+(?:'\p{L}+)*")


def stop_words() -> frozenset[str]:
    """Return spaCy's English stop words, less the negations."""
    from spacy.lang.en.stop_words import STOP_WORDS

    return frozenset(STOP_WORDS) - NEGATIONS


def count_words(texts: pl.LazyFrame) -> pl.DataFrame:
    """Count the words of a corpus, in memory that grows with its vocabulary only.

    Args:
        texts: Rows with `cleaned_text`.

    Returns:
        Columns word (String) and count, ordered by word.
    """
    exploded = texts.select(words().alias("word")).explode("word").drop_nulls()
    counted = exploded.group_by("word").agg(pl.len().alias("count")).sort("word")
    return counted.collect(engine="streaming")


def stem_words(counts: pl.DataFrame, minimum_count: int) -> pl.DataFrame:
    """Map each word worth keeping to the stem of its lemma.

    Lemmas are simplemma's, stems are Porter's (1980). Each distinct word is looked up once.

    Args:
        counts: Columns word and count.
        minimum_count: Words seen less often in the corpus are dropped, as are stop words, it's and I'll too.

    Returns:
        Columns word and stem (String).
    """
    import simplemma
    from nltk.stem import PorterStemmer

    stop = pl.col("word").str.extract("^([^']+)").is_in(sorted(stop_words()))
    kept = counts.filter(pl.col("count") >= minimum_count, ~stop)["word"]
    stem = PorterStemmer().stem
    stems = [stem(simplemma.lemmatize(word, lang="en")) for word in kept]
    return pl.DataFrame({"word": kept, "stem": stems}, schema={"word": pl.String, "stem": pl.String})


def normaliser(stems: pl.DataFrame) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return the function that adds `tokens`: the kept words' stems, joined by spaces, maybe none.

    Args:
        stems: See `stem_words`.
    """
    stem = pl.element().replace_strict(stems["word"], stems["stem"], default=None, return_dtype=pl.String)
    tokens = words().list.eval(stem.drop_nulls()).list.join(" ").alias("tokens")
    return lambda frame: frame.with_columns(tokens)


def normalise(texts: Iterable[str], minimum_count: int = 3) -> list[str]:
    """Return the tokens of each text of a small corpus; the ETL does the same part by part."""
    frame = pl.DataFrame({"cleaned_text": list(texts)}, schema={"cleaned_text": pl.String})
    return normaliser(stem_words(count_words(frame.lazy()), minimum_count))(frame)["tokens"].to_list()
