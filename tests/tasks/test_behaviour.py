import json
import os
import pickle
import random
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.behaviour import BehaviourResult, Predict, PredictionError, Suite, build_suite
from tasks.capabilities import BEHAVIOURS
from tasks.cases import perturbed
from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE
from tasks.lexicons import CRITICISM, CRITICISM_WORDS, PRAISE, PRAISE_WORDS

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


ON_TWEETS = (
    *("praise_dir", "complaint_dir", "happy_emoji_dir", "angry_emoji_dir", "typos_inv", "two_typos_inv"),
    *("punctuation_inv", "links_inv", "handles_inv", "hashtags_inv", "emoji_inv", "casing_inv"),
    *("elongation_inv", "asides_inv"),
)
"""Tests whose rows are held-out tweets alone."""


def one_hot(labels: Sequence[int]) -> Scores:
    scores: Scores = np.eye(len(LABELS), dtype=np.float32)[np.array(labels, dtype=int)]
    return scores


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


SENTIMENT = {
    word: sign
    for sign, lexicons in ((+1, (PRAISE, PRAISE_WORDS)), (-1, (CRITICISM, CRITICISM_WORDS)))
    for lexicon in lexicons
    for slot in ("adjective", "verb", "word")
    for word in str(lexicon.get(slot, "")).split()
}


def signs(text: str) -> list[int]:
    """Praise is 1 and criticism -1, word by word."""
    return [SENTIMENT[word] for word in words(text) if word in SENTIMENT]


def sentiment(text: str) -> int:
    """Praise minus criticism, whatever stands before it."""
    return sum(signs(text))


def from_signs(found: Sequence[int]) -> Scores:
    return one_hot([(NEUTRAL, POSITIVE, NEGATIVE)[np.sign(sign)] for sign in found])


def bag_of_words(texts: Sequence[str]) -> Scores:
    return from_signs([sentiment(text) for text in texts])


def first_word(texts: Sequence[str]) -> Scores:
    return from_signs([[*signs(text), 0][0] for text in texts])


def last_word(texts: Sequence[str]) -> Scores:
    return from_signs([[0, *signs(text)][-1] for text in texts])


def negation_oracle(texts: Sequence[str]) -> Scores:
    def denied(text: str) -> bool:
        return any(word in ("not", "no", "nobody") or word.endswith("n't") for word in words(text))

    return from_signs([-sentiment(text) if denied(text) else sentiment(text) for text in texts])


def hashed(texts: Sequence[str]) -> Scores:
    """Any change to a text changes the answer to it."""
    return one_hot([zlib.crc32(text.encode()) % 3 for text in texts])


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
    return build_suite(TWEETS, TWEET_LABELS, seed=3, sentences=60)


def test_every_test_finds_something_to_change_in_ordinary_tweets(suite: Suite) -> None:
    # A misspelt option of a perturbation would look like a row that cannot be changed.
    assert all(len(cases.texts) >= 3 for _, cases in suite.parts)


def test_30_tests_and_10_000_cases_from_templates_alone() -> None:
    suite = build_suite([], [])
    assert len(suite.parts) >= 30
    assert sum(len(cases.texts) for _, cases in suite.parts) >= 10_000


@pytest.mark.parametrize(
    ("predict", "passed"),
    [
        (
            bag_of_words,
            "sentiment_words_mft words_in_context_mft single_words_mft neutral_words_mft "
            "neutral_statements_mft entities_mft negated_neutral_mft answered_yes_mft identity_mft "
            "intensifiers_dir reducers_dir past_dir praise_dir complaint_dir happy_emoji_dir "
            "angry_emoji_dir links_inv handles_inv emoji_inv casing_inv asides_inv names_inv "
            "locations_inv numbers_inv race_inv religion_inv gender_inv sexuality_inv nationality_inv",
        ),
        (
            negation_oracle,
            "negation_mft negation_at_the_end_mft distant_negation_mft answered_no_mft added_negation_dir",
        ),
        (last_word, "used_to_but_now_mft author_last_mft"),
        (first_word, "now_but_used_to_mft author_first_mft"),
    ],
)
def test_a_model_that_is_right_by_construction_passes(suite: Suite, predict: Predict, passed: str) -> None:
    results = by_name(evaluate(suite, predict))
    for name in passed.split():
        assert (results[name].failed, results[name].failure_rate, results[name].examples) == (0, 0.0, ()), (
            name
        )
        interval = results[name].interval
        assert interval is not None and interval.low == 0 < interval.high


