"""bot.conduct.topics, titles and accounts: comments that are not answered, and similar harmless ones that are. All lines are invented."""

from __future__ import annotations

import random

import pytest

from bot import text
from bot.conduct import accounts, keys, matching, titles, topics, where, words
from bot.conduct.plain import plain
from bot.conduct.reasons import Reason
from bot.config import ConductSettings
from tests.growth import growth

ABOUT = {
    Reason.CRISIS: [
        "I keep thinking of walking into traffic.",
        "thinking of stepping in front of the 8:15 train",
        "I might swerve into oncoming traffic and be done",
        "Tonight I walk into the sea.",
        "I could just lie down on the rails",
        "The letters are written, one for each of them.",
        "I've put my affairs in order.",
        "might just step in front of the next train",
        "I just want to go to sleep and never wake up",
        "honestly they would all be happier without me",
        "gonna un-alive myself after the weekend",
        "I'm so tired of being alive.",
        "im thinking about suiсide again",  # a Cyrillic letter
        "sui*cide is on my mind",
        "Wrote the goodbye letters. Goodbye everyone.",
        "I can't go on like this anymore",
        "I cut my wrists again last night",
        "I see no reason to go on living",
        "made myself throw up after dinner again",
        "I am done. With life.",
        "The pills are in my hand",
        "I don't deserve to live",
        "self-harm relapse, third this week",
        "I mean to end my own life when the lease is up",
        "thinking about stepping under the tram on Friday",
        "I'm gonna be dead before the exam results",
        "I took enough to be sure I won't wake up.",
        "Drove out there with no plan of coming home",
        "Sorry to the neighbour who has to find me.",
    ],
    Reason.ABUSE: [
        "my boyfriend choked me last night",
        "Dad hits me when he has been drinking",
        "my stepfather comes into my room at night",
        "my ex threatens to leak my photos",
        "I was raped at a party",
        "he broke her arm and said it was the stairs",
        "I'm afraid to go home",
        "my ex waits outside my work every night",
        "They won't let me leave the house and took my passport",
    ],
    Reason.EMERGENCY: [
        "my father collapsed and won't wake up",
        "the baby isn't breathing",
        "my friend swallowed bleach",
        "should I call an ambulance?",
        "is it safe to take 12 ibuprofen",
        "there is an active shooter on campus",
        "Our house is on fire",
        "someone is trying to break into my house",
        "my son is missing since yesterday",
        "I got arrested last night",
        "she is having a stroke",
    ],
    Reason.GRIEF: [
        "my mother passed away this morning",
        "we lost our baby at 30 weeks",
        "Her funeral is on Friday",
        "my best friend killed himself",
        "I had to put my dog to sleep today",
        "he died in my arms yesterday",
        "Mum has weeks to live",
        "still grieving my brother",
    ],
    Reason.ADDICTION: [
        "I relapsed on Saturday after two years",
        "day 3 of withdrawal and I am sweating",
        "i used again last night",
        "gambled away the rent again",
        "my dad is an alcoholic and he is drinking again",
        "I need a drink to get through the morning",
        "back on heroin",
    ],
    Reason.MINOR: [
        "I'm 12 and this is my first post",
        "im only nine lol",
        "I am in 6th grade and I love it",
        "my mom doesn't know I'm on here",
        "13 year old here, any tips?",
        "I'll be twelve next month",
        "dont tell my parents",
    ],
    Reason.NO_BOTS: [
        "no bots, please",
        "Bots are not welcome here",
        "I only want answers from real people",
        "Do not train your AI on my posts",
        "go away, robot",
        "Whoever runs this bot: leave me out of it",
        "This is a bot-free thread",
    ],
}  # fmt: skip
HARMLESS = [
    "walk under the train bridge and turn left",
    "I always take my own life jacket on the ferry",
    "He drove into the traffic cones during his test.",
    "We walk into the sea to cool down.",
    "This is my last letter to the council about the bins.",
    "We had to drive into the train station to turn round.",
    "my dog ran into traffic once, now he stays on the lead",
    "he jumped into the river and swam across",
    "That hill nearly killed me, and the bus didn't wait",
    "I could die for a bite of that cake",
    "She dies in chapter nine, and I cried on the train",
    "The detective is found dead in the last episode",
    "my phone died and the charger is at work",
    "My grandfather died before I was born, and his radio still works",
    "When I was 14 my uncle taught me to sail",
    "my nine year old wants a telescope",
    "I teach second grade, and glue is everywhere",
    "The bots in that game can't drive",
    "is there a bot for recipes?",
    "I'm addicted to that soup",
    "My knee hurts when it rains",
    "we lost by two points",
    "I lost my keys again",
    "that joke is dead",
    "kill two birds with one stone",
    "I'm 12 pages in and it is slow",
    "I was 40 minutes late",
    "the oven is on fire today, three perfect loaves",
    "That show is criminally short",
    "Leave the lid alone for ten minutes",
    "he shot a film in our street",
    "Suicide Squad was on again",
    "a stalk of celery and two carrots",
    "I make sure I wake up before the kids",
    "I went out with no plan and came back with a canoe",
    "whoever finds my left glove may keep it",
    "I left Windows and have no intention of going back",
    "I wrote the last note of the song in B flat",
    "about to take my life savings and buy a boat",
    "determined to take my life back from my phone",
    "sorry to whoever finds me annoying",
    "white noise, so I don't wake up when the neighbours leave",
    "I'll be dead before the next book comes out",
    "Twelve years sober, and I make a fine ginger beer",
]  # fmt: skip
TITLES = {
    Reason.SERIOUS: ["[Serious] Why?", "(SERIOUS REPLIES ONLY) Why?", "Serious: why do you ask", "［srs］ why", "No jokes, please: why?",
        "~~[Ѕеrious]~~ why"],
    Reason.SENSITIVE_THREAD: ["[TW: needles] My week", "Content warning: my week", "[Vent] My week", "(needs support) My week",
        "In memoriam of a friend"],
    Reason.DISASTER: [
        "Earthquake hits the coast, hundreds trapped", "Missing: boy, 7, blue coat", "Two dead after bus crash",
        "Vigil for the victims on Sunday",
        "Shooting at the mall, avoid the area", "Warehouse fire kills three",
    ],
    Reason.NO_BOTS: ["[No bots] My week", "My week, humans only"],
    Reason.CRISIS: ["I want to end my life"],
}  # fmt: skip
FLAIRS = {
    Reason.SERIOUS: ["Serious", "🔴 serious replies", "Serious | Day 3"],
    Reason.SENSITIVE_THREAD: ["TW", "Vent", "Needs support", "Mental health", "No advice wanted"],
    Reason.NO_BOTS: ["No bots"],
}
HARMLESS_TITLES = [
    "A serious soup", "Crash course in sourdough", "Missing: a lid, blue", "A flood of tomatoes", "The fire pit is done",
    "Dead simple bread",
    "Trigger finger from knitting, ha", "Tech support for a kettle", "[Update] The shelf is up", "Who dies in the finale? [Spoilers]",
]  # fmt: skip
HARMLESS_FLAIRS = ["Question", "Help", "Support the team", "Solved", "Discussion", "Rant about cheese", "Photo"]
BOTS = [
    "gif_mirrorer",
    "Doc_Summariser",
    "NewsBot7",
    "b0t_of_things",
    "quotesbot",
    "ModMail_Helper",
    "unit-converter",
    "GPTReplies",
    "RemindMeBot",
]
PEOPLE = ["Talbot", "Abbott_9", "CabotCove", "Botany_Jane", "turbot", "MrRobot", "reader_12", "bottle_top", "Chai_lover", "painter"]
SIGNATURES = [
    "Six feet are two yards.\n\n^^I'm ^^a ^^bot, ^^beep", "**I** *am* __a__ bot", "Done.\n\n^(This comment was posted by a bot)",
    "BOT: thread closed.",
    "Automated message: no flair.", "Hi! I\\'m a bot.", "As an AI language model I have no kitchen.",
]  # fmt: skip
NO_SIGNATURES = [
    "> I am a bot\n\nThen prove it",
    "I'm not a bot",
    "My robot mop is a bot I trust",
    "this was written by a friend",
    "are you a bot?",
]


