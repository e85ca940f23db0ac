"""The page: a benchmark as one HTML file, which needs no network, no script and no colours to be read."""

import base64
import hashlib
import math
import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blocks.role import local_path
from tasks.behaviour import BehaviourExample, BehaviourResult, Interval, wilson
from tasks.evaluation import Scores
from tasks.gate import Evidence
from tasks.labelling import LABELS
from tasks.report import KINDS
from tasks.rows import LabelKind
from tasks.slices import Slice

if TYPE_CHECKING:
    from tasks.benchmark import BenchmarkResult

PAGE = ".local/benchmark.html"
MARKS = "challenger", "production"


class Model(NamedTuple):
    """One of the two that are compared.

    Args:
        role: What it is, in a word or two.
        mark: How it is drawn: 'challenger' or 'production'.
        evidence: What is known of it.
    """

    role: str
    mark: str
    evidence: Evidence

    @property
    def name(self) -> str:
        """Return role and version."""
        return f"{self.role} {self.evidence.version}"


class Standing(NamedTuple):
    """A row of a table of scores: a model, or a baseline."""

    name: str
    mark: str
    scores: Scores | None
    remark: str


class Case(NamedTuple):
    """A case that a model has failed.

    Args:
        texts: Each as pieces, with whether the piece differs from the original.
        expected: What should have come.
        said: Of each model, its labels of the texts, or a word in their place.
    """

    texts: tuple[tuple[tuple[str, bool], ...], ...]
    expected: str
    said: tuple[tuple[str, ...] | str, ...]


class Test(NamedTuple):
    """A behavioural test with the result of each model, None where it was not put to it."""

    results: tuple[BehaviourResult | None, ...]

    @property
    def any(self) -> BehaviourResult:
        """Return a result, for what does not depend on the model."""
        return next(result for result in self.results if result is not None)


def benchmark_page(result: "BenchmarkResult") -> str:
    """Return a benchmark as a whole HTML document, the verdict first.

    All that it needs is inside, and a content security policy forbids the rest. Every text is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, share=share, chance=chance, heat=heat, anchor=_anchor, cases=cases
    )
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    found = models(result)
    decisive = result.challenger.judged_by(result.policy)
    kinds = [kind for kind in KINDS if any(scores_of(m.evidence, kind) for m in found)]
    grouped = {capability.name: tests(result, capability.name) for capability in result.capabilities}
    return environment.get_template("page.html.j2").render(
        result=result,
        models=found,
        verdict=result.verdict,
        policy=result.policy,
        decisive=decisive,
        kinds=kinds,
        titles=KINDS,
        classes=LABELS,
        standings={kind: standings(result, kind) for kind in kinds},
        scores={kind: [(m, scores_of(m.evidence, kind)) for m in found] for kind in kinds},
        capabilities=result.capabilities,
        tests=grouped,
        worst=worst(grouped.values()),
        slices={kind: slices(result, kind) for kind in kinds},
        settings=type(result.policy).model_fields.items(),
        parts_of=spans,
        wilson=wilson,
        style=Markup(style),
        script=Markup(script),
        hashes=(_hash(style), _hash(script)),
    )


def write(result: "BenchmarkResult", path: str) -> Path:
    """Write the page of a benchmark to a file, and return where."""
    target = local_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_text(benchmark_page(result), encoding="utf-8")
    return part.replace(target)


# What the tables hold


def models(result: "BenchmarkResult") -> tuple[Model, ...]:
    """Return the challenger and, if there is one, what it was judged against."""
    standing = result.verdict.challenger == result.verdict.production
    roles = ("production", "before it") if standing else ("challenger", "production")
    both = zip(roles, MARKS, (result.challenger, result.production), strict=True)
    return tuple(Model(role, mark, evidence) for role, mark, evidence in both if evidence is not None)


def scores_of(evidence: Evidence, labels: LabelKind) -> Scores | None:
    """Return the scores by a kind of labels, if there are any."""
    return next((scores for scores in evidence.scores if scores.labels == labels), None)


def standings(result: "BenchmarkResult", labels: LabelKind) -> list[Standing]:
    """Return models and baselines with their scores by one kind of labels."""
    rows = [Standing(m.name, m.mark, scores_of(m.evidence, labels), "") for m in models(result)]
    for baseline in result.baselines:
        scores = next((scores for scores in baseline.scores if scores.labels == labels), None)
        learned = ""
        if baseline.learned_from is not None:
            learned = f"learned from {baseline.rows:,} {KINDS[baseline.learned_from]} labels"
        remark = "; ".join(filter(None, (learned, baseline.reason)))
        rows.append(Standing(baseline.name, "baseline", scores, remark))
    return rows


def tests(result: "BenchmarkResult", capability: str) -> list[Test]:
    """Return the tests of a capability, in the order of the suite."""
    by_model = [{test.name: test for test in model.evidence.behaviour} for model in models(result)]
    names = dict.fromkeys(name for found in by_model for name in found)
    found = (Test(tuple(results.get(name) for results in by_model)) for name in names)
    return [test for test in found if test.any.capability == capability]


def worst(groups: Iterable[list[Test]]) -> list[Test]:
    """Return the test of each group that the challenger fails most often, the worst first."""

    def rate(test: Test) -> float:
        mine = test.results[0]
        return mine.failure_rate or 0 if mine is not None and mine.examples else 0

    found = (max(group, key=rate) for group in groups if group)
    return sorted((test for test in found if rate(test)), key=rate, reverse=True)


def cases(test: Test) -> list[Case]:
    """Return the failures of a test that are on record, each once, with what each model said."""
    examples = [one.examples if one is not None else () for one in test.results]
    distinct = {(one.texts, one.expected): one for group in examples for one in group}
    return [
        Case(
            texts=tuple(pieces(one.texts[0], text) for text in one.texts),
            expected=one.expected,
            said=tuple(_said(one, result) for result in test.results),
        )
        for one in distinct.values()
    ]


def _said(example: BehaviourExample, result: BehaviourResult | None) -> tuple[str, ...] | str:
    """Return a model's labels for the texts of an example, or what is known of them."""
    for own in result.examples if result is not None else ():
        if own.texts == example.texts:
            return own.predicted
    complete = result is not None and result.failed == len(result.examples)
    return "as expected" if complete else "not on record"


