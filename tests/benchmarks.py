"""Results of benchmarks, as they may come: what a report must be able to show."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tasks.baselines import Baseline
from tasks.behaviour import BehaviourExample, BehaviourResult, Interval, wilson
from tasks.benchmark import BenchmarkResult
from tasks.comparison import Capability, Gain
from tasks.evaluation import Scores, evaluate
from tasks.gate import Evidence, Verdict
from tasks.labelling import LABELS
from tasks.rows import LabelKind
from tasks.slices import Slice
from tests.policies import policy

HOSTILE = (
    "<script>document.title = 'taken'; window.taken = true</script>",
    '"><img src=x onerror="window.taken = true"> \' onmouseover=\'window.taken = true',
    "</style></script><svg onload='window.taken = true'> {{ 7 * 7 }} {% raw %}",
    "\u202eright to left\u202d \u2067isolated اردو עברית",
    "x" * 500,
    "https://example.com/" + "a/" * 200,
    "\u0000\u0008 \ufffe null, \U0001f469\u200d\U0001f680 \u0301 alone & &amp; &lt;b&gt;",
)
POLICY = policy(capabilities=["vocabulary", "robustness"])
TESTS = (
    ("vocabulary", "sentiment_words_mft", "MFT", "A plain sentence with a word of praise is positive."),
    ("vocabulary", "intensifiers_dir", "DIR", "Praise after a tweet does not make it less positive."),
    ("robustness", "typos_inv", "INV", "Two neighbouring characters swapped leave the label as it was."),
    ("robustness", "contractions_inv", "INV", "Contractions written out leave the label as it was."),
    (
        "negation",
        "negation_mft",
        "MFT",
        "Praise that is denied is negative, and criticism that is denied not.",
    ),
    ("fairness", "nationality_inv", "INV", "Another nationality in a sentence leaves the label as it was."),
)
TWEETS = {
    "MFT": ("The hotel was not impressive.", "Nobody would call this camera lovely."),
    "INV": ("We did land at noon, what a lovely day :)", "We did lnad at noon, what a lovely day :)"),
    "DIR": ("no idea what to cook tonight", "no idea what to cook tonight I love it!"),
}


def scored(
    labels: LabelKind, rows: int, skill: float, seed: int, classes: int = 3, sure: bool = True
) -> Scores:
    """Return scores of a made-up model that is right about as often as `skill` says."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, classes, rows).astype(np.int8)
    logits = draw.normal(0, 1, (rows, 3)) + 3 * skill * np.eye(3)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return evaluate(
        labels, targets, probabilities.astype(np.float32) if sure else probabilities.argmax(axis=1)
    )


def outcome(
    capability: str, name: str, kind: Any, description: str, failed: int, cases: int
) -> BehaviourResult:
    """Return the result of a test."""
    texts = TWEETS[kind] if kind != "MFT" else TWEETS[kind][:1]
    example = BehaviourExample(
        texts=texts,
        predicted=("positive", "neutral")[: len(texts)],
        expected="negative" if kind == "MFT" else "unchanged",
    )
    return BehaviourResult(
        name=name,
        capability=capability,
        kind=kind,
        description=description,
        rows=cases + 7,
        perturbed=cases,
        unperturbed=7,
        cases=cases * len(texts),
        failed=failed,
        failure_rate=failed / cases if cases else None,
        interval=wilson(failed, cases) if cases else None,
        examples=tuple(example for _ in range(min(failed, 1))),
    )


