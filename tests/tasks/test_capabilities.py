import re
from pathlib import Path

import pytest

from tasks.behaviour import Suite, build_suite
from tasks.capabilities import BEHAVIOURS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmark.md"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return build_suite([], [], sentences=1000)


def test_each_name_is_there_once_and_tells_the_kind() -> None:
    names = [behaviour.name for behaviour in BEHAVIOURS]
    assert len(set(names)) == len(names) >= 30
    assert {"negation_mft", "typos_inv", "contractions_inv"} <= set(names)
    for behaviour in BEHAVIOURS:
        assert behaviour.name.endswith(f"_{behaviour.kind.lower()}")
        assert behaviour.description.endswith(".")


def test_each_capability_is_tested() -> None:
    count = dict.fromkeys((behaviour.capability for behaviour in BEHAVIOURS), 0)
    for behaviour in BEHAVIOURS:
        count[behaviour.capability] += 1
    assert list(count) == [
        *("vocabulary", "robustness", "named entities", "temporal", "negation", "semantic roles", "fairness")
    ]
    assert min(count.values()) >= 3


def test_the_page_lists_every_test() -> None:
    listed = re.findall(r"^\| ([a-z ]+) \| `(\w+)` \| (.+) \|$", DOCS.read_text(), re.MULTILINE)
    assert listed == [
        (behaviour.capability, behaviour.name, behaviour.description.removesuffix("."))
        for behaviour in BEHAVIOURS
    ]


def test_templates_are_filled_and_read_as_english(suite: Suite) -> None:
    for behaviour, cases in suite.parts:
        texts = [text for case in cases.texts for text in case]
        wrong = re.compile(r"[{}]|  |\ba [aeiou]|\ban [^aeiou]", re.IGNORECASE)
        assert not [text for text in texts if wrong.search(text)], behaviour.name


def test_no_sentence_stands_twice_in_a_test_or_has_two_labels(suite: Suite) -> None:
    labels: dict[str, tuple[int, ...]] = {}
    for behaviour, cases in suite.parts:
        firsts = [tuple(case) for case in cases.texts]
        assert len(set(firsts)) == len(firsts), behaviour.name
        if behaviour.kind == "MFT":
            assert cases.targets is not None
            for (text,), allowed in zip(cases.texts, cases.targets, strict=True):
                assert labels.setdefault(text, allowed) == allowed, text


def test_every_case_of_a_directional_test_has_a_change(suite: Suite) -> None:
    for behaviour, cases in suite.parts:
        assert all((len(set(case)) == len(case) > 1) == (behaviour.kind != "MFT") for case in cases.texts)