def pieces(original: str, text: str) -> tuple[tuple[str, bool], ...]:
    """Return a text in pieces, with whether the original lacks the piece."""
    before, after = (re.findall(r"\s+|\w+|[^\w\s]", one) for one in (original, text))
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return tuple(
        ("".join(after[low:high]), kind != "equal")
        for kind, _, _, low, high in matcher.get_opcodes()
        if high > low
    )


def slices(result: "BenchmarkResult", labels: LabelKind) -> list[tuple[Slice | None, ...]]:
    """Return the slices of the held-out rows, each with the score of each model on it."""
    by_model = [
        {(part.by, part.value): part for part in model.evidence.slices if part.labels == labels}
        for model in models(result)
    ]
    keys = dict.fromkeys(key for parts in by_model for key in parts)
    return [tuple(parts.get(key) for parts in by_model) for key in keys]


def spans(parts: tuple[Slice | None, ...]) -> list[tuple[str, float | None, Interval | None]]:
    """Return the scores of a slice as they are drawn."""
    return [
        (mark, part.macro_recall, part.interval)
        for mark, part in zip(MARKS, parts, strict=False)
        if part is not None
    ]


# How numbers are written


def number(value: float | None, form: str = ".3f") -> str:
    """Return a number with three decimals, or in another form; a dash if there is none."""
    if value is None:
        return "–"
    return f"{value:{form}}".replace("-", "−") if math.isfinite(value) else "not a number"


def share(value: float | None, form: str = ".1%") -> str:
    """Return a share in per cent."""
    return number(value, form)


def chance(value: float | None) -> str:
    """Return a p-value."""
    return "<0.001" if value is not None and value < 0.001 else number(value)


def heat(value: float | None) -> str:
    """Return the class of a cell that is shaded by a share: 'heat0' to 'heat9'."""
    return f"heat{min(9, int(10 * value))}" if value is not None and math.isfinite(value) else "heat0"


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-").lower()


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
