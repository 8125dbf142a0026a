"""topics: what a text is about, where a program has no business: crisis, grief, abuse, an emergency, addiction, a child, «no bots».

Patterns decide, those of topics/NAME.txt; one a line, `#` begins a comment line, `[…]` a section:

    [always]                            one match decides
    [not in stories]                    no match in a sentence about a book, a film or a game (topics/stories.txt)
    [not in stories, not long ago]      nor in one that tells of what is long over (topics/long_ago.txt)

A pattern is a regular expression over `plain.plain` words, whole ones, within a sentence; a blank in it also matches a comma and a blank.
<kin>, <num> and so on stand for _WORDS. All take time in proportion to the length of the text: no repetition without a bound but within
a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bot.conduct.plain import joined, plain, sentences
from bot.conduct.reasons import Reason

# In the order of asking.
TOPICS = (Reason.CRISIS, Reason.ABUSE, Reason.EMERGENCY, Reason.GRIEF, Reason.ADDICTION, Reason.MINOR, Reason.NO_BOTS)
FOLDER = Path(__file__).with_suffix("")

_KIN = (
    "moms?|mums?|mothers?|mamas?|dads?|fathers?|papas?|parents?|stepdad|stepmom|step\\w+|brothers?|bro|sisters?|sis|siblings?|sons?|daughters?"
    "|wife|husband|spouse|partner|boyfriend|girlfriend|bf|gf|fianc\\w+|bab(?:y|ies)|child(?:ren)?|kids?|toddler|newborn|infant|boys?|girls?"
    "|twins?|grand\\w+|gran|granny|nana?|uncle|aunt(?:ie)?|cousins?|nephew|niece|friends?|best ?friend|bestie|roommate|flatmate|neighbou?r"
    "|coworker|colleague|classmate|teacher|coach|boss|cats?|dogs?|pupp(?:y|ies)|kittens?|pup|horse|hamster|rabbit|bunny|parrot|bird|pets?"
    "|family|godmother|godfather|everyone|soulmate|student|mentor|mil|fil|in ?laws?"
)
_WORDS = {
    "<my>": "(?:my|our|her|his|their)(?: (?!best seller)\\w+){0,2}",
    "<kin>": f"(?:{_KIN})",
    "<lost>": "(?:(?:i|we|he|she|they|and|just|ive|weve|have|had|to|after|about|of|of our|by) )?(?:just |recently |suddenly |have )?(?:lost|losing|lose)",
    "<fresh>": "(?:today|yesterday|tonight|this (?:morning|week|afternoon|evening|month|year|spring|summer|winter|fall|autumn|monday|tuesday"
    "|wednesday|thursday|friday|saturday|sunday|past \\w+)|last (?:night|week|month|year|monday|tuesday|wednesday|thursday|friday|saturday"
    "|sunday|spring|summer|winter|fall|autumn|evening)|(?:an|one|two|three|few|\\d+|\\w+) (?:minutes?|hours?|days?|weeks?|months?) ago"
    "|on (?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)|just now|suddenly|unexpectedly|in (?:my|our|her|his) (?:arms|sleep|lap)"
    "|in the (?:night|hospital|icu|er|crash|fire|accident|ambulance|war|flood)|at \\d+ weeks|before christmas|recently|out of nowhere)",
    "<abuser>": "(?:(?:(?:my|our|his|her|the|their|that|a)(?: \\w+){0,2} )?(?:mom|mum|mother|dad|father|stepdad|stepmom|stepfather|stepmother"
    "|step\\w+|uncle|aunt|brother|sister|cousin|husband|wife|boyfriend|girlfriend|bf|gf|partner|ex|fianc\\w+|coach|teacher|boss|priest|pastor"
    "|parents|roommate|grand\\w+|babysitter|foster \\w+|landlord|neighbou?r|spouse|family|friend|man|guy|men|cop|manager|supervisor|tutor"
    "|doctor|nurse|therapist|caregiver|kids|boys|girls|son|daughter|they|he|she|someone|somebody))",
    "<sensitive>": "(?:tw|cw|nsfl|nsfw death|trigger(?:ing|s)?|trigger(?:ing)? (?:warning|content)s?|content (?:warning|note)|vent(?:ing)?|rant and vent"
    "|(?:needs? |need |seeking |looking for |emotional |peer |mental |asking for )?support(?: needed| wanted| please| only| group)?"
    "|(?:needs? |need |in need of )(?:a |some )?(?:hugs?|comfort|help urgently|urgent help|support|kind words|encouragement|prayers)"
    "|grief|grieving|loss|death|dying|bereavement|suicid\\w+|self ?harm|crisis|emergency|urgent|mental ?health|depression|anxiety|abuse|dv"
    "|sa|trauma|heavy|sad|sensitive|memoriam|in memoriam|memorial|obituary|rip|tribute|medical|medical (?:advice|question|emergency)|legal"
    "|legal (?:advice|help|question)|no advice(?: wanted| please| needed)?|advice urgently needed|addiction|relapse|eating disorders?"
    "|miscarriage|infertility|cancer|illness|hospital|off my chest|confession|distress(?:ing)?|disaster|tragedy|missing person|breaking"
    "|breaking news|no comments|no replies|private|graphic|gore|violence|assault|rape|domestic violence|parental loss|pet loss|psa death)",
    "<num>": "(?:\\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen"
    "|twenty|thirty|forty|fifty|sixty|ninety|hundred|a|a few|several|almost a|nearly a|half a)",
    "<child>": "(?:[5-9]|1[0-7]|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen)",
    "<bot>": "(?:chat ?-?bots?|bots?|robots?|ai|a\\.i|ais|llms?|gpts?|chat ?-?gpt|machines?|clankers?|language models?|auto ?-?repl(?:y|ies)"
    "|automat(?:ed|ion)|programs?|scripts?|algorithms?|computers?|synthetics?)",
    "<botcall>": "(?:chat ?-?bots?|bots?|robots?|robo\\w*|ai|llms?|gpt|chat ?-?gpt|machines?|clankers?|language models?|programs?|scripts?"
    "|algorithms?|toaster|computer|software|spam ?bots?|automaton|android|code|scraper|neural net\\w*)",
}  # fmt: skip


def read_patterns(name: str) -> dict[str, list[str]]:
    """The patterns of topics/NAME.txt by section; those before the first section have the empty name."""
    section = ""
    found: dict[str, list[str]] = {section: []}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[([a-z ,]+)\]", line):
            section = heading[1]
            found[section] = []
        elif line.strip() and not line.startswith("#"):
            found[section].append(line)
    return found


def compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    """One pattern that matches what any of them does, whole words only."""
    joined = "|".join(patterns)
    for name, words in _WORDS.items():
        joined = joined.replace(name, words)
    joined = re.sub(r"\[[^\]]*\]|\(\?<[^)]*\)| ", lambda part: "(?:[,:]? )" if part[0] == " " else part[0], joined)
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)")


@cache
def _topic(name: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    sections = read_patterns(name)
    always = [*sections.get("", ()), *sections.get("always", ())]
    others = (sections.get(each, ()) for each in ("not in stories", "not in stories, not long ago"))
    first, *rest = (compiled(patterns or ["(?!)"]) for patterns in (always, *others))
    return first, rest[0], rest[1]


@cache
def _words(name: str) -> re.Pattern[str]:
    return compiled(read_patterns(name)[""])


def topic_of(body: str) -> Reason | None:
    """What a text is about, if it is one of TOPICS; the first in their order.

    >>> topic_of("I like it. I want to kill myself"), topic_of("That film killed me"), topic_of("I'm 11 and new here")
    (<Reason.CRISIS: 'crisis'>, None, <Reason.MINOR: 'minor'>)
    """
    pieces = pieces_of(body)
    return next((topic for topic in TOPICS if any(matches(topic, piece) for piece in pieces)), None)


def is_about(topic: Reason, body: str) -> bool:
    """Whether a text is about one topic."""
    return any(matches(topic, piece) for piece in pieces_of(body))


def pieces_of(body: str) -> list[str]:
    """The sentences of a text, as `plain` words, and short ones joined as well: «I'm done. With everything.»"""
    parts = sentences(plain(body))
    return list(dict.fromkeys([*parts, *joined(parts)]))


def matches(topic: Reason, piece: str) -> bool:
    """Whether one of a topic's patterns fits a piece of text."""
    always, not_in_stories, not_long_ago = _topic(topic)
    if always.search(piece):
        return True
    if not (not_in_stories.search(piece) or not_long_ago.search(piece)) or _words("stories").search(piece):
        return False
    return bool(not_in_stories.search(piece) or not _words("long_ago").search(piece))
