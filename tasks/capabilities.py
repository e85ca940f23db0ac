"""Capabilities: the behavioural tests, with their words and templates; adding a test is one entry here."""

from tasks.cases import Behaviour, Group, appended, perturbed, templated
from tasks.labelling import NEGATIVE, NEUTRAL, POSITIVE

THINGS = "phone film song hotel coffee game show meal flight album camera jacket train concert book"
PRAISE = {
    "thing": THINGS,
    "adjective": "good great nice lovely enjoyable pleasant impressive delightful charming",
    "verb": "like love enjoy recommend",
}
CRITICISM = {
    "thing": THINGS,
    "adjective": "bad awful terrible horrible boring annoying disappointing dreadful nasty",
    "verb": "hate dislike regret despise",
}
STATEMENTS = (
    "The {thing} was {adjective}.",
    "This {thing} is so {adjective}!",
    "What {a:adjective} {thing}",
    "I {verb} this {thing}.",
    "I really {verb} the new {thing}",
)
DENIALS = (
    "The {thing} was not {adjective}.",
    "This {thing} isn't {adjective} at all!",
    "That was not {a:adjective} {thing}",
    "I do not {verb} this {thing}.",
    "I don't {verb} the new {thing}",
    "Nobody would call this {thing} {adjective}.",
)

BEHAVIOURS = (
    # Templates only. What a negation put into a tweet (`Perturb.add_negation`) does to its label cannot be
    # known: "We don't land at noon, what a lovely day" is as positive as before.
    Behaviour(
        "negation_mft",
        "negation",
        "MFT",
        "Praise that is denied is negative, and criticism that is denied is not.",
        templated(Group(DENIALS, PRAISE, (NEGATIVE,)), Group(DENIALS, CRITICISM, (NEUTRAL, POSITIVE))),
    ),
    Behaviour(
        "sentiment_words_mft",
        "vocabulary",
        "MFT",
        "A plain sentence with a word of praise is positive, and with a word of criticism negative.",
        templated(Group(STATEMENTS, PRAISE, (POSITIVE,)), Group(STATEMENTS, CRITICISM, (NEGATIVE,))),
    ),
    Behaviour(
        "praise_dir",
        "vocabulary",
        "DIR",
        "Praise after a tweet that is not negative does not make it less positive.",
        appended(("I love it!", "This makes me so happy."), POSITIVE, unless=NEGATIVE),
    ),
    Behaviour(
        "complaint_dir",
        "vocabulary",
        "DIR",
        "A complaint after a tweet that is not positive does not make it less negative.",
        appended(("I hate it!", "This makes me so angry."), NEGATIVE, unless=POSITIVE),
    ),
    Behaviour(
        "typos_inv",
        "robustness",
        "INV",
        "Two neighbouring characters swapped leave the label of a tweet as it was.",
        perturbed("add_typos"),
    ),
    Behaviour(
        "contractions_inv",
        "robustness",
        "INV",
        "Contractions written out, or put in, leave the label of a tweet as it was.",
        perturbed("contractions"),
    ),
)
"""All tests, in the order of the report."""