@pytest.mark.parametrize(
    ("predict", "failed"),
    [
        (bag_of_words, "negation_mft negation_at_the_end_mft distant_negation_mft answered_no_mft"),
        (last_word, "now_but_used_to_mft author_first_mft"),
        (first_word, "used_to_but_now_mft author_last_mft"),
    ],
)
def test_a_model_that_does_not_know_a_rule_fails_all_cases_of_it(
    suite: Suite, predict: Predict, failed: str
) -> None:
    results = by_name(evaluate(suite, predict))
    for name in failed.split():
        assert results[name].failure_rate == 1, name


def test_any_change_can_fail_any_test(suite: Suite) -> None:
    for result in evaluate(suite, hashed):
        assert result.failed > 0, result.name


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
    assert [cases.targets[i] for i in np.flatnonzero(first)] == [(NEUTRAL, POSITIVE)] * 60  # type: ignore[index]


def test_bag_of_words_fails_negation_and_the_examples_show_it(suite: Suite) -> None:
    results = by_name(evaluate(suite, bag_of_words))
    assert results["sentiment_words_mft"].failed == 0
    negation = results["negation_mft"]
    assert negation.failed == negation.perturbed == 120
    assert len(negation.examples) == 5
    for example in negation.examples:
        [text], [predicted] = example.texts, example.predicted
        assert re.search("not|n't|Nobody", text)
        assert predicted == ("positive" if sentiment(text) > 0 else "negative")
        assert example.expected == ("negative" if sentiment(text) > 0 else "neutral or positive")


@pytest.mark.parametrize("label", [NEUTRAL, NEGATIVE, POSITIVE])
def test_constant_predictor_passes_inv_and_dir_and_fails_mft(suite: Suite, label: int) -> None:
    outcomes = suite.evaluate(lambda texts: one_hot([label] * len(texts)))
    for (behaviour, cases), (result, failed) in zip(suite.parts, outcomes, strict=True):
        if behaviour.kind != "MFT":
            assert result.failed == 0, behaviour.name
        else:
            assert cases.targets is not None
            assert failed.tolist() == [label not in allowed for allowed in cases.targets]


def test_no_constant_passes_a_test_of_known_labels_but_those_of_one_label(suite: Suite) -> None:
    for behaviour, cases in suite.parts:
        if behaviour.kind == "MFT":
            assert cases.targets is not None
            common = set.intersection(*map(set, cases.targets))
            assert len(set(cases.targets)) == 1 or not common, behaviour.name


