"""Lexicons: the words and sentence templates of the behavioural tests, by capability.

A slot `{a:x}` is `{x}` with the article that it needs. Words are between spaces; see `tasks.cases.Words`.
"""

from tasks.cases import Group, Words

Slots = dict[str, Words]
Templates = tuple[str | tuple[str, ...], ...]

THINGS = "phone film song hotel coffee game show meal flight album camera jacket train concert book"
OBJECTS = "box table map ladder bag key chair lamp folder bucket"
PLACES = "kitchen office garage hall cellar attic"
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"

# Vocabulary

PRAISE: Slots = {
    "thing": THINGS,
    "adjective": "good great nice lovely enjoyable pleasant impressive delightful charming",
    "verb": "like love enjoy recommend",
}
CRITICISM: Slots = {
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
IN_CONTEXT = (
    "We got the {thing} on {day} and it was {adjective}.",
    "{day}: tried the {thing} that my sister told me about, {adjective}!",
    "Back in town since {day}. The {thing} was {adjective}, more on that tomorrow.",
    "So I {verb} the {thing} that they told us of on {day}.",
    "It is {day}, it is five past ten, and I {verb} this {thing}.",
)
SINGLE = "{word}", "{word}!", "{word}.", "so {word}", "#{word}"
PRAISE_WORDS: Slots = {
    "word": (
        "good great nice lovely enjoyable pleasant impressive delightful charming wonderful excellent "
        "amazing fantastic superb marvellous brilliant beautiful perfect awesome splendid fabulous "
        "magnificent adorable terrific"
    )
}
CRITICISM_WORDS: Slots = {
    "word": (
        "bad awful terrible horrible boring annoying disappointing dreadful nasty disgusting horrid "
        "appalling pathetic unbearable horrendous abysmal atrocious rubbish hideous lousy useless "
        "infuriating miserable depressing"
    )
}
NEUTRAL_SINGLE = "{word}", "{word}.", "the {word}", "{a:word}", "this {word}"
NEUTRAL_WORDS: Slots = {
    "word": (
        "table window paper street number letter corner wall door cupboard pencil sheet shelf carpet "
        "bucket ladder envelope keyboard drawer ceiling pavement gate bottle spoon bicycle bridge roof "
        "stair lamp map folder ticket calendar address sentence page year month week minute metre "
        "kilogram province district crossing platform parcel button kettle plate sleeve curtain cable "
        "socket signature invoice agenda timetable"
    )
}
FACTS: Slots = {"object": OBJECTS, "place": PLACES, "day": DAYS, "hour": "seven eight nine ten"}
FACT_STATEMENTS = (
    "The {object} is in the {place}.",
    "There is {a:object} in the {place}.",
    "I put the {object} in the {place} on {day}.",
    "The {place} opens at {hour} on {day}.",
    "On {day} the {object} goes from the {place} to the first floor.",
)
INTENSIFIED = (
    ("The {thing} was {adjective}.", "The {thing} was {degree} {adjective}."),
    ("I find this {thing} {adjective}", "I find this {thing} {degree} {adjective}"),
    ("That is {a:adjective} {thing}.", "That is {a:degree} {adjective} {thing}."),
)
REDUCED = INTENSIFIED[:2]
INTENSIFIERS: Slots = {"degree": "really very extremely incredibly truly"}
REDUCERS: Slots = {"degree": ("somewhat", "slightly", "mildly", "kind of", "sort of")}
PRAISING = "I love it!", "This makes me so happy."
COMPLAINING = "I hate it!", "This makes me so angry."
HAPPY_EMOJI = "😍", "😊", "🥰"
ANGRY_EMOJI = "😡", "🤬", "😠"

# Robustness and named entities: sentences beside the tweets, which seldom have what is changed

CONTRACTED = Group(
    (
        "It is {adjective} that the {thing} is here.",
        "I do not know who has the {thing}.",
        "They're saying it's {a:adjective} {thing}",
    ),
    {"thing": "phone film hotel ticket", "adjective": "good bad"},
)
OPINIONS: Slots = {
    "thing": "hotel film flight meal",
    "adjective": "great terrible small",
    "day": "Monday Sunday",
}
NAMED = Group(
    (
        "{first_name} told me that the {thing} was {adjective}.",
        "Saw {first_name} on {day}, we had {a:adjective} {thing}.",
    ),
    {**OPINIONS, "first_name": 10},
)
LOCATED = Group(
    (
        "We had {a:adjective} {thing} in {where} on {day}.",
        "I was in {where} and the {thing} there was {adjective}.",
    ),
    {**OPINIONS, "where": "Chicago Houston Boston Seattle Denver Germany Japan Brazil Kenya Canada"},
)
NUMBERED = Group(
    (
        "After {count} minutes we had {a:adjective} {thing}.",
        "There were {count} of us on {day}, and the {thing} was {adjective}.",
    ),
    {**OPINIONS, "count": "12 15 30 45 60 90"},
)
ENTITIES: Slots = {"first_name": 20, "city": 20, "country": 20, "number": "12 25 47 103"}
ENTITY_STATEMENTS = (
    "{first_name} lives in {city}.",
    "{first_name} comes from {country}.",
    "{first_name} takes the bus to {city} at ten.",
    "{city} has {number} bus stops.",
    "{first_name} is in room {number}.",
)

LIKING, DISLIKING = "love enjoy like", "hate dislike despise"
GOOD, BAD = "great lovely good delightful", "bad awful boring horrible"

# Temporal: `old` and `before` are what was, `new` and `now` what is

CHANGES = (
    "I used to {before} this {thing}, but now I {now} it.",
    "This {thing} used to be {old}, but now it is {new}.",
    "I used to think that this {thing} was {old}, but now I find it {new}.",
    "A year ago the {thing} was {old}, today it is {new}.",
)
CHANGES_TOLD_BACKWARDS = (
    "I {now} this {thing} now, although I used to {before} it.",
    "This {thing} is {new} now, although it used to be {old}.",
    "Now I find this {thing} {new}, I used to think that it was {old}.",
    "Today the {thing} is {new}, a year ago it was {old}.",
)
CHANGED: tuple[Slots, Slots] = (
    {"thing": THINGS, "before": DISLIKING, "now": LIKING, "old": BAD, "new": GOOD},
    {"thing": THINGS, "before": LIKING, "now": DISLIKING, "old": GOOD, "new": BAD},
)
"""For the better and for the worse."""
PAST = (
    ("I {verb} this {thing}.", "I used to {verb} this {thing}."),
    ("This {thing} is {adjective}.", "This {thing} used to be {adjective}."),
    ("The {thing} is still {adjective}", "The {thing} is no longer {adjective}"),
)

# Negation

DENIALS = (
    "The {thing} was not {adjective}.",
    "This {thing} isn't {adjective} at all!",
    "That was not {a:adjective} {thing}",
    "I do not {verb} this {thing}.",
    "I don't {verb} the new {thing}",
    "Nobody would call this {thing} {adjective}.",
)
DENIED_FACTS = (
    "The {object} is not in the {place}.",
    "There isn't {a:object} in the {place}.",
    "I did not put the {object} in the {place} on {day}.",
    "The {place} does not open at {hour} on {day}.",
    "This is not the {object} from the {place}.",
)
DENIED_AT_THE_END = (
    "I thought that the {thing} would be {adjective}, but it wasn't.",
    "They told me that I would {verb} this {thing}, but I don't.",
    "The {thing} is said to be {adjective}. It is not.",
    "Everyone said that the {thing} was {adjective}, which it was not.",
)
DENIED_FROM_AFAR = (
    "I don't think, {gap}, that this {thing} is {adjective}.",
    "I can't say, {gap}, that I {verb} this {thing}.",
    "It is not true, {gap}, that the {thing} was {adjective}.",
    "Nobody here, {gap}, would say that the {thing} was {adjective}.",
)
GAPS: Slots = {
    "gap": (
        "given the time that I have been here",
        "after two weeks on the road",
        "for what I have seen of it since Monday",
        "if you ask me on a Tuesday",
    )
}
DENIABLE = "I {verb} this {thing}.", "The {thing} was {adjective}.", "This is {a:adjective} {thing}."

# Semantic roles

AUTHOR_LAST = (
    "{others} say that this {thing} is {theirs}, but I think it is {mine}.",
    "According to {others} the {thing} was {theirs}. To me it was {mine}.",
    "{others} {they} this {thing}, but I {me} it.",
)
AUTHOR_FIRST = (
    "I think that this {thing} is {mine}, but {others} say it is {theirs}.",
    "To me the {thing} was {mine}, whatever {others} say of how {theirs} it was.",
    "I {me} this {thing}, although {others} {they} it.",
)
OTHERS: Slots = {"others": ("my colleagues", "the critics", "my neighbours", "some people")}
AUTHORS: tuple[Slots, Slots] = (
    {"thing": THINGS, "mine": GOOD, "theirs": BAD, "me": LIKING, "they": DISLIKING},
    {"thing": THINGS, "mine": BAD, "theirs": GOOD, "me": DISLIKING, "they": LIKING},
)
"""The author praises, or criticises."""
ANSWERED_YES = (
    "Do I {verb} this {thing}? Yes.",
    "Was the {thing} {adjective}? Yes, it was.",
    "Did I think that it was {a:adjective} {thing}? Yes, I did.",
    "Would I say that the {thing} is {adjective}? Yes!",
)
ANSWERED_NO = (
    "Do I {verb} this {thing}? No.",
    "Was the {thing} {adjective}? No, it was not.",
    "Did I think that it was {a:adjective} {thing}? No, I didn't.",
    "Would I say that the {thing} is {adjective}? No!",
)

# Fairness

RACES = "Black white Asian Latino Arab Indigenous"
RELIGIONS = "Christian Muslim Jewish Hindu Buddhist Sikh Catholic atheist"
GENDERS = "man", "woman", "trans man", "trans woman", "non-binary person"
SEXUALITIES = "straight gay lesbian bisexual asexual"
ROLES: Slots = {"role": "neighbour colleague teacher doctor driver student friend nurse cook plumber"}
ABOUT_PEOPLE = (
    "My {group} {role} called this morning.",
    "Our {role} is {group}.",
    "I met {a:group} {role} at the station.",
    "The {group} {role} was so kind to us.",
    "We had dinner with {a:group} {role}, what a lovely evening",
    "We waited ten minutes for the {group} {role}.",
    "I had an argument with my {group} {role} and I am sad about it.",
    "This song is by {a:group} {role}",
)
ABOUT_NATIONALS = tuple(template.replace("group}", "nationality}") for template in ABOUT_PEOPLE)
ABOUT_SOMEBODY = (
    "I sat next to {a:group} on the {vehicle}.",
    "There is {a:group} on the {vehicle}",
    "The {group} on the {vehicle} was so kind to us.",
    "I waited behind {a:group} for the {vehicle}.",
    "A letter from {a:group} about the {vehicle}",
    "I lost my bag on the {vehicle}, {a:group} found it!",
    "I had an argument with {a:group} on the {vehicle} and I am sad about it.",
)
VEHICLES: Slots = {"vehicle": "train bus tram ferry plane boat metro coach"}
IDENTITIES = (
    "I am {group}.",
    "My {role} is {group}.",
    "We are {group}.",
    "As you know, my {role} and I are {group}.",
)
IDENTIFIED: Slots = {"group": f"{RACES} {RELIGIONS} {SEXUALITIES}", **ROLES}
