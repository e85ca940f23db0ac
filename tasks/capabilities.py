"""Capabilities: the behavioural tests; adding one is one entry here, with words from `tasks.lexicons`.

An expectation is here only if annotators would agree on it. What they may not agree on is left out: what a
negation put into a tweet does to its label, say, cannot be known ("We don't land today, what a lovely day").
"""

import tasks.lexicons as words
from tasks import perturbations
from tasks.cases import Behaviour, Group, appended, contrasted, denied, interchanged, perturbed, templated
from tasks.labelling import NEGATIVE, NEUTRAL, POSITIVE

NOT_NEGATIVE = NEUTRAL, POSITIVE
AS_SAID = (POSITIVE,), (NEGATIVE,)
"""Labels of praise and of criticism."""
DENIED = (NEGATIVE,), NOT_NEGATIVE
"""Labels of praise and of criticism that are denied."""
TAGGER = "tok2vec", "tagger", "attribute_ruler"
"""spaCy's components for parts of speech."""


def opinions(
    templates: words.Templates,
    more: words.Slots | None = None,
    labels: tuple[tuple[int, ...], tuple[int, ...]] = AS_SAID,
    of: tuple[words.Slots, words.Slots] = (words.PRAISE, words.CRITICISM),
) -> tuple[Group, Group]:
    """Return the templates filled with praise and filled with criticism, each with its labels."""
    more = more or {}
    return Group(templates, of[0] | more, labels[0]), Group(templates, of[1] | more, labels[1])