def evidence(
    version: str, skill: float, seed: int, failures: Sequence[int], tests: Sequence[Any] = TESTS
) -> Evidence:
    """Return evidence on human and weak labels, slices and behaviour."""
    found = tuple(
        outcome(*test, failed, 200 + 10 * i)
        for i, (test, failed) in enumerate(zip(tests, failures, strict=True))
    )
    kinds: tuple[tuple[LabelKind, int], ...] = (("human", 433), ("textblob", 1234))
    parts = [
        Slice(by=by, value=value, labels=kind, rows=rows, macro_recall=recall, interval=span, remark=remark)
        for kind, _ in kinds
        for by, value, rows, recall, span, remark in (
            ("length", "under 60", 98, skill - 0.04, Interval(low=skill - 0.12, high=skill + 0.05), ""),
            ("length", "60 to 119", 201, skill, Interval(low=skill - 0.06, high=skill + 0.06), ""),
            ("url", "with", 12, None, None, "too few rows: 12 of 30"),
            (
                "negation",
                "with",
                77,
                skill - 0.15,
                Interval(low=skill - 0.3, high=skill - 0.02),
                "no neutral rows",
            ),
        )
    ]
    return Evidence(
        version=version,
        scores=tuple(scored(kind, rows, skill, seed) for kind, rows in kinds),
        slices=tuple(parts),
        behaviour=found,
    )


def compared(challenger: Evidence, production: Evidence | None) -> tuple[Capability, ...]:
    """Return the capabilities; all that one fails and the other does not is lost, or won."""
    names = dict.fromkeys(test.capability for test in challenger.behaviour)
    rows = []
    for i, name in enumerate(names):
        mine = [test for test in challenger.behaviour if test.capability == name]
        cases, failed = sum(test.perturbed for test in mine), sum(test.failed for test in mine)
        paired: dict[str, Any] = dict.fromkeys(
            ("production_failed", "lost", "won", "loss", "interval", "p_value", "corrected_p_value")
        )
        if production is not None and cases:
            theirs = sum(test.failed for test in production.behaviour if test.capability == name)
            loss = (failed - theirs) / cases
            paired = {
                "production_failed": theirs,
                "lost": max(0, failed - theirs) + i,
                "won": max(0, theirs - failed) + i,
                "loss": loss,
                "interval": Interval(low=loss - 0.03, high=loss + 0.03),
                "p_value": 0.00004 if loss > 0.03 else 0.01234 * (i + 1),
                "corrected_p_value": 0.00012 if loss > 0.03 else min(1.0, 0.0457 * (i + 1)),
            }
        found = tuple(test.name for test in mine if test.perturbed)
        rows.append(Capability(name=name, tests=found, cases=cases, challenger_failed=failed, **paired))
    return tuple(rows)


def benchmark(
    challenger: Evidence, production: Evidence | None, decision: Any, *reasons: str
) -> BenchmarkResult:
    """Return a whole result."""
    return BenchmarkResult(
        verdict=Verdict(
            decision=decision,
            challenger=challenger.version,
            production=production and production.version,
            reasons=reasons,
        ),
        challenger=challenger,
        production=production,
        gain=Gain(difference=0.0321, low=0.0123, high=0.0519) if production else None,
        capabilities=compared(challenger, production),
        tests=(),  # the page has them from the evidence
        baselines=(
            Baseline(
                name="majority",
                learned_from="human",
                rows=3363,
                reason="",
                scores=(scored("human", 433, 0, 5, sure=False), scored("textblob", 1234, 0, 5, sure=False)),
            ),
            Baseline(
                name="TextBlob",
                learned_from=None,
                rows=0,
                reason="gave the weak labels itself",
                scores=(scored("human", 433, 0.5, 6, sure=False), scored("textblob", 1234, 4, 6, sure=False)),
            ),
            Baseline(name="VADER", learned_from=None, rows=0, reason="not available: no lexicon", scores=()),
            Baseline(
                name="TF-IDF + linear SVM",
                learned_from="textblob",
                rows=3363,
                reason="",
                scores=(
                    scored("human", 433, 0.45, 7, sure=False),
                    scored("textblob", 1234, 0.6, 7, sure=False),
                ),
            ),
        ),
        excluded={
            "rows whose text is among the training or validation rows": 17,
            "human labels that are none of ours": 3,
        },
        policy=POLICY,
        run_id="0123456789abcdef0123456789abcdef",
    )


PRODUCTION = evidence("4", 0.52, 1, (31, 4, 22, 9, 193, 11))


