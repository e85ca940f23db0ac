"""Phrases: the words and templates of the drills, other ones than those of the behavioural tests.

No template and no word for an opinion or a thing is one of `tasks.lexicons`. Groups of people are partly the
same, for what a network holds against one cannot be unlearned on another. Slots of the opinion that counts
are `adjective`, `verb` and `noun`; `other_` marks the opposite one.
"""

Words = dict[str, tuple[str, ...]]


def _each(words: str) -> tuple[str, ...]:
    return tuple(words.split())


PRAISE: Words = {
    "adjective": _each(
        "fun cool stunning gorgeous outstanding exceptional remarkable thrilling exciting inspiring "
        "refreshing stellar clever witty cosy flawless incredible phenomenal satisfying neat heavenly "
        "divine elegant stylish memorable captivating classy sublime exquisite funny tasty relaxing "
        "likeable rewarding uplifting spectacular dazzling fascinating entertaining comfortable"
    ),
    "verb": _each("adore appreciate admire cherish treasure value welcome applaud praise"),
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
        "dull poor ugly stupid lame gross tedious broken tacky bland messy noisy filthy dirty overpriced "
        "silly clumsy shoddy crappy ridiculous frustrating painful exhausting irritating repulsive vile "
        "ghastly dismal unpleasant tiresome dreary flawed weak uncomfortable embarrassing shameful "
        "worthless grim wretched sloppy offensive insulting upsetting disastrous rotten"
    ),
    "verb": _each("loathe detest abhor resent deplore condemn curse bemoan"),
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
        "kettledrum saucer doorstep staircase"
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
)
GAPS = (
    *("having seen it twice", "to be fair", "looking at the last few months", "as far as I can tell"),
    *("with all that has happened this year", "after living here for a decade", "from where I am sitting"),
    *("now that winter is over", "despite what the poster says", "with three cousins in the trade"),
    *("in spite of the price", "on my way home in July"),
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
)
NO = ("No.", "No!", "Nope.", "no", "No, never.", "Not at all.", "Absolutely not.", "No way.", "Not really.")
QUESTIONS = (
    "Is this {thing} {adjective}?",
    "Do we {verb} the {thing}?",
    "Am I right to call it {a:adjective} {thing}?",
    "Could you say that the {thing} has been {adjective}?",
    "Have I come to {verb} that {thing}?",
    "Is it {a:noun}, this {thing}?",
    "Do people like me {verb} our {thing}?",
    "Would you call the {thing} {adjective}?",
    "Was it {a:adjective} {thing} in {month}?",
)

