import numpy as np
import pytest

from tasks.cases import (
    Docs,
    Group,
    Material,
    _language,
    contrasted,
    denied,
    interchanged,
    perturbed,
    templated,
)
from tasks.labelling import NEGATIVE, NEUTRAL, POSITIVE

TEXTS = ["Michael took the bus to Chicago.", "", "She doesn't like 12 of them!!", "so good 🙂", "So it goes"]
MATERIAL = Material(("I can't wait", "ok", "Paris is 20 km away"), (POSITIVE, NEUTRAL, NEUTRAL), 5)


def test_documents_are_what_the_whole_pipeline_makes_of_them() -> None:
    docs = Docs()
    docs.read(TEXTS, ("ner",))
    docs.read(TEXTS[:2], ("tok2vec", "tagger", "attribute_ruler"))
    read = docs.read(TEXTS, ("tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer", "ner"))
    whole = list(_language().pipe(TEXTS))
    for doc, expected in zip(read, whole, strict=True):
        assert doc.text == expected.text
        assert [(t.pos_, t.dep_, t.lemma_) for t in doc] == [(t.pos_, t.dep_, t.lemma_) for t in expected]
        assert [(e.text, e.label_) for e in doc.ents] == [(e.text, e.label_) for e in expected.ents]
    assert [e.text for e in read[0].ents] == ["Michael", "Chicago"]


def test_a_text_is_read_once_and_by_what_is_needed_alone() -> None:
    docs = Docs()
    [first] = docs.read(["Michael is here"], ("ner",))
    assert first.has_annotation("ENT_IOB") and not first.has_annotation("TAG")
    first.ents = ()  # what another run of the component would put back
    again, other = docs.read(["Michael is here", "Susan is here"], ("ner",))
    assert again is first and not first.ents and other.ents
    [tokens] = Docs().read(["Michael is here"], ())
    assert len(tokens) == 3 and not tokens.has_annotation("ENT_IOB")


def test_loading_and_reading_draw_nothing_from_the_global_generators() -> None:
    _language.cache_clear()
    np.random.seed(3)
    Docs().read(TEXTS, ("tok2vec", "tagger", "parser", "ner"))
    drawn = np.random.random()
    np.random.seed(3)
    assert drawn == np.random.random()


def test_a_missing_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.cases.SPACY_MODELS", ("xx_nothing",))
    _language.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="xx_nothing.*install"):
        Docs().read(["a"], ())


def test_sentences_have_the_labels_of_their_group_and_words_of_each_sort() -> None:
    group = Group(
        ("{first_name} is {what}",), {"first_name": 2, "what": ("over there", "at home")}, (NEUTRAL,)
    )
    cases = templated(group, Group(("so {what}",), {"what": "good bad"}, (NEGATIVE, POSITIVE)))(MATERIAL)
    labels = dict(zip((text for [text] in cases.texts), cases.targets or (), strict=True))
    names = "John is over there", "John is at home", "Mary is over there", "Mary is at home"
    assert labels == dict.fromkeys(names, (NEUTRAL,)) | dict.fromkeys(
        ("so good", "so bad"), (NEGATIVE, POSITIVE)
    )
    assert set(cases.expected) == {"neutral", "negative or positive"}
    assert cases.rows == 6 and cases.groups is None


def test_pairs_are_filled_with_the_same_words() -> None:
    pairs = (("It is {x}", "It is {a:very} {x}"),)
    cases = contrasted(-1, Group(pairs, {"x": "b c", "very": "odd d"}, (POSITIVE,)))(MATERIAL)
    assert sorted(cases.texts) == [
        *(["It is b", "It is a d b"], ["It is b", "It is an odd b"]),
        *(["It is c", "It is a d c"], ["It is c", "It is an odd c"]),
    ]
    assert cases.targets == [(POSITIVE, -1)] * 4
    assert cases.expected == ["not more positive"] * 4


def test_each_value_of_a_slot_has_its_text_in_each_case() -> None:
    templates = "Here is {a:who} in {where}", "{who}"
    cases = interchanged("who", ("old cat", "dog"), templates, {"where": "x y"})(MATERIAL)
    assert sorted(cases.texts) == [
        ["Here is an old cat in x", "Here is a dog in x"],
        ["Here is an old cat in y", "Here is a dog in y"],
        ["old cat", "dog"],
    ]
    assert cases.groups == [("old cat", "dog")] * 3


def test_rows_that_cannot_be_changed_do_not_shift_the_labels_of_others() -> None:
    # checklist cannot negate the first.
    groups = (
        Group(("What a nice day", "I like this hotel."), {}, (POSITIVE,)),
        Group(("The hotel was bad.",), {}, (NEGATIVE,)),
    )
    cases = denied(*groups)(MATERIAL)
    assert cases.rows == 3
    assert cases.texts == [
        ["I like this hotel.", "I don't like this hotel."],
        ["The hotel was bad.", "The hotel was not bad."],
    ]
    assert cases.targets == [(POSITIVE, -1), (NEGATIVE, -1)]
    assert cases.expected == ["not more positive", "not more negative"]


def test_sentences_are_perturbed_beside_the_tweets() -> None:
    cases = perturbed("contractions", also=Group(("It is {x}", "{x}"), {"x": "here"}))(MATERIAL)
    assert cases.rows == 5
    assert sorted(cases.texts) == [["I can't wait", "I cannot wait"], ["It is here", "It's here"]]


def test_one_text_stands_once_in_a_case() -> None:
    cases = perturbed(lambda text: [text, "b", "a", "b"])(MATERIAL)
    assert cases.texts == [[tweet, "b", "a"] for tweet in MATERIAL.tweets]


def test_a_perturbation_that_is_broken_is_not_taken_for_one_that_finds_nothing() -> None:
    def broken(text: str) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        perturbed(broken)(MATERIAL)