BEHAVIOURS = (
    Behaviour(
        "sentiment_words_mft",
        "vocabulary",
        "MFT",
        "A plain sentence with a word of praise is positive, and with a word of criticism negative.",
        templated(*opinions(words.STATEMENTS)),
    ),
    Behaviour(
        "words_in_context_mft",
        "vocabulary",
        "MFT",
        "A word of praise or criticism decides among circumstances that say nothing.",
        templated(*opinions(words.IN_CONTEXT, {"day": words.DAYS})),
    ),
    Behaviour(
        "single_words_mft",
        "vocabulary",
        "MFT",
        "A word of praise by itself is positive, and a word of criticism negative.",
        templated(*opinions(words.SINGLE, of=(words.PRAISE_WORDS, words.CRITICISM_WORDS))),
    ),
    Behaviour(
        "neutral_words_mft",
        "vocabulary",
        "MFT",
        "A single word for a thing is neutral.",
        templated(Group(words.NEUTRAL_SINGLE, words.NEUTRAL_WORDS, (NEUTRAL,))),
    ),
    Behaviour(
        "neutral_statements_mft",
        "vocabulary",
        "MFT",
        "Where a thing is, or when a door opens, is neutral.",
        templated(Group(words.FACT_STATEMENTS, words.FACTS, (NEUTRAL,))),
    ),
    Behaviour(
        "intensifiers_dir",
        "vocabulary",
        "DIR",
        "Very good is not less positive than good, very bad not less negative than bad.",
        contrasted(+1, *opinions(words.INTENSIFIED, words.INTENSIFIERS)),
    ),
    Behaviour(
        "reducers_dir",
        "vocabulary",
        "DIR",
        "Somewhat good is not more positive than good, somewhat bad not more negative than bad.",
        contrasted(-1, *opinions(words.REDUCED, words.REDUCERS)),
    ),
    Behaviour(
        "praise_dir",
        "vocabulary",
        "DIR",
        "Praise after a tweet that is not negative does not make it less positive.",
        appended(words.PRAISING, POSITIVE, unless=NEGATIVE),
    ),
    Behaviour(
        "complaint_dir",
        "vocabulary",
        "DIR",
        "A complaint after a tweet that is not positive does not make it less negative.",
        appended(words.COMPLAINING, NEGATIVE, unless=POSITIVE),
    ),
    Behaviour(
        "happy_emoji_dir",
        "vocabulary",
        "DIR",
        "A loving face after a tweet that is not negative does not make it less positive.",
        appended(words.HAPPY_EMOJI, POSITIVE, unless=NEGATIVE),
    ),
    Behaviour(
        "angry_emoji_dir",
        "vocabulary",
        "DIR",
        "An angry face after a tweet that is not positive does not make it less negative.",
        appended(words.ANGRY_EMOJI, NEGATIVE, unless=POSITIVE),
    ),
    Behaviour(
        "typos_inv",
        "robustness",
        "INV",
        "Two neighbouring characters swapped leave the label of a tweet as it was.",
        perturbed("add_typos"),
    ),
    Behaviour(
        "two_typos_inv",
        "robustness",
        "INV",
        "Two such swaps leave the label of a tweet as it was.",
        perturbed("add_typos", typos=2),
    ),
    Behaviour(
        "punctuation_inv",
        "robustness",
        "INV",
        "Punctuation taken off the end, or a full stop there, leaves the label; emoticons are left alone.",
        perturbed(perturbations.punctuation, *TAGGER),
    ),
    Behaviour(
        "links_inv",
        "robustness",
        "INV",
        "A URL at the end leaves the label of a tweet as it was.",
        perturbed(perturbations.links),
    ),
    Behaviour(
        "handles_inv",
        "robustness",
        "INV",
        "Somebody's handle in front leaves the label of a tweet as it was.",
        perturbed(perturbations.handles),
    ),
    Behaviour(
        "contractions_inv",
        "robustness",
        "INV",
        "Contractions written out, or put in, leave the label of a tweet as it was.",
        perturbed("contractions", also=words.CONTRACTED),
    ),
    Behaviour(
        "hashtags_inv",
        "robustness",
        "INV",
        "A hashtag of time at the end, or '#' before a word, leaves the label of a tweet as it was.",
        perturbed(perturbations.hashtags),
    ),
    Behaviour(
        "emoji_inv",
        "robustness",
        "INV",
        "The emoji of a thing at the end leaves the label of a tweet as it was.",
        perturbed(perturbations.emoji),
    ),
    Behaviour(
        "casing_inv",
        "robustness",
        "INV",
        "Small letters or capitals leave the label of a tweet: easy for a model that lower-cases its input.",
        perturbed(perturbations.casing),
    ),
    Behaviour(
        "elongation_inv",
        "robustness",
        "INV",
        "A vowel written three times leaves the label of a tweet as it was.",
        perturbed(perturbations.elongation),
    ),
    Behaviour(
        "asides_inv",
        "robustness",
        "INV",
        "A sentence at the end that says nothing of feelings leaves the label of a tweet as it was.",
        perturbed(perturbations.aside),
    ),
    Behaviour(
        "names_inv",
        "named entities",
        "INV",
        "Another first or last name leaves the label of a tweet or sentence as it was.",
        perturbed("change_names", "ner", also=words.NAMED, n=3),
    ),
    Behaviour(
        "locations_inv",
        "named entities",
        "INV",
        "Another city or country leaves the label of a tweet or sentence as it was.",
        perturbed("change_location", "ner", also=words.LOCATED, n=3),
    ),
    Behaviour(
        "numbers_inv",
        "named entities",
        "INV",
        "Whole numbers that differ by a fifth at most leave the label of a tweet or sentence as it was.",
        perturbed("change_number", "", also=words.NUMBERED, n=3),
    ),
    Behaviour(
        "entities_mft",
        "named entities",
        "MFT",
        "Facts with names of people, cities and countries and with numbers are neutral.",
        templated(Group(words.ENTITY_STATEMENTS, words.ENTITIES, (NEUTRAL,))),
    ),
    Behaviour(
        "used_to_but_now_mft",
        "temporal",
        "MFT",
        "Of an opinion that has changed, the one held now counts.",
        templated(*opinions(words.CHANGES, of=words.CHANGED)),
    ),
    Behaviour(
        "now_but_used_to_mft",
        "temporal",
        "MFT",
        "The opinion held now counts also where the earlier one is told after it.",
        templated(*opinions(words.CHANGES_TOLD_BACKWARDS, of=words.CHANGED)),
    ),
    Behaviour(
        "past_dir",
        "temporal",
        "DIR",
        "What was good once is not more positive than what is good, and likewise for bad.",
        contrasted(-1, *opinions(words.PAST)),
    ),
    Behaviour(
        "negation_mft",
        "negation",
        "MFT",
        "Praise that is denied is negative, and criticism that is denied is not.",
        templated(*opinions(words.DENIALS, labels=DENIED)),
    ),
    Behaviour(
        "negated_neutral_mft",
        "negation",
        "MFT",
        "A fact that is denied is neutral.",
        templated(Group(words.DENIED_FACTS, words.FACTS, (NEUTRAL,))),
    ),
    Behaviour(
        "negation_at_the_end_mft",
        "negation",
        "MFT",
        "Praise that is denied at the end of the sentence is negative, and criticism is not.",
        templated(*opinions(words.DENIED_AT_THE_END, labels=DENIED)),
    ),
    Behaviour(
        "distant_negation_mft",
        "negation",
        "MFT",
        "Neutral words between a negation and what it denies change nothing.",
        templated(*opinions(words.DENIED_FROM_AFAR, words.GAPS, labels=DENIED)),
    ),
    Behaviour(
        "added_negation_dir",
        "negation",
        "DIR",
        "A sentence of praise is not more positive for a 'not' in it, nor one of criticism more negative.",
        denied(*opinions(words.DENIABLE)),
    ),
    Behaviour(
        "author_last_mft",
        "semantic roles",
        "MFT",
        "The author's opinion counts, not that of others told before it.",
        templated(*opinions(words.AUTHOR_LAST, words.OTHERS, of=words.AUTHORS)),
    ),
    Behaviour(
        "author_first_mft",
        "semantic roles",
        "MFT",
        "The author's opinion counts, not that of others told after it.",
        templated(*opinions(words.AUTHOR_FIRST, words.OTHERS, of=words.AUTHORS)),
    ),
    Behaviour(
        "answered_yes_mft",
        "semantic roles",
        "MFT",
        "Whether something is good, answered by yes, is positive, and whether it is bad negative.",
        templated(*opinions(words.ANSWERED_YES)),
    ),
    Behaviour(
        "answered_no_mft",
        "semantic roles",
        "MFT",
        "Whether something is good, answered by no, is negative, and whether it is bad is not.",
        templated(*opinions(words.ANSWERED_NO, labels=DENIED)),
    ),
    Behaviour(
        "race_inv",
        "fairness",
        "INV",
        "A sentence has one label, whatever the race of whom it speaks of.",
        interchanged("group", words.RACES, words.ABOUT_PEOPLE, words.ROLES),
    ),
    Behaviour(
        "religion_inv",
        "fairness",
        "INV",
        "A sentence has one label, whatever the religion of whom it speaks of.",
        interchanged("group", words.RELIGIONS, words.ABOUT_PEOPLE, words.ROLES),
    ),
    Behaviour(
        "gender_inv",
        "fairness",
        "INV",
        "A sentence has one label, whatever the gender of whom it speaks of.",
        interchanged("group", words.GENDERS, words.ABOUT_SOMEBODY, words.VEHICLES),
    ),
    Behaviour(
        "sexuality_inv",
        "fairness",
        "INV",
        "A sentence has one label, whatever the sexuality of whom it speaks of.",
        interchanged("group", words.SEXUALITIES, words.ABOUT_PEOPLE, words.ROLES),
    ),
    Behaviour(
        "nationality_inv",
        "fairness",
        "INV",
        "A sentence has one label, whatever the nationality of whom it speaks of.",
        interchanged("nationality", 8, words.ABOUT_NATIONALS, words.ROLES),
    ),
    Behaviour(
        "identity_mft",
        "fairness",
        "MFT",
        "To say what race, religion or sexuality somebody is of is not negative.",
        templated(Group(words.IDENTITIES, words.IDENTIFIED, NOT_NEGATIVE), by="group"),
    ),
)
"""All tests, in the order of the report."""
