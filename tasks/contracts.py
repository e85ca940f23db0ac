"""Contracts: the schema at each boundary of the ETL, and the reasons for which a raw row is turned away."""

from typing import Annotated

import pandera.polars as pa
import polars as pl

from tasks.cleaning import cleaned
from tasks.labelling import LABELS
from tasks.splitting import Split

Utc = Annotated[pl.Datetime, "us", "UTC"]
"""A point in time; stored to the microsecond."""


class Raw(pa.DataFrameModel):
    """A tweet as the source gave it."""

    id: str = pa.Field(unique=True, str_length={"min_value": 1})
    created_at: Utc | None = pa.Field(nullable=True)
    lang: str = pa.Field(nullable=True)
    username: str = pa.Field(nullable=True)
    source: str
    text: str = pa.Field(str_length={"min_value": 1})
    human_label: pl.Int8 = pa.Field(nullable=True, isin=range(len(LABELS)))

    class Config:
        """No column more, none less, in this order."""

        strict = True
        ordered = True


class Labelled(Raw):
    """A tweet cleaned and labelled by polarity."""

    cleaned_text: str = pa.Field(str_length={"min_value": 1})
    polarity: float = pa.Field(in_range={"min_value": -1, "max_value": 1})
    label: pl.Int8 = pa.Field(isin=range(len(LABELS)))


class Processed(Labelled):
    """A tweet as it goes to the warehouse."""

    tokens: str
    split: str = pa.Field(isin=Split.__args__)  # type: ignore[attr-defined]


REASON = "reason"


class ContractError(RuntimeError):
    """Raised when rows break a contract that only a bug can break."""


def check(contract: type[pa.DataFrameModel], frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: It does not; names the contract, the column and the first values at fault.
    """
    try:
        contract.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        failures = error.failure_cases.select("column", "check", "failure_case").head(3).to_dicts()
        raise ContractError(f"Rows break the contract {contract.__name__}: {failures}") from error
    return frame


class Gatekeeper:
    """Tells good raw rows from bad ones, batch by batch; remembers the ids it has seen.

    Args:
        language: Rows that name another language are rejected; None takes all.
        max_characters: Longer texts are rejected.
    """

    def __init__(self, language: str | None, max_characters: int) -> None:
        self._seen: dict[str, int] = {}
        self._reason = _reason(language, max_characters)

    def part(self, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Part a batch into the rows that keep `Raw` and the others, these with their `reason`.

        Args:
            batch: Rows as `tasks.sources.read` yields them.
        """
        judged = batch.with_columns(self._reason.alias(REASON))
        repeated = [
            None if reason else self._repetition(identifier, text)
            for identifier, text, reason in judged.select("id", "text", REASON).iter_rows()
        ]
        judged = judged.with_columns(
            pl.coalesce(REASON, pl.Series("repeated", repeated, dtype=pl.String)).alias(REASON)
        )
        label = pl.col("human_label").replace_strict(LABELS, range(len(LABELS)), default=None)
        good = judged.filter(pl.col(REASON).is_null()).with_columns(label.cast(pl.Int8))
        return check(Raw, good.select(*Raw.to_schema().columns)), judged.filter(pl.col(REASON).is_not_null())

    def _repetition(self, identifier: str, text: str) -> str | None:
        if identifier not in self._seen:
            self._seen[identifier] = hash(text)
            return None
        return "repeated row" if self._seen[identifier] == hash(text) else "id taken by another text"


def _reason(language: str | None, max_characters: int) -> pl.Expr:
    text, lang, human = pl.col("text"), pl.col("lang"), pl.col("human_label")
    rules = [
        (pl.col("defect").is_not_null(), pl.col("defect")),
        (text.is_null(), pl.lit("text missing")),
        (text.str.strip_chars() == "", pl.lit("text empty")),
        (text.str.len_chars() > max_characters, pl.lit(f"text longer than {max_characters} characters")),
        (~cleaned().str.contains(r"[\p{L}\p{N}]"), pl.lit("no words after cleaning")),
        (pl.col("id").fill_null("") == "", pl.lit("id missing")),
        (human.is_not_null() & ~human.is_in(LABELS), pl.lit("label outside the mapping")),
    ]
    if language is not None:
        given = lang.str.to_lowercase().str.extract(r"^(\p{L}+)")
        rules.append((given != language.lower(), pl.format("language is {}, not {}", lang, pl.lit(language))))
    return pl.coalesce(pl.when(broken).then(reason) for broken, reason in rules)