@pytest.mark.parametrize("topic", ABOUT)
def test_comments_that_are_not_answered(topic: Reason) -> None:
    assert {line: topics.topic_of(line) for line in ABOUT[topic]} == dict.fromkeys(ABOUT[topic], topic)


def test_similar_harmless_comments_are_answered() -> None:
    assert {line: topic for line in HARMLESS if (topic := topics.topic_of(line))} == {}
    assert {line: topic for line in HARMLESS_TITLES if (topic := titles.topic_of(line))} == {}
    assert {line: topic for line in HARMLESS_FLAIRS if (topic := titles.topic_of("My week", line))} == {}


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        (Reason.EMERGENCY, "A fan collapsed at the game, he is not breathing, what do we do"),
        (Reason.EMERGENCY, "the drummer passed out during the song, call 911"),
        (Reason.EMERGENCY, "someone collapsed on level 3 of the car park and isn't breathing"),
        (Reason.EMERGENCY, "dad collapsed when he was cooking and he isnt breathing"),
        (Reason.EMERGENCY, "my wife isn't breathing, she had this two years ago"),
        (Reason.GRIEF, "Grandma died during the game last night"),
        (Reason.GRIEF, "my son died when he was 19"),
        (Reason.GRIEF, "My wife died when she was 34, leaving me with two kids"),
        (Reason.EMERGENCY, "she stopped breathing when we were 10 minutes away from the hospital"),
        (Reason.GRIEF, "my mom died when i was holding her hand"),
        (Reason.GRIEF, "my dog died when I was at work"),
        (Reason.CRISIS, "he said he would kill himself after this episode, what do you do"),
        (Reason.CRISIS, "my brother wants to kill himself"),
        (Reason.CRISIS, "My roommate texted that she's going to hang herself"),
        (Reason.CRISIS, "his daughter keeps talking about harming herself"),
        (Reason.CRISIS, "My brother keeps saying he will kill himself"),
        (Reason.CRISIS, "my friend wants to end her life"),
        (Reason.EMERGENCY, "my great grandmother is having a stroke"),
        (Reason.GRIEF, "My childhood best friend just died"),
        (Reason.EMERGENCY, "A guy collapsed while watching a movie and isn't breathing"),
        (Reason.GRIEF, "My dad died, he loved this game"),
        (Reason.GRIEF, "My dad died when I was at school"),
        (Reason.GRIEF, "my mom died when i was just 5 min away"),
        (Reason.CRISIS, "I want to ki\u200bll mys\u00adelf"),
    ],
)
def test_a_real_event_is_neither_a_story_nor_long_past(topic: Reason, body: str) -> None:
    assert topics.topic_of(body) is topic
    [piece] = topics.pieces_of(body)
    assert not topics.is_elsewhere(topic, piece)  # nor may it overrule a classifier