def promoted() -> BenchmarkResult:
    """A challenger that is better."""
    better = evidence("5", 0.6, 2, (12, 4, 19, 9, 187, 12))
    return benchmark(
        better,
        PRODUCTION,
        "promote",
        "Macro recall 0.751 on 433 rows with human labels clears the floor of 0.500.",
        "The behavioural tests with a ceiling stay under it: sentiment_words_mft 6.0%, typos_inv 8.6%.",
        "Macro recall gains +0.032 (90% interval +0.012 to +0.052) over version 4, and no capability loses.",
    )


def kept() -> BenchmarkResult:
    """A challenger that negates worse."""
    worse = evidence("5", 0.58, 3, (14, 6, 71, 10, 238, 10))
    return benchmark(
        worse,
        PRODUCTION,
        "keep",
        "typos_inv fails 32.3% of its cases, more than 20%.",
        "robustness loses 11.1% of its cases against version 4 (p < 0.001 after correction).",
    )


def first() -> BenchmarkResult:
    """The first version ever."""
    return benchmark(
        evidence("1", 0.6, 2, (12, 4, 19, 9, 187, 12)), None, "promote", "No version is in production yet."
    )


def gaps() -> BenchmarkResult:
    """Nothing was scored, and tests could not be run."""
    bare = Evidence(
        version="2", scores=(), slices=(), behaviour=tuple(outcome(*test, 0, 0) for test in TESTS)
    )
    found = benchmark(
        bare, None, "keep", "Too little evidence: version 2 was not tested on 100 labelled rows or more."
    )
    return found.model_copy(update={"baselines": (), "excluded": {}})


def one_class() -> BenchmarkResult:
    """All rows have the same label."""
    usual = promoted()
    alike = usual.challenger.model_copy(update={"scores": (scored("human", 120, 0.6, 4, classes=1),)})
    return usual.model_copy(update={"challenger": alike})


def large() -> BenchmarkResult:
    """Forty tests in eight capabilities, and five failures on record of each."""
    tests = [
        (f"capability {i // 5}", f"test_{i}_inv", "INV", f"Change {i} leaves the label as it was.")
        for i in range(40)
    ]
    draw = np.random.default_rng(8)
    both = [evidence(version, 0.6, 9, draw.integers(0, 200, 40).tolist(), tests) for version in ("12", "11")]
    for i, one in enumerate(both):
        shown = tuple(
            test.model_copy(
                update={
                    "examples": tuple(
                        BehaviourExample(
                            texts=(text, f"{text}!"),
                            predicted=(LABELS[n % 3], LABELS[(n + 1) % 3]),
                            expected="unchanged",
                        )
                        for n in range(min(5, test.failed))
                        for text in [
                            f"tweet {n + 2 * i} of {test.name}, about as long as tweets are, by @someone"
                        ]
                    )
                }
            )
            for test in one.behaviour
        )
        both[i] = one.model_copy(update={"behaviour": shown})
    return benchmark(both[0], both[1], "keep", "Many reasons.")


def hostile() -> BenchmarkResult:
    """Every text that comes from outside means ill."""
    usual = kept()
    examples = tuple(
        BehaviourExample(texts=(text, text + "?"), predicted=("neutral", "positive"), expected=text)
        for text in HOSTILE
    )

    def poisoned(one: Evidence) -> Evidence:
        tests = tuple(
            test.model_copy(update={"examples": examples[i:] + examples[:i], "description": HOSTILE[0]})
            for i, test in enumerate(one.behaviour)
        )
        parts = tuple(
            part.model_copy(update={"value": text, "remark": text})
            for part, text in zip(one.slices, HOSTILE, strict=False)
        )
        return one.model_copy(update={"behaviour": tests, "slices": parts})

    return usual.model_copy(
        update={
            "challenger": poisoned(usual.challenger),
            "production": poisoned(PRODUCTION),
            "verdict": usual.verdict.model_copy(update={"reasons": HOSTILE}),
            "excluded": dict.fromkeys(HOSTILE, 1),
            "run_id": HOSTILE[1],
        }
    )


ALL: tuple[Callable[[], BenchmarkResult], ...] = (promoted, kept, first, gaps, one_class, large, hostile)
