import json
import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.behaviour import BehaviourResult, Predict, PredictionError, Suite, build_suite
from tasks.capabilities import BEHAVIOURS, CRITICISM, PRAISE
from tasks.cases import perturbed
from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE

Scores = NDArray[np.float32]

TWEETS = (
    "I can't believe it's over, what a lovely weekend",
    "The train is late again and I am so angry with them",
    "Meeting at noon, the agenda is not out yet",
    "They've cancelled the show, this is awful news",
    "It is raining in Porto https://t.co/x @someone",
    "She'd be happy with a great big coffee",
)
TWEET_LABELS = (POSITIVE, NEGATIVE, NEUTRAL, NEGATIVE, NEUTRAL, POSITIVE)


def one_hot(labels: Sequence[int]) -> Scores:
    scores: Scores = np.eye(len(LABELS), dtype=np.float32)[np.array(labels, dtype=int)]
    return scores


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def sentiment(text: str) -> int:
    """Praise minus criticism, counted by word, whatever stands before it."""
    praise, criticism = (f"{kind['adjective']} {kind['verb']}".split() for kind in (PRAISE, CRITICISM))
    return sum((word in praise) - (word in criticism) for word in words(text))


def bag_of_words(texts: Sequence[str]) -> Scores:
    return one_hot([(NEUTRAL, POSITIVE, NEGATIVE)[np.sign(sentiment(text))] for text in texts])


def negation_oracle(texts: Sequence[str]) -> Scores:
    def sign(text: str) -> int:
        denied = any(word in ("not", "nobody") or word.endswith("n't") for word in words(text))
        return int(np.sign(-sentiment(text) if denied else sentiment(text)))

    return one_hot([(NEUTRAL, POSITIVE, NEGATIVE)[sign(text)] for text in texts])


def originals_only(changed: Scores, texts: Sequence[str]) -> Scores:
    """What a model answers that is moved by any change to a tweet: `changed` instead of neutral."""
    scores = one_hot([NEUTRAL] * len(texts))
    scores[[text not in TWEETS for text in texts]] = changed
    return scores


def by_name(results: Sequence[BehaviourResult]) -> dict[str, BehaviourResult]:
    return {result.name: result for result in results}


def evaluate(suite: Suite, predict: Predict) -> list[BehaviourResult]:
    return [outcome.result for outcome in suite.evaluate(predict)]


def texts_by_name(suite: Suite) -> dict[str, list[list[str]]]:
    return {behaviour.name: cases.texts for behaviour, cases in suite.parts}


@pytest.fixture(scope="module")
def suite() -> Suite:
    return build_suite(TWEETS, TWEET_LABELS, seed=3)


def test_registry_has_the_reference_tests_and_300_mft_cases(suite: Suite) -> None:
    names = [behaviour.name for behaviour in BEHAVIOURS]
    assert len(set(names)) == len(names)
    assert {"negation_mft", "typos_inv", "contractions_inv"} <= set(names)
    for behaviour in BEHAVIOURS:
        assert behaviour.name.endswith(f"_{behaviour.kind.lower()}")
        assert behaviour.description.endswith(".")
    mft = sum(len(cases.texts) for behaviour, cases in suite.parts if behaviour.kind == "MFT")
    assert mft >= 300


def test_every_test_finds_something_to_change_in_ordinary_tweets(suite: Suite) -> None:
    # A misspelt option of a perturbation would look like a row that cannot be changed.
    assert all(len(cases.texts) >= 3 for _, cases in suite.parts)


def test_templates_are_filled_and_read_as_english(suite: Suite) -> None:
    parts = [cases.texts for behaviour, cases in suite.parts if behaviour.kind == "MFT"]
    sentences = [text for texts in parts for [text] in texts]
    assert len(set(sentences)) == len(sentences)
    assert not [text for text in sentences if re.search(r"[{}]|\ba [aeiou]|\ban [^aeiou]", text)]


def test_negation_oracle_passes_negation(suite: Suite) -> None:
    result = by_name(evaluate(suite, negation_oracle))["negation_mft"]
    assert (result.failed, result.failure_rate, result.examples) == (0, 0.0, ())
    assert result.interval is not None
    assert result.interval.low == 0 < result.interval.high < 0.02


def test_outcomes_of_two_models_are_paired_case_by_case(suite: Suite) -> None:
    # One model fails where praise is denied, the other where criticism is: never the same case.
    negation = [behaviour.name for behaviour, _ in suite.parts].index("negation_mft")
    cases = suite.parts[negation][1]
    first, second = (
        suite.evaluate(lambda texts, label=label: one_hot([label] * len(texts)))[negation].failed
        for label in (NEGATIVE, POSITIVE)
    )
    assert first.dtype == second.dtype == np.bool_
    assert (first != second).all()
    assert [cases.allowed[i] for i in np.flatnonzero(first)] == [(NEUTRAL, POSITIVE)] * 150  # type: ignore[index]


