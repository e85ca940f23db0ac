"""Reports say what was found, and no tweet breaks them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tasks.baselines import Baseline
from tasks.behaviour import BehaviourExample, BehaviourResult
from tasks.benchmark import BenchmarkResult
from tasks.gate import Evidence, Verdict
from tasks.quantization import Quantization
from tasks.report import benchmark as page_of
from tasks.report import table, training
from tasks.slices import Slice
from tasks.train import TrainResult
from tests.tasks.test_gate import CLEAR, POLICY, evidence, paired, scored, with_scores

PARSER = MarkdownIt("commonmark").enable("table")

NASTY = [
    "one | two || three",
    "line\nbreak\r\n\r\n# Heading",
    "back\\slash \\| and \\\\|",
    "<script>alert(1)</script> &lt;b&gt;",
    "`code` **bold** [link](https://x.y) ![x](y) ~~s~~ _i_ 1. 2) - + # >",
    "\u2028 \u0085 \x0b",
    "",
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(NASTY)


def benchmark(verdict: Verdict, challenger: Evidence, production: Evidence | None, **more: Any) -> str:
    basis = {"gain": production and CLEAR, "baselines": (), "excluded": {}, "policy": POLICY, "run_id": "r"}
    capabilities, tests = paired(challenger, production)
    found = {"capabilities": capabilities, "tests": tests, **basis, **more}
    return page_of(BenchmarkResult(verdict=verdict, challenger=challenger, production=production, **found))


def cells(markdown: str) -> list[list[list[str]]]:
    """Return the tables of a page as they are rendered, rows of cells."""
    tables: list[list[list[str]]] = []
    tokens = PARSER.parse(markdown)
    for token, content in zip(tokens, [*tokens[1:], tokens[0]], strict=True):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            tables[-1][-1].append("".join(part.content for part in content.children or []))
    return tables


def kinds(markdown: str) -> list[str]:
    return [token.type for token in PARSER.parse(markdown)]


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_table_stays_a_table(rows: list[tuple[str, str, str]]) -> None:
    page = table(("a", "b", "c"), rows)
    assert len(page.splitlines()) <= len(page.split("\n")) == len(rows) + 2
    [found] = cells(page)
    assert [len(row) for row in found] == [3] * (len(rows) + 1)


@pytest.mark.parametrize("text", ["one | two || three", "back\\slash", "\\|", "\\\\|", "a\nb", "|"])
def test_a_cell_is_read_as_it_was_written(text: str) -> None:
    [[_, [first, second]]] = cells(table(("a", "b"), [(text, "x")]))
    assert (first, second) == (" ".join(text.split()), "x")


def test_a_cell_is_no_markup() -> None:
    assert "<img" not in PARSER.render(table(("a",), [("<img src=x onerror=alert(1)> &amp;",)]))


def test_backslash_and_pipe_are_both_escaped() -> None:
    # Renderers differ in how they read `\\|`; an odd number of backslashes is a pipe to all of them.
    assert table(("a", "b"), [("\\|", "x")]).splitlines()[-1] == "| \\\\\\| | x |"


def with_failures(version: str, texts: list[str]) -> Evidence:
    found = evidence(version)
    examples = tuple(
        BehaviourExample(texts=(text, text), predicted=("neutral", "positive"), expected="unchanged")
        for text in texts
    )
    results: list[BehaviourResult] = [
        result.model_copy(update={"examples": examples}) for result in found.behaviour
    ]
    return found.model_copy(update={"behaviour": tuple(results)})


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=2))
def test_tweets_cannot_change_the_page(texts: list[str]) -> None:
    verdict = Verdict(decision="keep", challenger="2", production="1", reasons=("One.", "Two."))
    plain, nasty = (
        benchmark(verdict, with_failures("2", quoted), with_failures("1", quoted))
        for quoted in (["a", "b"], texts)
    )
    assert kinds(nasty) == kinds(plain)
    assert "<script" not in PARSER.render(nasty)


def test_quoted_tweets_are_read_as_they_were_written() -> None:
    verdict = Verdict(decision="keep", challenger="2", production=None, reasons=("One.",))
    text = NASTY[4]
    page = PARSER.parse(benchmark(verdict, with_failures("2", [text]), None))
    shown = ["".join(part.content for part in token.children or []) for token in page]
    assert (
        f"challenger 2, negation_mft: “{text}” (neutral) → “{text}” (positive); expected unchanged" in shown
    )


def test_benchmark_page_puts_the_verdict_first_and_the_two_side_by_side() -> None:
    verdict = Verdict(
        decision="promote", challenger="2", production="1", reasons=("It is better.", "So be it.")
    )
    challenger = with_scores(evidence("2"), scored(0.7), scored(0.8, "textblob", 1234))
    page = benchmark(verdict, challenger, evidence("1", recall=0.65))
    assert page.startswith("# Version 2 goes to production\n\n- It is better.\n- So be it.\n")
    scores, capabilities, behaviour, _ = cells(page)
    assert [row[:4] for row in scores[1:]] == [
        ["challenger 2", "human", "400", "0.700 (0.000 to 1.000)"],
        ["challenger 2", "TextBlob (weak)", "1,234", "0.800 (0.000 to 1.000)"],
        ["production 1", "human", "400", "0.650 (0.000 to 1.000)"],
    ]
    assert behaviour[1] == [
        *("contractions_inv", "MFT", "robustness", "challenger 2", "10 of 100", "10.0%", "0")
    ]
    assert len(behaviour) == 1 + 2 * 4
    assert capabilities[1] == [
        *("negation", "100", "10 (10.0%)", "10 (10.0%)", "+0.0% (+0.0% to +0.0%)", "1.000")
    ]
    assert "\n\nNone.\n\n" in page and page.endswith("`report.html` in the MLflow run `r`.")


def test_a_test_that_did_not_run_is_no_success() -> None:
    verdict = Verdict(decision="keep", challenger="2", production=None, reasons=("Why.",))
    page = benchmark(verdict, evidence("2", typos_inv=None), None)
    assert page.startswith("# Version 2 is archived, nothing is in production\n")
    [row] = [row for row in cells(page)[2] if row[0] == "typos_inv"]
    assert row[5] == "not run"


def test_benchmark_page_has_baselines_slices_and_what_was_left_out() -> None:
    verdict = Verdict(decision="keep", challenger="2", production=None, reasons=("Why.",))
    silent = scored(0.6, log_loss=None, calibration_error=None)
    basis: dict[str, Any] = {"by": "url", "labels": "human"}
    parts = (
        Slice(
            **basis, value="with", rows=9, macro_recall=None, interval=None, remark="too few rows: 9 of 30"
        ),
        Slice(**basis, value="without", rows=391, macro_recall=0.71, interval=None, remark=""),
    )
    page = benchmark(
        verdict,
        evidence("2").model_copy(update={"slices": parts}),
        None,
        baselines=(
            Baseline(name="SVM", learned_from="human", rows=9, scores=(silent,), reason=""),
            Baseline(name="VADER", learned_from=None, rows=0, scores=(), reason="not available: gone"),
        ),
        excluded={"rows whose text is known": 7},
    )
    scores, capabilities, _, slices = cells(page)
    assert [row[0] for row in scores[1:]] == ["challenger 2", "SVM, trained on human labels"]
    assert scores[2][-2:] == ["", ""]
    assert "- VADER: not available: gone.\n- Left out: 7 rows whose text is known." in page
    assert capabilities[1] == ["negation", "100", "10 (10.0%)", "", "", ""]
    assert [row[1:] for row in slices[1:]] == [
        ["with", "challenger 2", "human", "9", "", "too few rows: 9 of 30"],
        ["without", "challenger 2", "human", "391", "0.710", ""],
    ]


def test_training_page_has_every_epoch_and_score() -> None:
    epochs = tuple({"loss": loss, "val_loss": loss + 0.1} for loss in (0.9, 0.5))
    result = TrainResult(
        version="7",
        reused=False,
        labels="textblob",
        network="pooled",
        rows=2520,
        epochs=epochs,
        stopped="no better",
        quantization=Quantization(precision="int8", fall=0.001, megabytes=12.1),
        teacher=0.7,
        scores=(scored(0.7), scored(0.8, "textblob")),
        device="CPU",
        seconds=12.3,
    )
    page = training(result)
    assert page.startswith(
        "# Version 7: pooled network on TextBlob (weak) labels\n\n2,520 rows, CPU, fit in 12.3 s."
    )
    assert (
        "near the lowest. Kept: epoch 2, int8 weights, 12.1 MB; 8 bits cost 0.10 points of macro recall."
        in page
    )
    assert "Macro recall of the teacher: 0.700." in page
    learned, scores = cells(page)
    assert learned == [["epoch", "loss", "val_loss"], ["1", "0.900", "1.000"], ["2", "0.500", "0.600"]]
    assert [row[:2] for row in scores[1:]] == [["version 7", "human"], ["version 7", "TextBlob (weak)"]]
    assert "made before from the same rows" in training(result.model_copy(update={"reused": True}))
