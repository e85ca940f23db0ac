"""Reports: results as Markdown, for Prefect artifacts and MLflow."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasks.evaluation import Scores
from tasks.gate import Evidence, Verdict

if TYPE_CHECKING:
    from tasks.train import TrainResult

KINDS = {"human": "human", "textblob": "TextBlob (weak)"}


def training(result: "TrainResult") -> str:
    """Return what a training run made, as Markdown."""
    epochs = [
        (str(number), *(f"{value:.3f}" for value in epoch.values()))
        for number, epoch in enumerate(result.epochs, start=1)
    ]
    made = (
        "made before from the same rows, recipe and code" if result.reused else f"fit in {result.seconds} s"
    )
    return "\n\n".join(
        [
            f"# Version {result.version}: {result.network} network on {KINDS[result.labels]} labels",
            f"{result.rows:,} rows, {result.device}, {made}.",
            "## Epochs",
            table(("epoch", *result.epochs[0]), epochs),
            "## Scores on the validation rows",
            _scores([(f"version {result.version}", scores) for scores in result.scores]),
        ]
    )


def benchmark(verdict: Verdict, challenger: Evidence, production: Evidence | None) -> str:
    """Return verdict and evidence as Markdown, the verdict first."""
    contestants = [(f"challenger {challenger.version}", challenger)]
    if production is not None:
        contestants.append((f"production {production.version}", production))
    scores = [(name, scores) for name, evidence in contestants for scores in evidence.scores]
    behaviour = [
        (
            result.name,
            result.kind,
            result.capability,
            name,
            f"{result.failed} of {result.perturbed}",
            "not run" if result.failure_rate is None else f"{result.failure_rate:.1%}",
            str(result.unperturbed),
        )
        for name, evidence in contestants
        for result in evidence.behaviour
    ]
    columns = ("test", "kind", "capability", "model", "failed", "rate", "rows that could not be perturbed")
    return "\n\n".join(
        [
            f"# {verdict.headline()}",
            "\n".join(f"- {reason}" for reason in verdict.reasons),
            "## Scores on held-out rows",
            _scores(scores),
            "## Behaviour",
            table(columns, sorted(behaviour)),
            "## Failures to read",
            _failures(contestants),
        ]
    )


def _failures(contestants: list[tuple[str, Evidence]]) -> str:
    lines = []
    for name, evidence in contestants:
        for result in evidence.behaviour:
            for example in result.examples[:2]:
                texts = " → ".join(
                    f"“{_quoted(text)}” ({label})"
                    for text, label in zip(example.texts, example.predicted, strict=True)
                )
                lines.append(f"- {name}, {result.name}: {texts}; expected {example.expected}")
    return "\n".join(lines) or "None."


def _scores(scores: Sequence[tuple[str, Scores]]) -> str:
    columns = ("model", "labels", "rows", "macro recall", "macro F1", "accuracy", "log loss")
    return table(
        columns,
        [
            (
                *(name, KINDS[kind.labels], f"{kind.rows:,}"),
                *(f"{x:.3f}" for x in (kind.macro_recall, kind.macro_f1, kind.accuracy, kind.log_loss)),
            )
            for name, kind in scores
        ],
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; what would break its lines or cells is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    # A backslash before a pipe would undo the escape, so it is escaped, too.
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def _quoted(text: str) -> str:
    """Return a text in one line and without a meaning in Markdown or HTML."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))