def test_bag_of_words_fails_negation_and_the_examples_show_it(suite: Suite) -> None:
    results = by_name(evaluate(suite, bag_of_words))
    assert results["sentiment_words_mft"].failed == 0
    negation = results["negation_mft"]
    assert negation.failed == negation.perturbed == 300
    assert len(negation.examples) == 5
    for example in negation.examples:
        [text], [predicted] = example.texts, example.predicted
        assert re.search("not|n't|Nobody", text)
        assert predicted == ("positive" if sentiment(text) > 0 else "negative")
        assert example.expected == ("negative" if sentiment(text) > 0 else "neutral or positive")


@pytest.mark.parametrize(("label", "negation", "vocabulary"), [(0, 150, 300), (1, 150, 150), (2, 150, 150)])
def test_constant_predictor_passes_inv_and_fails_mft(
    suite: Suite, label: int, negation: int, vocabulary: int
) -> None:
    results = evaluate(suite, lambda texts: one_hot([label] * len(texts)))
    assert [result.failed for result in results if result.kind == "INV"] == [0, 0]
    assert by_name(results)["negation_mft"].failed == negation
    assert by_name(results)["sentiment_words_mft"].failed == vocabulary


def test_predictor_that_breaks_on_any_change_fails_inv(suite: Suite) -> None:
    results = by_name(evaluate(suite, lambda texts: originals_only(one_hot([NEGATIVE])[0], texts)))
    typos, contractions = results["typos_inv"], results["contractions_inv"]
    assert typos.failed == typos.perturbed > 0
    assert contractions.failed == contractions.perturbed > 0
    example = typos.examples[0]
    assert example.texts[0] in TWEETS
    assert sorted(example.texts[0]) == sorted(example.texts[1]) != list(example.texts[1])
    assert (example.predicted, example.expected) == (("neutral", "negative"), "unchanged")


@pytest.mark.parametrize("before", [0.4, 0.34])
def test_inv_looks_at_the_label_alone(suite: Suite, before: float) -> None:
    # The first label's probability moves by less than checklist's tolerance, or not at all; the label moves.
    def predict(texts: Sequence[str]) -> Scores:
        original, changed = (before, (1 - before) / 2, (1 - before) / 2), (0.34, 0.4, 0.26)
        return np.array([original if text in TWEETS else changed for text in texts], dtype=np.float32)

    typos = by_name(evaluate(suite, predict))["typos_inv"]
    assert typos.failed == typos.perturbed > 0


@pytest.mark.parametrize(("loss", "fails"), [(-0.2, False), (0.05, False), (0.2, True)])
def test_dir_allows_a_small_step_the_wrong_way(suite: Suite, loss: float, fails: bool) -> None:
    def predict(texts: Sequence[str]) -> Scores:
        positive = [0.5 if text in TWEETS else 0.5 - loss for text in texts]
        return np.array([(0.5 - (p - 0.5), 0.0, p) for p in positive], dtype=np.float32)

    praise = by_name(evaluate(suite, predict))["praise_dir"]
    assert praise.failed == (praise.perturbed if fails else 0)
    assert praise.examples[0].expected == "not less positive" if fails else praise.examples == ()


def test_dir_leaves_out_tweets_with_the_opposite_label(suite: Suite) -> None:
    texts = texts_by_name(suite)
    labels = dict(zip(TWEETS, TWEET_LABELS, strict=True))
    assert [labels[case[0]] for case in texts["praise_dir"]] == [POSITIVE, NEUTRAL, NEUTRAL, POSITIVE]
    assert [labels[case[0]] for case in texts["complaint_dir"]] == [NEGATIVE, NEUTRAL, NEGATIVE, NEUTRAL]


def test_dir_judges_all_models_on_the_same_cases(suite: Suite) -> None:
    # Nothing can be taken off a probability of 0: checklist would leave these cases out.
    praise = by_name(evaluate(suite, lambda texts: one_hot([NEGATIVE] * len(texts))))["praise_dir"]
    assert (praise.perturbed, praise.failed, praise.failure_rate) == (4, 0, 0.0)