def test_predictor_that_breaks_on_any_change_fails_inv(suite: Suite) -> None:
    results = by_name(evaluate(suite, lambda texts: originals_only(one_hot([NEGATIVE])[0], texts)))
    typos, contractions = results["typos_inv"], results["contractions_inv"]
    assert typos.failed == typos.perturbed > 0
    own = [case for case in texts_by_name(suite)["contractions_inv"] if case[0] in TWEETS]
    assert contractions.failed == len(own) > 0
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
    n, rate, z = 120, 60 / 120, 1.959964
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    assert words.interval is not None
    assert words.failure_rate == rate
    assert (words.interval.low, words.interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_each_distinct_text_is_predicted_once() -> None:
    calls: list[list[str]] = []

    def predict(texts: Sequence[str]) -> Scores:
        calls.append(list(texts))
        return bag_of_words(texts)

    suite = build_suite(TWEETS * 2, TWEET_LABELS * 2, sentences=20)
    suite.evaluate(predict)
    [texts] = calls
    assert len(set(texts)) == len(texts)
    assert set(texts) == {text for _, cases in suite.parts for case in cases.texts for text in case}


def test_two_models_on_one_suite_do_not_disturb_each_other(suite: Suite) -> None:
    before = evaluate(suite, bag_of_words)
    assert evaluate(suite, negation_oracle) != before
    assert evaluate(suite, bag_of_words) == before
    assert evaluate(build_suite(TWEETS, TWEET_LABELS, seed=3, sentences=60), bag_of_words) == before


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
    first = texts_by_name(build_suite(TWEETS, TWEET_LABELS, seed=5, sentences=20))
    assert texts_by_name(build_suite(TWEETS, TWEET_LABELS, seed=5, sentences=20)) == first


def test_other_seed_other_cases(suite: Suite) -> None:
    other = texts_by_name(build_suite(TWEETS, TWEET_LABELS, seed=4, sentences=60))
    same = {name for name, texts in texts_by_name(suite).items() if texts == other[name]}
    # Nothing is drawn for these.
    appended = {"praise_dir", "complaint_dir", "happy_emoji_dir", "angry_emoji_dir"}
    assert same == appended | {"punctuation_inv", "casing_inv"}


def test_one_more_test_leaves_the_cases_of_the_others(suite: Suite) -> None:
    more = BEHAVIOURS[0]._replace(name="three_typos_inv", kind="INV", build=perturbed("add_typos", typos=3))
    behaviours = (more, *BEHAVIOURS[::-1])
    longer = texts_by_name(build_suite(TWEETS, TWEET_LABELS, 3, sentences=60, behaviours=behaviours))
    assert len(longer.pop("three_typos_inv")) == len(TWEETS)
    assert longer == texts_by_name(suite)


def test_the_global_generator_is_left_as_it_was() -> None:
    def fail(_: object) -> None:
        np.random.random()
        raise ZeroDivisionError

    np.random.seed(7)
    state = pickle.dumps(np.random.get_state())
    build_suite(TWEETS, TWEET_LABELS, limit=3, sentences=20).evaluate(bag_of_words)
    with pytest.raises(ZeroDivisionError):
        build_suite(TWEETS, TWEET_LABELS, behaviours=(BEHAVIOURS[0]._replace(build=fail),))  # type: ignore[arg-type]
    assert pickle.dumps(np.random.get_state()) == state


def test_limit_offers_the_same_few_tweets_to_each_test() -> None:
    tweets = [f"Tweet number {i}, it's here" for i in range(40)]
    on_tweets = [behaviour for behaviour in BEHAVIOURS if behaviour.name in ON_TWEETS]
    few = build_suite(tweets, [NEUTRAL] * 40, limit=10, behaviours=on_tweets)
    offered = [{case[0] for case in cases.texts} for _, cases in few.parts]
    assert [cases.rows for _, cases in few.parts] == [10] * len(ON_TWEETS)
    assert len(offered[0]) == 10
    assert all(texts <= offered[0] for texts in offered)
    assert offered[0] != set(tweets[:10])
    everything = build_suite(tweets, [NEUTRAL] * 40, limit=None, behaviours=on_tweets)
    assert [cases.rows for _, cases in everything.parts] == [40] * len(ON_TWEETS)


def test_tweets_that_cannot_be_changed_are_counted() -> None:
    tweets = ["", "a", "🙂", "🙂🙂", "oo", " ", "can't", "It Iſ not is not so"]
    alone = perturbed("contractions")
    behaviours = [
        behaviour._replace(build=alone) if behaviour.name == "contractions_inv" else behaviour
        for behaviour in BEHAVIOURS
        if behaviour.name in ("contractions_inv", "typos_inv", "links_inv", "elongation_inv", "praise_dir")
    ]
    suite = build_suite(tweets, [NEUTRAL] * len(tweets), behaviours=behaviours)
    results = by_name(evaluate(suite, bag_of_words))
    typos, contractions = results["typos_inv"], results["contractions_inv"]
    assert (typos.rows, typos.perturbed, typos.unperturbed, typos.cases) == (8, 2, 6, 4)
    # checklist takes the long s for an s, and then does not know the word.
    assert (contractions.rows, contractions.perturbed, contractions.unperturbed) == (8, 1, 7)
    assert (results["elongation_inv"].perturbed, results["elongation_inv"].unperturbed) == (2, 6)
    # Nothing can be put after what is not there.
    assert [(results[name].rows, results[name].perturbed) for name in ("links_inv", "praise_dir")] == [
        (8, 6)
    ] * 2


def test_no_tweet_breaks_any_test() -> None:
    tweets = [
        "🙂🙂🎉",
        "",
        "  ",
        "\n\t",
        "a",
        "\u200d",
        "@x",
        "https://t.co/a",
        "é" * 50,
        "so good " * 1250,
        "x" * 10_000,
    ]
    suite = build_suite(tweets, [NEUTRAL] * len(tweets), limit=None, sentences=20)
    for (_, cases), result in zip(suite.parts, evaluate(suite, hashed), strict=True):
        assert result.rows == result.perturbed + result.unperturbed >= 20 or result.name in ON_TWEETS
        assert all(case[0].strip() and case[0] not in case[1:] for case in cases.texts)
    longest = max(suite.texts(), key=len)
    assert len(longest) > 10_000


def test_no_tweets_leave_the_templates() -> None:
    results = evaluate(build_suite([], [], sentences=20), bag_of_words)
    for result in results:
        if result.name not in ON_TWEETS:
            assert result.perturbed >= 10, result.name
        else:
            assert result.rows == result.perturbed == result.unperturbed == result.cases == result.failed == 0
            assert (result.failure_rate, result.interval, result.examples) == (None, None, ())


def test_no_cases_at_all_ask_the_model_nothing() -> None:
    def predict(texts: Sequence[str]) -> Scores:
        raise AssertionError("asked")

    [result] = evaluate(
        build_suite(["x"], [NEUTRAL], behaviours=[b for b in BEHAVIOURS if b.name == "typos_inv"]), predict
    )
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
    on_tweets = [behaviour for behaviour in BEHAVIOURS if behaviour.name in ON_TWEETS]
    suite = build_suite(texts, labels, seed, limit, behaviours=on_tweets)
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


def test_failures_are_counted_by_group_of_people(suite: Suite) -> None:
    def prejudiced(texts: Sequence[str]) -> Scores:
        return one_hot([NEGATIVE if "Muslim" in text else NEUTRAL for text in texts])

    results = by_name(evaluate(suite, prejudiced))
    religion = results["religion_inv"]
    assert religion.failed == religion.perturbed == religion.groups.pop("Muslim") == 60
    assert len(religion.groups) == 7 and set(religion.groups.values()) == {0}
    identity = results["identity_mft"]
    assert identity.failed == identity.groups["Muslim"] == sum(identity.groups.values()) > 0
    assert results["race_inv"].failed == 0 and results["negation_mft"].groups == {}


def test_examples_are_spread_over_the_failures(suite: Suite) -> None:
    [result] = [r for r in evaluate(suite, hashed) if r.name == "sentiment_words_mft"]
    assert {example.expected for example in result.examples} == {"positive", "negative"}


SCRIPT = """
import json, socket, sys
asked = []
socket.getaddrinfo = lambda *arguments, **options: asked.append(arguments) or (_ for _ in ()).throw(OSError())
socket.socket.connect = lambda *arguments: asked.append(arguments)
from tasks import behaviour, cases
early = sorted({"checklist", "pattern", "spacy", "scipy", "mlflow", "prefect"} & set(sys.modules))
import numpy
arguments, step = json.loads(sys.argv[1])
known = [test for test in behaviour.BEHAVIOURS if test.kind == "MFT"]
behaviour.build_suite(*arguments, sentences=2, behaviours=known)
early += ["parser"] * cases._language.cache_info().currsize
suite = behaviour.build_suite(*arguments, sentences=30, behaviours=behaviour.BEHAVIOURS[::step])
suite.evaluate(lambda texts: numpy.eye(3, dtype="float32")[[len(text) % 3 for text in texts]])
import pattern.en
assert pattern.en.tenses("was")
made = {test.name: [made.texts, made.rows, made.expected, made.groups] for test, made in suite.parts}
sys.stdout.write(json.dumps([early, asked, made]))
"""


def test_fresh_processes_agree_in_silence_and_without_network() -> None:
    # Two hash seeds under which checklist runs through the words of a template in different orders; and two
    # orders of the tests, so that another one is the first that parses.
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps([[TWEETS, TWEET_LABELS, 3], step])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed},
            text=True,
        )
        for seed, step in (("1", 1), ("2", -1))
    ]
    (first, noise), (second, more_noise) = [process.communicate(timeout=120) for process in running]
    assert (noise, more_noise) == ("", "")
    early, asked, made = json.loads(first)
    assert (early, asked) == ([], [])
    assert json.loads(second)[2] == made
    here = texts_by_name(build_suite(TWEETS, TWEET_LABELS, 3, sentences=30))
    assert {name: texts for name, (texts, *_) in made.items()} == here