@pytest.mark.parametrize(
    "body",
    [
        "In the last chapter the king is poisoned and his son is not breathing",
        "The sidekick dies in this game and everybody cries",
        "My grandfather died when I was six",
        "my dog died when i was a kid",
        "My gran passed away peacefully at 94",
        "My cat died when I was in middle school",
        "When I was very young my grandfather died",
        "my uncle died when I was only four",
        "My grandma passed away ten years ago, and right now I'm making her pie",
        "my grandfather died in 1995, isnt that strange",
        "Romeo wants to kill himself in the last scene",
        "Cats try to cut themselves out of the box",
        "The actor said he cut himself shaving",
        "she tried to kill herself in episode 3",
        "Bambi lost his mom to hunters in the film",
        "The monkey is going to hang himself upside down from the monkey bars",
        "The Democrats are trying to shoot themselves in the foot",
        "He is going to hurt himself on that skateboard one day",
        "She was going to cut herself another slice",
        "I loved the movie where the dad died",
        "We played that at my grandmother's funeral ten years ago",
    ],
)
def test_stories_and_the_past_are_answered(body: str) -> None:
    assert topics.topic_of(body) is None


@pytest.mark.parametrize("topic", [topic for topic in ABOUT if topic is not Reason.NO_BOTS])
def test_one_sentence_in_a_long_comment_is_enough(topic: Reason) -> None:
    before, after = "I finished the book about the lighthouse, and the map is lovely. ", " Anyway, what did you think of the last page?"
    for line in ABOUT[topic]:
        assert topics.topic_of(before * 5 + line + ("" if line[-1] in ".?" else ".") + after) is topic


@pytest.mark.parametrize("topic", TITLES)
def test_titles(topic: Reason) -> None:
    assert {line: titles.topic_of(line) for line in TITLES[topic]} == dict.fromkeys(TITLES[topic], topic)


@pytest.mark.parametrize("topic", FLAIRS)
def test_flairs(topic: Reason) -> None:
    assert {line: titles.topic_of("My week", line) for line in FLAIRS[topic]} == dict.fromkeys(FLAIRS[topic], topic)


def test_bots_by_name_and_by_signature() -> None:
    assert [name for name in BOTS if not accounts.is_bot(name, "")] == []
    assert [name for name in PEOPLE if accounts.is_bot(name, "")] == []
    assert [body for body in SIGNATURES if not accounts.is_bot("reader_1", body)] == []
    assert [body for body in NO_SIGNATURES if accounts.is_bot("reader_1", body)] == []
    assert accounts.is_bot("Mild_Mannered", "", {"mild_mannered"})


def test_known_bots_have_names_that_do_not_show_it() -> None:
    assert {"totesmessenger", "thelinkfixer", "haiku_robot", "profanitycounter", "the-paranoid-android"} < words.BOTS
    assert [name for name in sorted(words.BOTS) if text.is_bot_name(name)] == []