def test_interval_is_wilsons(suite: Suite) -> None:
    words = by_name(evaluate(suite, lambda texts: one_hot([NEGATIVE] * len(texts))))["sentiment_words_mft"]
    n, rate, z = 300, 150 / 300, 1.959964
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    assert words.interval is not None
    assert words.failure_rate == rate
    assert (words.interval.low, words.interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_each_distinct_text_is_predicted_once() -> None:
    calls: list[list[str]] = []

    def predict(texts: Sequence[str]) -> Scores:
        calls.append(list(texts))
        return bag_of_words(texts)

    suite = build_suite(TWEETS * 2, TWEET_LABELS * 2)
    suite.evaluate(predict)
    [texts] = calls
    assert len(set(texts)) == len(texts)
    assert set(texts) == {text for _, cases in suite.parts for case in cases.texts for text in case}


def test_two_models_on_one_suite_do_not_disturb_each_other(suite: Suite) -> None:
    before = evaluate(suite, bag_of_words)
    assert evaluate(suite, negation_oracle) != before
    assert evaluate(suite, bag_of_words) == before
    assert evaluate(build_suite(TWEETS, TWEET_LABELS, seed=3), bag_of_words) == before


@pytest.mark.parametrize("name", ["failed", "interval"])
def test_results_are_frozen_and_survive_json(suite: Suite, name: str) -> None:
    for result in evaluate(suite, bag_of_words):
        assert BehaviourResult.model_validate_json(result.model_dump_json()) == result
        with pytest.raises(ValidationError, match="frozen"):
            setattr(result, name, 0)
        with pytest.raises(ValidationError, match="extra"):
            BehaviourResult.model_validate(result.model_dump() | {"tested": 1})


def test_same_seed_same_cases_whatever_the_global_generators() -> None:
    random.seed(1)
    np.random.seed(1)
    first = texts_by_name(build_suite(TWEETS, TWEET_LABELS, seed=5))
    assert texts_by_name(build_suite(TWEETS, TWEET_LABELS, seed=5)) == first


def test_other_seed_other_cases(suite: Suite) -> None:
    first, second = texts_by_name(suite), texts_by_name(build_suite(TWEETS, TWEET_LABELS, seed=4))
    assert [name for name in first if first[name] != second[name]] == [
        *("negation_mft", "sentiment_words_mft", "typos_inv")
    ]


def test_one_more_test_leaves_the_cases_of_the_others(suite: Suite) -> None:
    more = BEHAVIOURS[0]._replace(name="two_typos_inv", kind="INV", build=perturbed("add_typos", typos=2))
    longer = texts_by_name(build_suite(TWEETS, TWEET_LABELS, seed=3, behaviours=(more, *BEHAVIOURS[::-1])))
    assert len(longer.pop("two_typos_inv")) == len(TWEETS)
    assert longer == texts_by_name(suite)


def test_global_generators_are_left_as_they_were() -> None:
    def fail(_: object) -> None:
        np.random.random()
        raise ZeroDivisionError

    random.seed(7)
    np.random.seed(7)
    states = random.getstate(), pickle.dumps(np.random.get_state())
    build_suite(TWEETS, TWEET_LABELS, limit=3).evaluate(bag_of_words)
    with pytest.raises(ZeroDivisionError):
        build_suite(TWEETS, TWEET_LABELS, behaviours=(BEHAVIOURS[0]._replace(build=fail),))  # type: ignore[arg-type]
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == states


def test_limit_offers_the_same_few_tweets_to_each_test() -> None:
    tweets = [f"Tweet number {i}, it's here" for i in range(40)]
    on_tweets = [behaviour for behaviour in BEHAVIOURS if behaviour.kind != "MFT"]
    few = build_suite(tweets, [NEUTRAL] * 40, limit=10, behaviours=on_tweets)
    offered = [{case[0] for case in cases.texts} for _, cases in few.parts]
    assert [cases.rows for _, cases in few.parts] == [10] * 4
    assert len(offered[0]) == 10
    assert all(texts <= offered[0] for texts in offered)
    assert offered[0] != set(tweets[:10])
    everything = build_suite(tweets, [NEUTRAL] * 40, limit=None, behaviours=on_tweets)
    assert [cases.rows for _, cases in everything.parts] == [40] * 4


def test_tweets_that_cannot_be_changed_are_counted() -> None:
    tweets = ["", "a", "🙂", "🙂🙂", "oo", " ", "can't", "It Iſ not is not so"]
    results = by_name(evaluate(build_suite(tweets, [NEUTRAL] * len(tweets)), bag_of_words))
    typos, contractions = results["typos_inv"], results["contractions_inv"]
    assert (typos.rows, typos.perturbed, typos.unperturbed, typos.cases) == (8, 2, 6, 4)
    # checklist takes the long s for an s, and then does not know the word.
    assert (contractions.rows, contractions.perturbed, contractions.unperturbed) == (8, 1, 7)


def test_no_tweets_leave_the_templates() -> None:
    results = evaluate(build_suite([], []), bag_of_words)
    for result in results:
        if result.kind == "MFT":
            assert result.perturbed == 300
        else:
            assert result.rows == result.perturbed == result.unperturbed == result.cases == result.failed == 0
            assert (result.failure_rate, result.interval, result.examples) == (None, None, ())


def test_no_cases_at_all_ask_the_model_nothing() -> None:
    def predict(texts: Sequence[str]) -> Scores:
        raise AssertionError("asked")

    [result] = evaluate(build_suite(["x"], [NEUTRAL], behaviours=BEHAVIOURS[4:5]), predict)
    assert (result.rows, result.unperturbed, result.failure_rate) == (1, 1, None)


@settings(max_examples=40, deadline=None)
@given(
    tweets=st.lists(
        st.tuples(st.text(max_size=30) | st.sampled_from(TWEETS), st.sampled_from(range(3))), max_size=12
    ),
    seed=st.integers(),
    limit=st.none() | st.integers(0, 8),
)
def test_counts_add_up_for_any_tweets(tweets: list[tuple[str, int]], seed: int, limit: int | None) -> None:
    texts, labels = [text for text, _ in tweets], [label for _, label in tweets]
    on_tweets = [behaviour for behaviour in BEHAVIOURS if behaviour.kind != "MFT"]
    suite = build_suite(texts, labels, seed, limit, on_tweets)
    for (_, cases), (result, failed) in zip(suite.parts, suite.evaluate(bag_of_words), strict=True):
        assert failed.shape == (result.perturbed,) and failed.sum() == result.failed
        assert result.rows == result.perturbed + result.unperturbed <= len(texts)
        assert 0 <= result.failed <= result.perturbed <= result.rows
        assert result.cases == sum(map(len, cases.texts)) >= 2 * result.perturbed
        assert all(case[0] in texts and case[0] not in case[1:] for case in cases.texts)
        assert (result.failure_rate is None) == (result.perturbed == 0)
        if result.interval is not None and result.failure_rate is not None:
            assert result.interval.low <= result.failure_rate <= result.interval.high


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda n: np.zeros((n, 2)), r"shape \(\d+, 2\) for \d+ texts: it must be \(\d+, 3\)"),
        (lambda n: np.zeros((n - 1, 3)), r"shape \(\d+, 3\)"),
        (lambda n: np.zeros(n), r"shape \(\d+,\)"),
        (lambda n: None, r"shape \(\)"),
        (lambda n: np.full((n, 3), np.nan), r"\[nan, nan, nan\] for '.*finite.*train again"),
        (lambda n: np.full((n, 3), np.inf), "inf"),
        (lambda n: np.tile([-0.5, 0.5, 1.0], (n, 1)), "not negative"),
        (lambda n: np.tile([3.0, 1.0, 2.0], (n, 1)), "logits"),
    ],
)
def test_what_is_no_probability_is_refused(suite: Suite, wrong: object, message: str) -> None:
    with pytest.raises(PredictionError, match=message):
        suite.evaluate(lambda texts: wrong(len(texts)))  # type: ignore[operator]


