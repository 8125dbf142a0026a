"""Functions and patterns for text of other people, and for replies, take linear time, whatever the text repeats."""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import ModuleType

import pytest

import bot.conduct
import bot.online
from bot import markdown, names, text
from bot.conduct import echo, hosts, instructions, language, letters, matching, personal, quotes, rendered, slurs, topics
from bot.corpus import copies, rules
from bot.rankers import classifier
from bot.reddit import outcomes
from tests.growth import LEAST_SECONDS, LINEAR, SHORT, growth

SELECTION = 2_000  # length in characters at which the slowest units are selected
SLOWEST = 6  # number of units that are measured at 10,000 characters
FUNCTIONS: dict[str, Callable[[str], object]] = {
    "hidden characters": letters.has_hidden_characters,
    "visible": letters.visible,
    "latin": letters.latin,
    "as plain markdown": rendered.as_plain_markdown,
    "becomes": rendered.becomes,
    "host": hosts.has_address,
    "e-mail": personal.has_e_mail,
    "phone number": personal.has_phone_number,
    "address": personal.has_address,
    "bank account": personal.has_bank_account,
    "card number": personal.has_card_number,
    "document number": personal.has_document_number,
    "wallet": personal.has_wallet,
    "handle": personal.has_handle,
    "slurs": slurs.bad_words,
    **{f"phrases of {category}": partial(matching.matches, category) for category in matching.CATEGORIES},
    "quotes": lambda text: quotes.invents_quote(text, []),
    "echo": lambda text: echo.echoes(echo.compact(text), [text]),
    "language": lambda text: language.is_other(text, "en"),
    "unreadable": language.is_unreadable,
    "plain": copies.plain,
    "instructions leaked": instructions.leaks,
    "discloses a bot": text.discloses,
    "deleted by the author": text.is_deleted_by_author,
    "name of a bot": text.is_bot_name,
    "reply in generated text": text.parse_reply,
    "escape": lambda body: text.unescape(text.escape(body)),
    "pieces of a reply": classifier.pieces_of_reply,
    "windows of a comment": topics.windows_of,
    "permalink": names.permalink_ids,
}
# Units with which patterns start or continue, and random punctuation.
UNITS = [
    " ", "\n", "a", "1", "é", "\u0301", "a.", "a-", "a@", "1 ", "1-",
    "[", "![", "[a](", "[a][", "`a ", "*a ", "__a", "~~a ", ">!", "<a ", "&#", "\\",
    "|a\n", "://", "u/", " __a", "at ", "dot ", "i am ", "you are ", "take ", "said \"", "“a", "kik ", "one ", "s ",
    "AaB1", "0x", "a'b", "f*", "🇦 ", "ﬁ",
]  # fmt: skip
MARKS = "ab1 .-_@/:!?#*~^\"'()[]<>|&\\,=+$é\n"
random.seed(11)
UNITS += ["".join(random.choices(MARKS, k=random.randint(2, 8))) for _ in range(6)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_time_is_linear(name: str) -> None:
    """Measured for the slowest unit at 10,000 characters, out of the slowest units at 2,000."""
    function = FUNCTIONS[name]
    function("Warm up: one two 555 http://a.b @a “x” fuc k, déjà vu.")

    def seconds(unit: str, length: int) -> float:
        text = (unit * length)[:length]
        began = time.process_time()
        function(text)
        return time.process_time() - began

    slow = sorted(UNITS, key=partial(seconds, length=SELECTION))[-SLOWEST:]
    slowest = max(slow, key=partial(seconds, length=SHORT))
    assert growth(function, slowest) < LINEAR, slowest


# --- every pattern ------------------------------------------------------------------------------------------------------------------------


def modules() -> Iterator[ModuleType]:
    """Modules with patterns for text from Reddit and for replies."""
    yield from (text, markdown, names, copies, rules, classifier, outcomes)
    for package in (bot.conduct, bot.online):
        yield from (importlib.import_module(f"{package.__name__}.{each.name}") for each in pkgutil.iter_modules(package.__path__))


def patterns() -> dict[str, re.Pattern[str]]:
    """All compiled patterns of these modules, the patterns that are stored as text, and each line of the phrases and topics."""

    def inside(value: object) -> Iterable[object]:
        return inside_all(value.values() if isinstance(value, dict) else value) if isinstance(value, (dict, list, tuple)) else [value]

    def inside_all(values: Iterable[object]) -> Iterator[object]:
        for value in values:
            yield from inside(value)

    found = {
        f"{module.__name__}.{name} {number}".removesuffix(" 0"): each
        for module in modules()
        for name, value in vars(module).items()
        for number, each in enumerate(each for each in inside(value) if isinstance(each, re.Pattern))
    }
    found |= {name: re.compile(getattr(text, name)) for name in ("DELETED_BODY", "NOT_A_BOT", "BOT_NAME", "BOT_SAYS_SO", "_BY_MODERATORS")}
    for category in matching.CATEGORIES:
        lines = matching.parse((matching.PHRASES / f"{category}.txt").read_text(encoding="utf-8"))[1][""]
        found |= {f"{category} {number}": re.compile(line, re.IGNORECASE) for number, line in enumerate(lines, start=1)}
    for path in sorted(matching.TOPICS.glob("*.txt")):
        for section, lines in matching.read(path.stem).items():
            named = {f"{path.stem} {section} {number}": line for number, line in enumerate(lines, start=1)}
            found |= {name: matching.compiled([line]) for name, line in named.items() if ENDLESS.search(line)}
    return found


ENDLESS = re.compile(r"[+*]|,\}")  # in a pattern that may repeat something without a limit
AT_START = frozenset(  # used with `match` or `fullmatch`
    {f"bot.markdown.{name}" for name in ("_FENCE", "_FENCE_END", "_LIST_ITEM", "_NO_PARAGRAPH", "_QUOTED", "_QUOTE_MARKS")}
    | {"bot.conduct.rendered._SAFE", "bot.online.init.USER_AGENT"}
    | {f"{name} clause {number}" for name in ("stop", "delete") for number in range(1, 100)}
)
BOUNDED = {
    "bot.text._OVERWRITTEN": "at most 500 characters, without runs of white space",
    "bot.conduct.keys._TOKEN": "our own patterns",
    "bot.conduct.matching._BLANK": "our own patterns",
    "bot.conduct.letters._NAMED_LETTER": "names of characters",
}


def examples(parsed: Iterable[tuple[object, object]], before: str = "") -> Iterator[tuple[str, str]]:
    """For each unlimited repetition in a parsed pattern: a text that its beginning matches, and one that the repeated part matches."""
    for operation, value in parsed:
        kind = str(operation)
        if kind.endswith("REPEAT"):
            least, most, repeated = value  # type: ignore[misc]
            one = example(repeated)
            if str(most) == "MAXREPEAT":
                yield before, one or "a"
            yield from examples(repeated, before)
            before += one * max(least, 1)
        elif kind == "BRANCH":
            for branch in value[1]:  # type: ignore[index]
                yield from examples(branch, before)
            before += example([(operation, value)])
        elif kind in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
            yield from examples(value if kind == "ATOMIC_GROUP" else value[-1], before)  # type: ignore[index]
            before += example([(operation, value)])
        else:
            before += example([(operation, value)])


def example(parsed: Iterable[tuple[object, object]]) -> str:
    """A text that a parsed pattern matches, apart from what it looks ahead to."""
    return "".join(part_of(str(operation), value) for operation, value in parsed)


def part_of(kind: str, value: object) -> str:
    if kind == "LITERAL":
        return chr(value)  # type: ignore[arg-type]
    if kind in ("IN", "NOT_LITERAL", "ANY"):
        return next((each for each in "a1 -.!_\n" if is_in(each, kind, value)), "")
    if kind == "BRANCH":
        return example(value[1][0])  # type: ignore[index]
    if kind.endswith("REPEAT"):
        return example(value[2]) * max(value[0], 1)  # type: ignore[index]
    if kind in ("SUBPATTERN", "ATOMIC_GROUP"):
        return example(value if kind == "ATOMIC_GROUP" else value[-1])  # type: ignore[arg-type,index]
    return ""


def is_in(character: str, kind: str, value: object) -> bool:
    """Whether a set of characters contains one."""
    if kind != "IN":
        return kind == "ANY" or ord(character) != value
    tests = {"CATEGORY_SPACE": str.isspace, "CATEGORY_DIGIT": str.isdigit, "CATEGORY_WORD": lambda each: each.isalnum() or each == "_"}
    found = negated = False
    for operation, each in value:  # type: ignore[attr-defined]
        if str(operation) == "NEGATE":
            negated = True
        elif str(operation) == "LITERAL":
            found |= ord(character) == each
        elif str(operation) == "RANGE":
            found |= each[0] <= ord(character) <= each[1]
        else:
            name = str(each)
            found |= tests[name.replace("_NOT", "")](character) is not ("_NOT" in name)
    return found is not negated


def seconds_of(pattern: re.Pattern[str], at_start: bool, body: str) -> float:
    began = time.process_time()
    if at_start:
        pattern.match(body)
    else:
        for _ in pattern.finditer(body):
            pass
    return time.process_time() - began


LENGTH, SUSPECT_SECONDS = 6_000, 0.01  # a quadratic pattern needs longer for a text of this length; then its growth is measured


def test_every_pattern_takes_linear_time() -> None:
    """With texts made for its unlimited repetitions: the part before one and the repeated part, repeated alone or together."""
    found = patterns()
    assert {"bot.conduct.personal._ADDRESS", "bot.text._CONTROL", "threat 1", "BOT_SAYS_SO"} <= found.keys() and len(found) > 500
    assert BOUNDED.keys() <= found.keys()
    slow = []
    for name in found.keys() - BOUNDED.keys():
        measured = partial(seconds_of, found[name], name in AT_START)
        parsed = re._parser.parse(found[name].pattern, found[name].flags)  # type: ignore[attr-defined]
        for piece in {each for before, part in examples(parsed) for each in (part, before + part)}:
            if measured((piece * LENGTH)[:LENGTH]) > SUSPECT_SECONDS and growth(measured, piece) >= LINEAR:
                slow.append((name, piece))
    assert slow == []


def test_white_space_in_a_notice_takes_no_time() -> None:
    def seconds(filling: str) -> float:
        began = time.process_time()
        text.is_notice("<" + filling * 495 + "x")
        return time.process_time() - began

    assert seconds(" ") < LINEAR * max(seconds("a"), LEAST_SECONDS)