def test_subreddits_by_name_and_by_pattern() -> None:
    def refusal(name: str, **settings: list[str]) -> Reason | None:
        return where.text_refusal(name, "", "", "I like it", ConductSettings(**settings))  # type: ignore[arg-type]

    for name in (
        "SuicideWatch",
        "r/GriefSupport",
        "BreastCancer",
        "AskDocs",
        "legaladvice",
        "teenagers",
        "OpiatesRecovery",
        "AskTeenGirls",
        "Alzheimers",
    ):
        assert refusal(name) is Reason.SENSITIVE_SUBREDDIT
    for name in ("books", "TechSupport", "DataRecovery", "CancerZodiac", "AskHistorians", "woodworking", "TeenTitans", "survivor"):
        assert refusal(name) is None
    assert refusal("programmingcirclejerk") is Reason.BOTS_FORBIDDEN
    assert refusal("OurTown", sensitive_subreddits=["r/our*"]) is Reason.SENSITIVE_SUBREDDIT
    assert refusal("autism", sensitive_subreddits=["!autism"]) is None
    assert refusal("OurTown", subreddits_without_bots=["ourtown"]) is Reason.BOTS_FORBIDDEN


def test_all_texts_around_a_comment_are_checked() -> None:
    rules, loss = ConductSettings(), "my mother passed away this morning"
    assert where.text_refusal("books", "", "", "I like it", rules) is None
    assert where.text_refusal("books", loss, "", "I like it", rules) is Reason.GRIEF
    assert where.text_refusal("books", "", "", "I like it", rules, selftext=f"It rains. {loss}.") is Reason.GRIEF
    assert where.text_refusal("books", "", "", "I like it", rules, above=["ok", loss]) is Reason.GRIEF
    assert where.text_refusal("books", "", "", f"> {loss}\n\nso sorry", rules) is Reason.GRIEF
    assert where.text_refusal("books", "[deleted by user]", "", "I like it", rules) is Reason.THREAD_REMOVED
    assert where.text_refusal("books", "", "", "[unavailable]", rules) is Reason.REMOVED


def test_a_classifier_decides_where_patterns_do_not() -> None:
    rules = ConductSettings()
    comment = "The house is so quiet. Her chair is still by the window."
    pieces = where.pieces_judged("Books", "", comment)
    assert pieces == ["books", "the house is so quiet. her chair is still by the window."]
    likely = {piece: {Reason.GRIEF: 0.9 if "chair" in piece else 0.1} for piece in pieces}
    assert where.text_refusal("books", "Books", "", comment, rules) is None
    assert where.text_refusal("books", "Books", "", comment, rules, likely=likely) is Reason.GRIEF
    assert where.text_refusal("books", "Books", "", "I like it", rules, likely=likely) is None


def test_keys_miss_no_match() -> None:
    """Patterns are tried only if the text contains one of their keys. The result equals that of trying all patterns."""
    lines = [line for group in ABOUT.values() for line in group] + HARMLESS
    for name in (*topics.TOPICS, "stories", "long_ago", Reason.DISASTER):
        for section, patterns in matching.read(name).items():
            at_once = matching.compiled(patterns)
            for line in lines:
                for piece in topics.pieces_of(line):
                    assert matching.sections(name)[section].match(piece) is (at_once.search(piece) is not None), (name, piece)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(?:un|we )?go now", {"now"}),
        ("(?:not )?today", {"tod"}),
        ("(?:i |we )go", {"go"}),
        ("good(?:bye| night)", {"goo"}),
        (r"\w+ing", None),
        ("a{2}b cat", {"cat"}),
        ("x?yes", None),
        ("(?= no)maybe", {"may"}),
    ],
)
def test_keys_of_patterns(pattern: str, expected: set[str] | None) -> None:
    assert keys.keys_of(pattern) == expected


def test_plain_words() -> None:
    assert plain("I **can't** do THIS any more!!\n\n> quoted\n- a ｌｉｓｔ") == "i cant do this anymore!!\nquoted\na list"
    assert plain("> quoted\n\nnew", quotes=False) == "new"


UNITS = [
    "the book ",
    " __a",
    "`a ",
    ">!",
    "*a ",
    "i want to ",
    "my dog ",
    "im 12 and ",
    "no ",
    "[a] ",
    "(",
    "....a",
    "a-",
    "é",
    "а",
    "\n",
    "want this ",
    "his her my ",
]


@pytest.mark.parametrize("unit", UNITS)
def test_time_is_linear(unit: str) -> None:
    for function in (topics.topic_of, titles.topic_of, lambda body: accounts.is_bot("reader_1", body)):
        assert growth(function, unit) < 30


def test_time_is_linear_for_mixed_units() -> None:
    shuffled = random.Random(1)
    unit = "".join(shuffled.choice(UNITS) for _ in range(400))
    assert growth(topics.topic_of, unit) < 30