def test_one_nan_is_found(suite: Suite) -> None:
    def predict(texts: Sequence[str]) -> Scores:
        scores = bag_of_words(texts)
        scores[7, 1] = np.nan
        return scores

    texts = suite.texts()
    with pytest.raises(PredictionError, match=f"1 of {len(texts)} texts.*{re.escape(texts[7])}"):
        suite.evaluate(predict)


def test_tweets_and_labels_must_match() -> None:
    with pytest.raises(ValueError, match="2 tweets and 1 labels"):
        build_suite(["a", "b"], [0])
    with pytest.raises(ValueError, match=r"Labels \[-1, 3\] are unknown.*neutral"):
        build_suite(["a", "b", "c"], [0, 3, -1])
    with pytest.raises(ValueError, match="limit is -1"):
        build_suite(["a"], [0], limit=-1)


SCRIPT = """
import json, socket, sys
asked = []
socket.getaddrinfo = lambda *arguments, **options: asked.append(arguments) or (_ for _ in ()).throw(OSError())
socket.socket.connect = lambda *arguments: asked.append(arguments)
from tasks import behaviour
early = sorted({"checklist", "pattern", "spacy", "scipy", "mlflow", "prefect"} & set(sys.modules))
import numpy
suite = behaviour.build_suite(*json.loads(sys.argv[1]))
suite.evaluate(lambda texts: numpy.eye(3, dtype="float32")[[len(text) % 3 for text in texts]])
import pattern.en
assert pattern.en.tenses("was")
sys.stdout.write(json.dumps([early, asked, suite.texts()]))
"""


def test_fresh_processes_agree_in_silence_and_without_network() -> None:
    # Two hash seeds under which checklist runs through the words of a template in different orders.
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps([TWEETS, TWEET_LABELS, 3])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed},
            text=True,
        )
        for seed in ("1", "2")
    ]
    (first, noise), (second, more_noise) = [process.communicate(timeout=120) for process in running]
    assert (noise, more_noise) == ("", "")
    early, asked, texts = json.loads(first)
    assert (early, asked) == ([], [])
    assert json.loads(second)[2] == texts == build_suite(TWEETS, TWEET_LABELS, 3).texts()
