"""Vocabulary: the words that fill the drills' templates, other ones than those of the behavioural tests.

No word for an opinion, a thing or a place is one of `tasks.lexicons`. Groups of people are partly the same,
for what a network holds against one cannot be unlearned on another.
"""

Words = dict[str, tuple[str, ...]]


def _each(words: str) -> tuple[str, ...]:
    return tuple(words.split())


PRAISE: Words = {
    "adjective": _each(
        "fun cool stunning gorgeous outstanding exceptional remarkable thrilling exciting inspiring "
        "refreshing stellar clever witty cosy flawless incredible phenomenal satisfying neat heavenly "
        "divine elegant stylish memorable captivating classy sublime exquisite funny tasty relaxing "
        "likeable rewarding uplifting spectacular dazzling fascinating entertaining comfortable fair "
        "fresh generous bright radiant graceful ace epic legendary soothing joyful cheerful happy super "
        "sweet helpful warm friendly smart healthy gripping moving hilarious polished"
    ),
    "verb": _each(
        "adore appreciate admire cherish treasure value welcome applaud praise respect support favour"
    ),
    "noun": ("gem", "masterpiece", "treat", "delight", "joy", "triumph", "pleasure"),
    "reaction": (
        "thank you so much",
        "this made my day",
        "I am thrilled",
        "we are over the moon",
        "so proud",
    ),
}
CRITICISM: Words = {
    "adjective": _each(
        "dull poor ugly stupid lame gross tedious broken tacky bland messy noisy filthy dirty "
        "overpriced silly clumsy shoddy crappy ridiculous frustrating painful exhausting irritating "
        "repulsive vile ghastly dismal unpleasant tiresome dreary flawed weak uncomfortable "
        "embarrassing shameful worthless grim wretched sloppy offensive insulting upsetting disastrous "
        "rotten cruel mean creepy outrageous laughable mediocre inferior unacceptable unfair sad scary "
        "toxic brutal evil cheesy horrific sickening catastrophic troubling hopeless pointless rude "
        "hostile alarming sour stale wrong hurtful"
    ),
    "verb": _each(
        "loathe detest abhor resent deplore condemn curse bemoan mistrust distrust reject dread oppose scorn"
    ),
    "noun": ("mess", "letdown", "nightmare", "disaster", "joke", "failure", "disgrace"),
    "reaction": ("this ruined my day", "I am furious", "we are fed up", "so upset", "I could cry"),
}
THINGS: Words = {
    "thing": _each(
        "movie series laptop restaurant burger cake match team podcast speech video app website school "
        "lecture party museum beach haircut dress car bike sofa garden interview episode trailer update "
        "service lesson novel stadium exhibition playlist outfit room festival weekend"
    )
}
FACTS: Words = {
    "object": _each(
        "spanner printer towel stapler jug cushion helmet broom tray bench crate mug hammer jar suitcase "
        "blanket radiator pan file parasol"
    ),
    "place": _each(
        "library lobby basement corridor bathroom warehouse shed reception canteen studio workshop gym square"
    ),
    "month": _each(
        "January February March April June July August September October November December spring autumn"
    ),
    "hour": ("noon", "midnight", "two", "half past three", "six", "quarter to five", "11", "18:30"),
    "plain": _each("red round second wooden large short early local daily blue tall annual grey thick"),
    "number": ("3", "8", "16", "22", "58", "140", "2,500", "36", "nineteen", "forty"),
    "name": _each(
        "Priya Mateusz Ingrid Yuki Declan Siobhan Marta Nikolai Zoe Owen Amara Lars Chiara Tomas Leila "
        "Bruno Hannah Kofi Noor Pedro Greta Emeka Sven Aisha"
    ),
    "city": _each(
        "Leeds Porto Gdansk Osaka Nairobi Lyon Quito Perth Oslo Bergen Tampa Izmir Riga Malaga Cork"
    ),
    "country": _each(
        "Norway Peru Portugal Ghana Chile Poland Jordan Nepal Finland Cuba Malta Laos Iceland Oman"
    ),
}
NOUNS: Words = {
    "noun": _each(
        "brick chalk wire hinge screw plank fence tile hedge tunnel lorry wagon tyre engine wheel rope "
        "string thread fabric wool cotton brush sink tap pipe valve meter clock calculator monitor "
        "charger battery lens tripod ruler eraser marker notebook memo form receipt index chapter "
        "paragraph verb vowel comma decimal fraction triangle circle angle inch mile gram litre hour "
        "decade century winter noon river valley hill coast harbour village suburb region border "
        "kettledrum saucer doorstep staircase concrete gravel kerb scaffold turbine antenna modem "
        "spreadsheet footnote appendix dictionary alphabet postcode passport zip ankle elbow planet "
        "orbit magnet voltage cylinder funnel faucet wallpaper rug stool bookcase wardrobe scarf glove "
        "license tariff quota ledger syllable axis"
    )
}
OTHERS = (
    *(
        "my parents",
        "the reviewers",
        "my cousins",
        "my flatmates",
        "all my friends",
        "the fans",
        "the papers",
    ),
    *("his classmates", "my aunts", "the guys at work", "other people", "most viewers"),
    *("my relatives", "the judges", "the locals", "her sisters", "the experts", "the journalists"),
    *("many people", "certain people", "the professors", "our guests", "the others", "my grandparents"),
)
GAPS = (
    *("having seen it twice", "to be fair", "looking at the last few months", "as far as I can tell"),
    *("with all that has happened this year", "after living here for a decade", "from where I am sitting"),
    *("now that winter is over", "despite what the poster says", "with three cousins in the trade"),
    *("in spite of the price", "on my way home in July"),
    # Of more words than can be learned by heart.
    *("having waited {number} hours in the {place}", "as {name} told me in {month}", "being from {city}"),
    *("now that we live in {country}", "with {name} in the {place}", "on the way from {city} to {city}"),
    *("looking at the {object} in the {place}", "going by what {name} wrote", "since we left the {place}"),
    *("on the bus to the {place}", "as of {month}", "with {number} miles to go", "at the end of {month}"),
    *("standing here with my {object}", "however often {name} was in {city}", "at {hour} in {city}"),
    *("in all the {number} years of our {place}", "for someone who grew up in {country}", "by and large"),
    *("without {a:object} at hand", "with {name} away in {city}", "among {number} others"),
)
YES = (
    "Yes.",
    "Yes!",
    "Yep.",
    "yes",
    "Yes, indeed.",
    "Absolutely.",
    "Of course.",
    "Sure is.",
    "Yes, totally.",
    *(
        "Yes, it is.",
        "Yes, we do.",
        "Yes it has.",
        "It was, yes.",
        "I do, yes.",
        "Yeah, I have.",
        "Yes, it really was.",
    ),
)
NO = (
    "No.",
    "No!",
    "Nope.",
    "no",
    "No, never.",
    "Not at all.",
    "Absolutely not.",
    "No way.",
    "Not really.",
    *(
        "No, it isn't.",
        "No, we don't.",
        "No it hasn't.",
        "It was not, no.",
        "I do not, no.",
        "No, it really wasn't.",
    ),
)
GROUPS: dict[str, tuple[str, ...]] = {
    "race": _each(
        "Black white Asian Latino Arab Indigenous Hispanic Polynesian African European Inuit Maori"
    ),
    "religion": _each(
        "Christian Muslim Jewish Hindu Buddhist Sikh Catholic atheist Protestant Orthodox Mormon Quaker "
        "agnostic"
    ),
    "sexuality": _each("straight gay lesbian bisexual asexual queer pansexual heterosexual"),
    "nationality": _each(
        "Chinese Indian American Pakistani Nigerian Russian Mexican German Turkish Iranian Dutch Greek "
        "Irish Kenyan Korean Spanish Israeli Italian Polish Swedish Indonesian Brazilian Bangladeshi "
        "Japanese Ethiopian Egyptian Vietnamese French Thai Syrian Ukrainian Danish Moroccan Colombian "
        "Canadian Scottish"
    ),
}
PERSONS = (
    *("man", "woman", "trans man", "trans woman", "non-binary person", "boy", "girl", "lady", "gentleman"),
    *("transgender person", "old man", "young woman"),
)
ROLE: Words = {
    "role": _each(
        "baker dentist lawyer cousin classmate barista tailor farmer boss engineer pilot librarian "
        "carpenter violinist postman grocer butcher chemist referee lodger roommate guard waiter uncle"
    ),
    "person": PERSONS,
    "kindness": _each(
        "polite patient considerate thoughtful courteous gentle attentive gracious warm welcoming sweet "
        "tender caring gallant civil"
    ),
}