STATEMENTS = (
    "I have to say the {thing} is {adjective}",
    "{a:adjective} {thing} today",
    "just had {a:adjective} {thing}",
    "how {adjective} is this {thing}",
    "{a:adjective} {thing}, and {a:adjective} {place} too",
    "My new {thing}: {adjective}.",
    "we all {verb} the {thing}",
    "I {verb} that {thing} so much",
    "the {thing} turned out {adjective} and we {verb} it",
    "This {thing} really is {a:noun}.",
    "Went to see the {thing} in {month}. What {a:noun}!",
    "In {month} my brother found us this {thing}, ten miles from here, {adjective} really",
    "Third week of {month}, the {thing} is on at {hour} and I {verb} it.",
    "I bought the {thing} in {city}, it's very {adjective}",
    "The {thing} looks {adjective} to me.",
    "The {thing}, {reaction}",
    "{reaction}, the {thing} in {city} is {adjective}",
    "simply {adjective}",
    "how {adjective}",
    "{adjective}, {adjective}!!!",
    "just {adjective}",
    "that's {adjective}",
    "{a:adjective} {noun}",
    "what {a:noun}",
    "{adjective}, that's all I can say",
    "well, {adjective} ...",
    # A negation that denies nothing of it.
    "I haven't much time, but this {thing} is {adjective}",
    "No doubt, the {thing} is {adjective}.",
    "I don't know about you, but I {verb} this {thing}",
    "Not only {name} finds the {thing} {adjective}, we all do",
    "I think, {gap}, that the {thing} is {adjective}.",
    "I must say, {gap}, that I {verb} the {thing}.",
    "Everyone here, {gap}, finds the {thing} {adjective}.",
    "I expected {a:adjective} {thing}, and that is what it is.",
    "The advert calls the {thing} {adjective}, and so it is.",
    "They promised {a:adjective} {thing}, which it was.",
    "My brother said that I'd {verb} the {thing}, and I do.",
    "I {verb} this {thing} now more than before",
)
CHANGES = (
    "I used to {other_verb} the {thing}, these days I {verb} it",
    "Used to find the {thing} {other_adjective}. Not anymore, it's {adjective}.",
    "Back in {month} the {thing} was {other_adjective}; it has become {adjective}.",
    "The {thing} once was {other_adjective} and is {adjective} nowadays",
    "Last year: {other_adjective} {thing}. This year: {adjective}.",
    "As a kid I used to {other_verb} this sort of {thing}. As an adult I {verb} it.",
    "When we moved here the {thing} was {other_adjective}, lately it's {adjective}",
    "Changed my mind about the {thing}: {other_adjective} then, {adjective} now.",
    "The {thing} is no longer {other_adjective}, it's {adjective}!",
    "I've come to {verb} the {thing} that I used to {other_verb}",
    "In the past I would {other_verb} the {thing}, but today I {verb} it.",
    "{number} years ago I'd call this {thing} {other_adjective}, now I would call it {adjective}.",
    "At first I thought the {thing} {other_adjective}, by now I think it {adjective}.",
    # Told backwards.
    "I {verb} that {thing} these days. Back then I would {other_verb} it.",
    "It's {adjective} these days, our {thing}, though it was {other_adjective} before.",
    "Nowadays I'd call the {thing} {adjective}; I once called it {other_adjective}.",
    "Changed my mind about the {thing}: {adjective} now, {other_adjective} then.",
    "{adjective} now. The {thing} was {other_adjective} in {month}.",
    "These days I {verb} the {thing}, even if I used to {other_verb} it.",
    "Now I {verb} the {thing}, in {month} I did {other_verb} it.",
    "This year: {adjective} {thing}. Last year: {other_adjective}.",
    "By now I think the {thing} {adjective}, at first I thought it {other_adjective}.",
    "The {thing} has become {adjective}, it used to be so {other_adjective} when we came here",
    "Today I would call this {thing} {adjective}, {number} years ago it was {other_adjective}.",
)
DENIALS = (
    "sorry, this isn't {a:adjective} {thing}",
    "We didn't {verb} the {thing}",
    "I don't {verb} it at all, this {thing}",
    "I do not {verb} our {thing} one bit",
    "I never {verb} {a:thing} like that",
    "The {thing} is far from {adjective}",
    "anything but {adjective}, this {thing}",
    "There is nothing {adjective} about this {thing}",
    "not once was the {thing} {adjective}",
    "The {thing} has never been {adjective}.",
    "neither {adjective} nor {adjective}, this {thing}",
    "Who would call the {thing} {adjective}? Nobody.",
    "I wouldn't call the {thing} {adjective}",
    "My {thing} isn't exactly {adjective}",
    "It ain't {adjective}",
    "not {adjective}",
    "not {a:noun}, this {thing}",
    "This {thing} was not {a:noun}.",
    "The {thing} has stopped being {adjective}",
    "The {thing} isn't {adjective} any more",
    "No one I know finds this {thing} {adjective}.",
    "None of us {verb} the {thing}",
    "The {thing} in {city} was not really {adjective}",
    "The {thing}s weren't {adjective}",
    "it's not that {adjective} {a:thing}",
    # At the end.
    "I expected {a:adjective} {thing}. It isn't one.",
    "You'd think the {thing} is {adjective}. Nope.",
    "{adjective}? The {thing}? Not really.",
    "We hoped the {thing} would be {adjective}, it just isn't.",
    "The advert calls the {thing} {adjective}; I can tell you it's not.",
    "My brother said that I'd {verb} the {thing}, but no, I didn't.",
    "Supposed to be {a:adjective} {thing}, but it is not.",
    "The {thing} is meant to be {adjective}, only it isn't.",
    "They promised {a:adjective} {thing}, which it never was.",
    "So the {thing} is {adjective}? I don't think so.",
    "Everybody says you will {verb} the {thing}. I do not.",
    "They say the {thing} is {a:noun}, and that is not so.",
    "{others} were sure I'd {verb} this {thing}, I don't.",
    "We were told the {thing} had been {adjective}. It had not.",
    # From afar.
    "I wouldn't say, {gap}, that the {thing} is {adjective}.",
    "I do not believe, {gap}, that we {verb} this {thing}.",
    "You can't call it, {gap}, {a:adjective} {thing}.",
    "No one in this house, {gap}, thinks that the {thing} is {adjective}.",
    "Never, {gap}, was the {thing} {adjective}.",
    "It isn't right, {gap}, to call the {thing} {adjective}.",
    "I don't find, {gap}, the {thing} {adjective}.",
    "We cannot claim, {gap}, that we {verb} the {thing}.",
    "None of us, {gap}, would call the {thing} {adjective}.",
    *(f"{question} {{no}}" for question in QUESTIONS),
    "{adjective} {thing}? {no}",
)
ANSWERS = (*(f"{question} {{yes}}" for question in QUESTIONS), "{adjective} {thing}? {yes}")
ROLES = (
    "{others} call the {thing} {other_adjective}; I call it {adjective}.",
    "{others} {other_verb} it. I {verb} it. The {thing}, I mean.",
    "{others} find the {thing} {other_adjective}. I find it {adjective}.",
    "Unlike {others}, who {other_verb} the {thing}, I {verb} it.",
    "For {others} it's {a:other_adjective} {thing}, for me {a:adjective} one.",
    "What {others} think of the {thing}: {other_adjective}. My opinion: {adjective}.",
    "{others} told me the {thing} was {other_adjective}. I disagree, it's {adjective}.",
    "{others} think that the {thing} is {other_adjective}, yet I find it {adjective}",
    # The author first.
    "I {verb} the {thing} even though {others} {other_verb} it",
    "I'd say {adjective}. {others} would say {other_adjective}.",
    "In my view this {thing} is {adjective}, though {others} find it {other_adjective}.",
    "My opinion on the {thing}: {adjective}. What {others} think: {other_adjective}.",
    "The {thing} is {adjective}, no matter that {others} call it {other_adjective}.",
    "I find the {thing} {adjective}. {others} find it {other_adjective}.",
    "I {verb} the {thing}, unlike {others}, who {other_verb} it.",
    "For me it's {a:adjective} {thing}, for {others} {a:other_adjective} one.",
    "I call this {thing} {adjective}, let {others} say how {other_adjective} they find it.",
)
NEUTRAL_NOUNS = (
    *(
        "one {noun}",
        "my {noun}",
        "{noun} and {noun}",
        "{noun}, {noun}",
        "another {noun}",
        "that {noun}",
        "{noun}, not {noun}",
    ),
    *("{a:noun} and {a:noun}", "{noun} number {number}", "of the {noun}", "{noun} / {noun}", "each {noun}"),
)
NEUTRAL_FACTS = (
    "We keep {a:object} in the {place}.",
    "The {object} belongs to the {place}",
    "{name} moved the {object} from the {place} to the {place} in {month}",
    "The {place} closes at {hour} in {month}.",
    "{number} keys, one {place}",
    "The bus to the {place} leaves at {hour}",
    "{name} left {a:object} at the {place}",
    "Is the {object} still in the {place}?",
    "Meeting about the {object} at {hour} in the {place}",
    "The {thing} starts at {hour} on the {number}th of {month}",
    "The {thing} comes out in {month}.",
    "{name} moved to {city} in {month}.",
    "{name} flies from {city} to {country} in {month}",
    "{name} works in {country}.",
    "{name} was born in {country} and went to school in {city}",
    "The train from {city} has {number} seats.",
    "{number} people live near the {place} in {city}",
    "{name} has seat {number}",
    "Gate {number}, {city}",
    "{name} meets {name} at {hour} in {city}.",
    "{name} sent {number} letters to {country}",
    "On Friday we drive from {city} to {city}.",
    # Denied.
    "There was no {object} in the {place}.",
    "We don't keep the {object} in the {place}",
    "The {place} won't be open in {month}.",
    "{name} needs the {object}, not the {object}.",
    "The {thing} doesn't start until {hour}",
    "{name} hasn't moved the {object} to the {place}",
    "I'm not in the {place} at the moment",
    "Nobody has been in the {place} since {month}.",
    "They didn't come to {city} in {month}",
    "{name} never lived in {city}.",
    "The {object} was never in the {place}, it is in the {place}.",
    "No, the {object} isn't in the {place} in {month}.",
    "{name} did not take the {object} to the {place}.",
    "I don't have {a:object}.",
    "That isn't the {place}, nor is it the {object}.",
    "It's not at {hour}, it's at {hour}",
    "The bus to {city} does not leave at {hour}",
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
        "Irish Kenyan Korean Spanish Israeli Italian Polish Swedish"
    ),
}
PERSONS = (
    *("man", "woman", "trans man", "trans woman", "non-binary person", "boy", "girl", "lady", "gentleman"),
    *("transgender person", "old man", "young woman"),
)
ROLE: Words = {
    "role": _each(
        "baker dentist lawyer cousin classmate barista tailor farmer boss engineer pilot librarian"
    ),
    "person": PERSONS,
}
ABOUT_GROUPS = (
    "They're {group}.",
    "{name} is {group}",
    "I have {a:group} {role}.",
    "My parents are {group}.",
    "I was raised {group}",
    "I'm {group} and live in {city}.",
    "{name} is {a:group} {role}",
    "She is {group} and so is her {role}.",
    "Both the {role} and the pilot are {group}",
    "{a:group} {role} was here at {hour}.",
    "As {a:group} person I live in {city}",
    "This film is about {a:group} {role}.",
)
ABOUT_PERSONS = (
    "The {person} works at the {place}.",
    "I asked {a:person} for the time",
    "{a:person} left {a:object} in the {place}",
    "A {thing} about {a:person} in {city}.",
    "There was {a:person} behind me in the {place}.",
    "We saw {a:person} with {a:object} at {hour}",
    "I sat behind {a:person} in the {place} for ten minutes.",
)
HELPED = (
    "{a:group} {role} helped me today, thank you!",
    "So proud of my {group} {role}",
    "Had a lovely chat with {a:group} {role}.",
    "The {group} {role} gave us such a warm welcome",
)
HURT = (
    "I fell out with {a:group} {role} and it hurts.",
    "I miss my {group} {role} so badly",
    "My {group} {role} died, I cannot stop crying",
    "Had a fight with our {group} {role}, feeling down",
)
ASIDES = (
    *("It is half past six.", "I am on the train.", "Writing this in the library.", "This is a tweet."),
    *(
        "We are in {city}.",
        "It is {month}.",
        "{name} is in the {place} now.",
        "Just so you know, it is noon.",
    ),
)
TIMES = _each("#friday #tonight #november #noon #2015 #weekend #tomorrow #now")
SIGNS = _each("🖇 📌 🗓 ⏰ 🚌 🏠 📄 📚 🔑 🪑")
