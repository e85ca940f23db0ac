"""Reports: results as Markdown, for Prefect artifacts and MLflow."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasks.behaviour import Interval
from tasks.evaluation import Scores
from tasks.gate import Evidence
from tasks.rows import LabelKind
from tasks.training import Stopped, best_epoch

if TYPE_CHECKING:
    from tasks.benchmark import BenchmarkResult
    from tasks.curve import CurveResult
    from tasks.search import SearchResult
    from tasks.train import TrainResult

KINDS: dict[LabelKind, str] = {"human": "human", "textblob": "TextBlob (weak)"}
STOPPED: dict[Stopped, str] = {
    "all epochs": "after all epochs",
    "no better": "the loss on the validation rows was no longer near the lowest",
    "not a number": "the loss was no number any more, so the learning rate is too high",
}


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
            f"Ended: {STOPPED[result.stopped]}. "
            f"Kept: epoch {best_epoch(result.epochs) + 1}, {result.quantization}."
            + ("" if result.teacher is None else f" Macro recall of the teacher: {result.teacher:.3f}."),
            "## Epochs",
            table(("epoch", *result.epochs[0]), epochs),
            "## Scores on the validation rows",
            _scores([(f"version {result.version}", scores) for scores in result.scores]),
        ]
    )


def search(result: "SearchResult") -> str:
    """Return what a search found as Markdown, the best trials first."""
    order = sorted(result.trials, key=lambda trial: (-(trial.macro_recall or 0), trial.state, trial.number))
    columns = ("trial", "macro recall", *type(result.best.choice).model_fields, "ended", "seconds")
    cells = [
        (
            str(trial.number),
            "" if trial.macro_recall is None else f"{trial.macro_recall:.3f}",
            *(f"{value:g}" for _, value in trial.choice),
            f"{trial.state}: {trial.reason}" if trial.reason else trial.state,
            f"{trial.seconds:.1f}",
        )
        for trial in order
    ]
    return "\n\n".join(
        [
            f"# The best of {len(cells)} trials: macro recall {result.best.macro_recall:.3f}",
            "On the validation rows, by the labels that are learned. To train by its recipe:",
            f"    {result.command}",
            table(columns, cells),
            f"Figures are in the MLflow run `{result.run_id}`.",
        ]
    )


def curve(result: "CurveResult") -> str:
    """Return a learning curve as Markdown: a line for each share, then one for each fit."""
    levels = [
        (
            *(f"{level.share:g}", f"{level.rows:,}", str(level.seeds)),
            *(str(level.macro_recall), str(level.loss), f"{level.cpu_seconds.mean:.1f}"),
        )
        for level in result.levels
    ]
    fits = [
        (
            *(f"{fit.point.share:g}", f"{fit.rows:,}", str(fit.point.seed)),
            *("" if value is None else f"{value:.3f}" for value in (fit.macro_recall, fit.loss)),
            f"{fit.cpu_seconds:.1f}",
            f"{fit.state}: {fit.reason}" if fit.reason else fit.state,
        )
        for fit in result.fits
    ]
    measures = ("macro recall", "loss", "CPU seconds")
    return "\n\n".join(
        [
            f"# Macro recall of {result.levels[0].rows:,} to {result.levels[-1].rows:,} rows",
            "On the validation rows, by the labels that are learned: mean ± standard deviation of the seeds.",
            table(("share", "rows", "seeds", *measures), levels),
            "## Fits",
            table(("share", "rows", "seed", *measures, "ended"), fits),
            f"The figure is in the MLflow run `{result.run_id}`.",
        ]
    )


def benchmark(result: "BenchmarkResult") -> str:
    """Return verdict and evidence as Markdown, the verdict first."""
    contestants = [(f"challenger {result.challenger.version}", result.challenger)]
    if result.production is not None:
        contestants.append((f"production {result.production.version}", result.production))
    scores = [(name, scores) for name, evidence in contestants for scores in evidence.scores]
    scores += [
        (
            f"{found.name}, trained on {found.learned_from} labels" if found.learned_from else found.name,
            scores,
        )
        for found in result.baselines
        for scores in found.scores
    ]
    notes = [f"- {found.name}: {found.reason}." for found in result.baselines if found.reason]
    notes += [f"- Left out: {count:,} {reason}." for reason, count in result.excluded.items()]
    return "\n\n".join(
        [
            f"# {result.verdict.headline()}",
            "\n".join(f"- {reason}" for reason in result.verdict.reasons),
            "## Scores on held-out rows",
            _scores(scores),
            *(["\n".join(notes)] if notes else []),
            "## Capabilities",
            _capabilities(result),
            "## Behaviour",
            _behaviour(contestants),
            "## Slices",
            _slices(contestants),
            "## Failures to read",
            _failures(contestants),
            f"The same to look at, with plots: `report.html` in the MLflow run `{result.run_id}`.",
        ]
    )


def _capabilities(result: "BenchmarkResult") -> str:
    columns = ("capability", "cases", "challenger fails", "production fails", "change", "p, corrected")
    return table(
        columns,
        [
            (
                *(found.name, f"{found.cases:,}", _share(found.challenger_failed, found.cases)),
                _share(found.production_failed, found.cases),
                "" if found.loss is None else f"{found.loss:+.1%}{_between(found.interval, '+.1%')}",
                "" if found.corrected_p_value is None else f"{found.corrected_p_value:.3f}",
            )
            for found in result.capabilities
        ],
    )


def _behaviour(contestants: list[tuple[str, Evidence]]) -> str:
    columns = ("test", "kind", "capability", "model", "failed", "rate", "rows that could not be perturbed")
    rows = [
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
    return table(columns, sorted(rows))


def _slices(contestants: list[tuple[str, Evidence]]) -> str:
    columns = ("by", "value", "model", "labels", "rows", "macro recall", "remark")
    rows = [
        (
            *(found.by, found.value, name, KINDS[found.labels], f"{found.rows:,}"),
            "" if found.macro_recall is None else f"{found.macro_recall:.3f}{_between(found.interval)}",
            found.remark,
        )
        for name, evidence in contestants
        for found in evidence.slices
    ]
    return table(columns, rows)


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
    columns = ("model", "labels", "rows", "macro recall", "macro F1", "accuracy", "log loss", "ECE")
    return table(
        columns,
        [
            (
                *(name, KINDS[kind.labels], f"{kind.rows:,}"),
                f"{kind.macro_recall:.3f}{_between(kind.macro_recall_interval)}",
                *(f"{x:.3f}" for x in (kind.macro_f1, kind.accuracy)),
                *("" if x is None else f"{x:.3f}" for x in (kind.log_loss, kind.calibration_error)),
            )
            for name, kind in scores
        ],
    )


def _between(interval: Interval | None, form: str = ".3f") -> str:
    return "" if interval is None else f" ({interval.low:{form}} to {interval.high:{form}})"


def _share(count: int | None, total: int) -> str:
    return "" if count is None or not total else f"{count:,} ({count / total:.1%})"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; what would break its lines or cells is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    # A backslash before a pipe would undo the escape, so it is escaped, too. What a source says is anybody's.
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\").replace("|", "\\|")


def _quoted(text: str) -> str:
    """Return a text in one line and without a meaning in Markdown or HTML."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))
