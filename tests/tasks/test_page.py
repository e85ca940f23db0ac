"""The page says what was found, to everyone, and nothing that it quotes gets to act."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import page
from tasks.behaviour import BehaviourExample
from tasks.benchmark import BenchmarkResult
from tasks.page import benchmark_page, cases, models, pieces, worst
from tests import benchmarks
from tests.benchmarks import HOSTILE
from tests.browser import Browser

NAMES = [make.__name__ for make in benchmarks.ALL]
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
ROWS = """(() => [...document.querySelectorAll("table")].map(table => ({
    caption: table.caption.textContent.trim(),
    rows: [...table.rows].map(row => [...row.cells].map(cell => cell.innerText.replace(/\\s+/g, " ").trim())),
})))()"""
# Of each text that can be seen: the contrast with what lies behind it, as WCAG 2.2 defines it.
CONTRASTS = """(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = rgba(getComputedStyle(element).backgroundColor);
            if (colour[3] === 255) return colour;
        }
    };
    const found = {};
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const element = node.parentElement;
        if (!node.textContent.trim() || !element.checkVisibility() || element.closest("script")) continue;
        const style = getComputedStyle(element);
        const front = rgba(element.closest("svg") ? style.fill : style.color);
        const [a, b] = [light(front), light(behind(element))].sort((x, y) => y - x);
        found[`${element.tagName} ${element.getAttribute("class")} ${front} on ${behind(element)}`]
            = (a + 0.05) / (b + 0.05);
    }
    return found;
})()"""


@pytest.fixture(scope="module")
def results() -> dict[str, BenchmarkResult]:
    return {make.__name__: make() for make in benchmarks.ALL}


@pytest.fixture(scope="module")
def paths(results: dict[str, BenchmarkResult], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {name: page.write(result, str(folder / f"{name}.html")) for name, result in results.items()}


def tables(browser: Browser) -> dict[str, list[list[str]]]:
    """Return the rows of each table, all unfolded, by its caption."""
    browser.evaluate(OPEN)
    return {table["caption"]: table["rows"] for table in browser.evaluate(ROWS)}


def row(rows: list[list[str]], name: str) -> str:
    [found] = [row for row in rows if row[0].split()[0] == name.split()[0] and row[0].startswith(name)]
    return " | ".join(found)


# What it says


def test_every_number_of_a_capability_is_there(
    results: dict[str, Any], paths: dict[str, Path], browser: Browser
) -> None:
    browser.look()
    browser.open(paths["kept"])
    matrix = tables(browser)["Failed cases by capability, with 95% intervals"]
    assert [row[0] for row in matrix[1:]] == [
        "vocabulary required", "robustness required", "negation", "fairness",
    ]  # fmt: skip
    for capability in results["kept"].capabilities:
        found = row(matrix, capability.name)
        for failed in (capability.challenger_failed, capability.production_failed):
            assert f"{failed / capability.cases:.1%}" in found and f"{failed} failed" in found
        assert f"{capability.lost} lost, {capability.won} won" in found
        assert f"{capability.loss:+.1%}".replace("-", "−") in found
        low, high = (
            f"{edge:+.1%}".replace("-", "−") for edge in (capability.interval.low, capability.interval.high)
        )
        assert f"{low[:-1]} to {high}" in found
        for chance in (capability.p_value, capability.corrected_p_value):
            assert ("<0.001" if chance < 0.001 else f"{chance:.3f}") in found
        assert found.endswith(f"| {capability.cases}")
    # never by colour alone
    marks = "▲", "▼", "worse", "better"
    words = {
        name: " ".join(mark for mark in marks if mark in row(matrix, name))
        for name in ("vocabulary", "robustness", "negation", "fairness")
    }
    assert words == {"vocabulary": "▼ better", "robustness": "▲ worse", "negation": "▲ worse", "fairness": ""}
    # Wilson's interval of 81 of 450, by hand
    assert "18.0% 14.7–21.8% 81 failed" in row(matrix, "robustness")


def test_every_test_score_slice_and_setting_is_there(
    results: dict[str, Any], paths: dict[str, Path], browser: Browser
) -> None:
    result = results["kept"]
    browser.look()
    browser.open(paths["kept"])
    found = tables(browser)
    for one in (result.challenger, result.production):
        for test in one.behaviour:
            shown = row(found[f"Tests of {test.capability}"], test.name)
            assert f"{test.failure_rate:.1%}" in shown and f"{test.failed} failed" in shown
            assert f"{100 * test.interval.low:.1f}–{100 * test.interval.high:.1f}%" in shown
            assert f"{test.perturbed} of {test.rows} rows | {test.unperturbed} |" in shown
        for scores, title in zip(one.scores, ("human", "TextBlob (weak)"), strict=True):
            role = "challenger" if one is result.challenger else "production"
            [caption] = [
                text for text in found if text.startswith(f"Versions and simple methods by {title} labels")
            ]
            shown = row(found[caption], f"{role} {one.version}")
            span = scores.macro_recall_interval
            assert f"{scores.macro_recall:.3f} {span.low:.3f}–{span.high:.3f}" in shown
            rest = scores.macro_f1, scores.accuracy, scores.log_loss, scores.calibration_error
            assert " | ".join(f"{value:.3f}" for value in rest) in shown
            assert shown.endswith(f"| {scores.rows:,}")
    assert "over the ceiling" in row(found["Tests of robustness"], "typos_inv")
    human, weak = (
        next(
            rows for text, rows in found.items() if text.startswith(f"Versions and simple methods by {kind}")
        )
        for kind in ("human", "TextBlob")
    )
    assert [cells[0].split()[0] for cells in human] == [
        "Model",
        "challenger",
        "production",
        "majority",
        "TextBlob",
        "VADER",
        "TF-IDF",
    ]
    assert "433" not in row(weak, "challenger") and "1,234" not in row(human, "challenger")  # never mixed
    assert "not available: no lexicon" in row(human, "VADER")
    slices = found[
        "Macro recall on parts of the rows, by human labels, with 95% intervals; length in characters"
    ]
    assert row(slices, "negation").startswith(
        "negation with no neutral rows | 0.430 0.280–0.560 | 0.370 0.220–"
    )
    assert "too few rows: 12 of 30" in row(slices, "url")
    policy = found["The policy that was applied"]
    assert {cells[0].split()[0] for cells in policy[1:]} == set(type(result.policy).model_fields)
    assert "typos_inv 0.2" in row(policy, "ceilings")
    assert row(found["Held-out rows and labels that were left out"], "rows").endswith("| 17")


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_comes_first_with_all_reasons(
    name: str, results: dict[str, Any], paths: dict[str, Path], browser: Browser
) -> None:
    browser.open(paths[name])
    verdict = results[name].verdict
    assert browser.evaluate("document.querySelector('h1').innerText") == verdict.headline()
    assert browser.evaluate("document.title").startswith(verdict.headline())
    if name != "hostile":
        assert browser.evaluate(
            "[...document.querySelectorAll('.reasons li')].map(e => e.innerText)"
        ) == list(verdict.reasons)
    stamp = "✓ promoted" if verdict.decision == "promote" else "■ not promoted"
    assert browser.evaluate("document.querySelector('.stamp').innerText") == stamp


def test_what_is_missing_is_said(paths: dict[str, Path], browser: Browser) -> None:
    browser.open(paths["gaps"])
    shown = browser.evaluate("document.body.innerText")
    for gap in (
        "too few rows to judge",
        "No version was scored: there are no labelled rows held out.",
        "None is on record.",
        "No probabilities are on record.",
        "No slices are on record.",
    ):
        assert gap in shown
    assert (
        row(tables(browser)["Failed cases by capability, with 95% intervals"], "negation")
        == "negation | – no cases |  | 0"
    )
    browser.open(paths["first"])
    assert "production 4" not in browser.evaluate("document.body.innerText")
    assert "Difference" not in tables(browser)["Failed cases by capability, with 95% intervals"][0]


def test_a_version_that_nothing_challenges_is_called_production() -> None:
    result = benchmarks.promoted()
    standing = result.verdict.model_copy(update={"decision": "keep", "production": "5"})
    result = result.model_copy(update={"verdict": standing})
    assert [model.name for model in models(result)] == ["production 5", "before it 4"]
    assert "stays on version 5" in benchmark_page(result)


def test_failures_tell_what_both_have_said() -> None:
    [test] = page.tests(benchmarks.kept(), "negation")
    mine, theirs = test.results
    assert mine is not None and theirs is not None
    seen = BehaviourExample(texts=("a",), predicted=("positive",), expected="negative")
    other = BehaviourExample(texts=("b",), predicted=("neutral",), expected="negative")
    few = {"failed": 2, "examples": (seen, other)}
    both = page.Test(
        (mine.model_copy(update=few), theirs.model_copy(update={"failed": 1, "examples": (other,)}))
    )
    assert [case.said for case in cases(both)] == [
        (("positive",), "as expected"),
        (("neutral",), ("neutral",)),
    ]
    # of nine failures one is on record: the first case may be among the others
    both = page.Test(
        (mine.model_copy(update=few), theirs.model_copy(update={"failed": 9, "examples": (other,)}))
    )
    assert [case.said for case in cases(both)] == [
        (("positive",), "not on record"),
        (("neutral",), ("neutral",)),
    ]
    alone = page.Test((both.results[0], None))
    assert [case.said[1] for case in cases(alone)] == ["not on record"] * 2


def test_each_of_several_texts_is_shown_with_its_labels(tmp_path: Path, browser: Browser) -> None:
    result = benchmarks.kept()
    texts, predicted = ("I am old.", "I am young.", "I am tall."), ("neutral", "negative", "positive")
    several = BehaviourExample(texts=texts, predicted=predicted, expected="unchanged")
    tests = tuple(test.model_copy(update={"examples": (several,)}) for test in result.challenger.behaviour)
    challenger = result.challenger.model_copy(update={"behaviour": tests})
    browser.look()
    path = page.write(result.model_copy(update={"challenger": challenger}), str(tmp_path / "several.html"))
    browser.open(path)
    case = "[...document.querySelectorAll('#failures .cases li')].find(e => e.innerText.includes('I am old'))"
    shown = browser.evaluate(f"[...{case}.children].map(e => e.innerText.replace(/\\s+/g, ' ').trim())")
    assert shown[:6] == [
        *("I am old.", "challenger 5 neutral"),
        *("I am young.", "challenger 5 negative"),
        *("I am tall.", "challenger 5 positive"),
    ]
    assert shown[6] == "expected unchanged challenger 5 see each text production 4 not on record"


def test_the_worst_of_each_capability_comes_first() -> None:
    result = benchmarks.large()
    groups = [page.tests(result, capability.name) for capability in result.capabilities]
    assert [len(group) for group in groups] == [5] * 8
    rates = [test.results[0].failure_rate for test in worst(groups) if test.results[0]]
    by_capability: dict[str, float] = {}
    for one in result.challenger.behaviour:
        by_capability[one.capability] = max(by_capability.get(one.capability, 0), one.failure_rate or 0)
    assert rates == sorted(by_capability.values(), reverse=True)
    assert worst([]) == worst([[]]) == []


@settings(max_examples=50, deadline=None)
@given(original=st.text(max_size=30), text=st.text(max_size=30))
def test_marking_a_change_keeps_the_text(original: str, text: str) -> None:
    assert "".join(piece for piece, _ in pieces(original, text)) == text
    assert not any(new for _, new in pieces(text, text))


def test_what_has_changed_is_marked() -> None:
    assert pieces("We did land, :)", "We did lnad, :)") == (
        ("We did ", False),
        ("lnad", True),
        (", :)", False),
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.1234, "0.123"),
        (-0.5, "−0.500"),
        (None, "–"),
        (math.nan, "not a number"),
        (math.inf, "not a number"),
    ],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert page.number(value) == shown


def test_shades() -> None:
    shades = [page.heat(value) for value in (0, 0.099, 0.1, 0.95, 1, None, math.nan)]
    assert shades == [f"heat{i}" for i in (0, 0, 1, 9, 9, 0, 0)]
    assert (page.chance(0.0009), page.chance(0.001), page.chance(None)) == ("<0.001", "0.001", "–")


# To whom


@pytest.mark.parametrize("name", NAMES)
def test_it_shows_on_any_screen_without_a_word_to_anyone(
    name: str, paths: dict[str, Path], browser: Browser
) -> None:
    for width in (360, 1280):
        browser.look(width)
        browser.open(paths[name])
        browser.evaluate(OPEN)
        assert browser.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    assert browser.console == []
    assert browser.requests == [paths[name].as_uri()]


@pytest.mark.parametrize("name", NAMES)
def test_a_screen_reader_finds_its_way(name: str, paths: dict[str, Path], browser: Browser) -> None:
    browser.open(paths[name])
    levels = browser.each("h1, h2, h3, h4, h5, h6", "Number(e.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert browser.evaluate("document.documentElement.lang") == "en"
    landmarks = browser.each("body > header, body > nav, body > main, body > footer", "e.localName")
    assert landmarks == ["header", "nav", "main", "footer"]
    ids = browser.each("[id]", "e.id")
    assert len(ids) == len(set(ids))
    named = " ".join(browser.each("[aria-labelledby]", "e.getAttribute('aria-labelledby')")).split()
    links = {link.removeprefix("#") for link in browser.each("a", "e.getAttribute('href')")}
    assert links | set(named) <= set(ids)
    assert all(browser.each("table", "e.caption?.textContent.trim() ?? ''"))
    assert all(browser.each("th", "e.scope && e.textContent.trim()"))
    assert set(browser.each("tbody tr", "e.cells[0].scope")) == {"row"}
    assert set(browser.each("svg:not([aria-hidden=true])", "e.role")) <= {"img"}
    assert all(browser.each("svg[role=img]", "e.querySelector('title') && e.querySelector('desc') && true"))


def test_what_a_screen_reader_says(paths: dict[str, Path], browser: Browser) -> None:
    browser.look()
    browser.open(paths["kept"])
    told = browser.names()
    assert [name for role, name in told if role == "image"] == [
        f"Reliability diagram by {kind} labels" for kind in ("human", "TextBlob (weak)")
    ]  # fmt: skip
    named = {name for role, name in told if role in ("button", "columnheader")}
    assert {"challenger 5", "production 4", "Difference", "Macro recall"} <= named
    assert not [
        role
        for role, name in told
        if role in ("link", "button", "heading", "table", "region") and not name.strip()
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["kept", "promoted", "hostile"])
def test_every_text_stands_out(name: str, dark: bool, paths: dict[str, Path], browser: Browser) -> None:
    browser.look(dark=dark)
    browser.open(paths[name])
    browser.evaluate(OPEN)
    found = browser.evaluate(CONTRASTS)
    assert len(found) > 30
    assert {text: contrast for text, contrast in found.items() if contrast < 4.5} == {}
    background = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(22, 21, 19)") is dark


def test_all_shades_stand_out(browser: Browser, paths: dict[str, Path]) -> None:
    for dark in (False, True):
        browser.look(dark=dark)
        browser.open(paths["kept"])
        for cell in (".matrix td[class*='heat']", ".confusion td"):
            browser.evaluate(
                f'document.querySelectorAll("{cell}").forEach((e, i) => e.className = `n heat${{i % 10}}`)'
            )
            shown = browser.each(cell, "getComputedStyle(e).backgroundColor")
            assert len(set(shown)) == min(10, len(shown))
        assert min(browser.evaluate(CONTRASTS).values()) >= 4.5


def test_paper_shows_what_is_folded(paths: dict[str, Path], browser: Browser) -> None:
    visible = (
        "document.querySelector('#capability-negation').checkVisibility({ contentVisibilityAuto: true })"
    )
    browser.look()
    browser.open(paths["kept"])
    assert browser.evaluate(visible) is False
    browser.look(media="print")
    browser.open(paths["kept"])
    assert browser.evaluate(visible) is True
    assert browser.evaluate("document.querySelector('nav').checkVisibility()") is False


def test_a_link_unfolds_the_tests_of_a_capability(paths: dict[str, Path], browser: Browser) -> None:
    browser.look()
    browser.open(paths["kept"])
    opened = "document.querySelector('#capability-negation').closest('details').open"
    assert browser.evaluate(opened) is False
    browser.evaluate("document.querySelector('.matrix a[href=\"#capability-negation\"]').click()")
    browser.evaluate("new Promise(done => setTimeout(done, 100))")
    assert browser.evaluate(opened) is True


def test_without_script_nothing_is_missing(paths: dict[str, Path], browser: Browser) -> None:
    browser.look()
    texts = []
    for script in (True, False):
        browser.open(paths["kept"], script=script)
        nodes = browser.call("DOM.getDocument", depth=-1)
        root = browser.call("DOM.getOuterHTML", nodeId=nodes["root"]["nodeId"])["outerHTML"]
        assert ("<button" in root) is script
        assert ("aria-sort" in root.split("</style>")[1].split("<script>")[0]) is script
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
        texts.append(browser.evaluate("document.body.textContent.replace(/\\s+/g, ' ')"))
    assert texts[0] == texts[1]


# Sorting

COLUMN = """(name, index) => [...[...document.querySelectorAll("table.sortable")]
    .find(table => table.caption.textContent.includes(name)).tBodies[0].rows]
    .map(row => [row.cells[0].textContent.trim().split(/\\s/)[0], row.cells[index].dataset.value])"""
CLICK = """(name, index) => {
    const table = [...document.querySelectorAll("table.sortable")]
        .find(table => table.caption.textContent.includes(name));
    table.tHead.rows[0].cells[index].querySelector("button").click();
    return [...table.tHead.rows[0].cells].map(cell => cell.ariaSort);
}"""


def test_columns_sort_by_number_both_ways(
    results: dict[str, Any], paths: dict[str, Path], browser: Browser
) -> None:
    browser.look()
    browser.open(paths["kept"])
    start = [name for name, _ in browser.evaluate(f"({COLUMN})('Failed cases', 3)")]
    loss = {capability.name: capability.loss for capability in results["kept"].capabilities}
    assert start == list(loss)
    up = sorted(loss, key=lambda name: loss[name])
    assert up != start and up[::-1] != start
    for order, direction in ((up, "ascending"), (up[::-1], "descending"), (up, "ascending")):
        states = browser.evaluate(f"({CLICK})('Failed cases', 3)")
        assert states == ["none", "none", "none", direction, None, "none", "none"]
        assert [name for name, _ in browser.evaluate(f"({COLUMN})('Failed cases', 3)")] == order
        assert (
            browser.evaluate("document.querySelector('#status').textContent")
            == f"Sorted by Difference, {direction}."
        )
    browser.evaluate(f"({CLICK})('Failed cases', 0)")
    assert [name for name, _ in browser.evaluate(f"({COLUMN})('Failed cases', 0)")] == sorted(start)


def test_sorting_keeps_the_order_of_equals_and_puts_gaps_last(
    paths: dict[str, Path], browser: Browser
) -> None:
    browser.look()
    browser.open(paths["kept"])
    title = "by human labels, with 95% intervals;"
    rows = "Rows", 7
    log_loss = 5
    start = [name for name, _ in browser.evaluate(f"({COLUMN})('{title}', {rows[1]})")]
    for direction in ("ascending", "descending"):
        browser.evaluate(f"({CLICK})('{title}', {rows[1]})")  # all but VADER have the same number of rows
        got = [name for name, _ in browser.evaluate(f"({COLUMN})('{title}', {rows[1]})")]
        assert got == [name for name in start if name != "VADER"] + ["VADER"], direction
    browser.evaluate(f"({CLICK})('{title}', {log_loss})")
    values = [value for _, value in browser.evaluate(f"({COLUMN})('{title}', {log_loss})")]
    assert values[2:] == [""] * 4 and float(values[0]) < float(values[1])


def test_numbers_do_not_sort_as_words(paths: dict[str, Path], browser: Browser) -> None:
    browser.open(paths["large"])
    browser.evaluate(f"({CLICK})('Failed cases', 1)")
    values = [float(value) for _, value in browser.evaluate(f"({COLUMN})('Failed cases', 1)")]
    assert values == sorted(values) and len(values) == 8
    browser.evaluate(f"({CLICK})('Tests of capability 1', 0)")
    assert [name for name, _ in browser.evaluate(f"({COLUMN})('Tests of capability 1', 0)")] == [
        f"test_{i}_inv" for i in range(5, 10)
    ]


# What it quotes


def test_hostile_texts_are_read_and_do_nothing(paths: dict[str, Path], browser: Browser) -> None:
    browser.look()
    browser.open(paths["hostile"])
    browser.evaluate(OPEN)
    browser.each("li, td, dd, p", "e.dispatchEvent(new Event('mouseover'))")
    assert browser.evaluate("window.taken") is None
    assert browser.each("script, img, iframe, [onload], [onerror], [onmouseover]", "e.localName") == [
        "script"
    ]
    written = {text.replace("\0", "") for text in HOSTILE}
    assert written <= set(browser.each(".tweet", "e.textContent"))
    # a tweet that turns the direction of writing turns its own alone
    directions = browser.each(".tweet", "`${e.dir} ${getComputedStyle(e).unicodeBidi}`")
    assert set(directions) == {"auto isolate"}


def test_even_what_got_in_could_not_act(paths: dict[str, Path], browser: Browser) -> None:
    browser.look()
    browser.open(paths["kept"])
    browser.evaluate("""(() => {
        const script = document.createElement("script");
        script.textContent = "window.taken = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend",
            "<img src='http://127.0.0.1:9/x' onerror='window.taken = true'><p style='position: fixed'>");
    })()""")
    browser.evaluate("fetch('http://127.0.0.1:9/y').catch(() => 0)")
    assert browser.evaluate("window.taken") is None
    assert browser.evaluate("getComputedStyle(document.querySelector('[style]')).position") == "static"
    assert all("Content Security Policy" in line for line in browser.console) and len(browser.console) >= 4
    browser.open(paths["kept"])
