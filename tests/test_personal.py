"""bot.conduct.personal: personal data in any script and wording, and similar text that has none."""

from __future__ import annotations

import pytest

from bot.conduct import letters, personal, what
from bot.conduct.what import Unfit
from bot.config import ConductSettings

DIGITS = {
    "Arabic-Indic": 0x660,
    "Persian": 0x6F0,
    "Devanagari": 0x966,
    "Thai": 0xE50,
    "fullwidth": 0xFF10,
    "bold": 0x1D7CE,
    "segmented": 0x1FBF0,
}
NUMBERS = {
    "ring (212) 555-0143": personal.has_phone_number,
    "her number: 07700 900123": personal.has_phone_number,
    "pay with 4242 4242 4242 4242": personal.has_card_number,
    "the account is GB33-BUKB-2020-1555-5555-55": personal.has_bank_account,
    "987-65-4320": personal.has_document_number,
    "passport no. L58173603": personal.has_document_number,
    "his IP is 82.11.54.9": personal.has_address,
    "PO Box 82, Ashbrook, OH 43999": personal.has_address,
}


@pytest.mark.parametrize("zero", DIGITS.values(), ids=DIGITS)
def test_digits_of_every_script_count(zero: int) -> None:
    written = {text: text.translate({ord("0") + digit: zero + digit for digit in range(10)}) for text in NUMBERS}
    assert all(text != other for text, other in written.items())
    assert [text for text, has in NUMBERS.items() if not has(letters.latin(written[text]))] == []


def test_circled_digits_count() -> None:
    assert personal.has_phone_number(letters.latin("ring ❷❶❷-❺❺❺-⓿❶❹❸")) and personal.has_phone_number(letters.latin("②①② ⑤⑤⑤ ⓪①④③"))


SPOKEN = [
    "ring 07700 nine double zero one two three",
    "oh seven double seven oh, nine double oh, one double two",
    "zero one one three, four nine six, double oh double seven",
    "try double nine double eight triple two",
    "it is 07700 nine-double-oh 1 triple 2",
]
NOT_SPOKEN = [
    "a double six and a triple nine on the dice",
    "one double espresso, two triple chocolate muffins, three teas",
    "he hit a double, two singles and one triple",
    "double one of them and halve the other two",
]


def test_repeated_digits_in_spoken_numbers() -> None:
    assert [text for text in SPOKEN if not personal.has_phone_number(text)] == []
    assert [text for text in NOT_SPOKEN if personal.has_phone_number(text)] == []


HANDLES = [
    "@jane_doe on insta",
    "@janedoe on Instagram has the photos",
    "@property on TikTok, she posts daily",
    "ask @tom_h_1990 about Python",
    "follow @quietreader",
    "follow @quietreader, her Python class is great",
    "@sunny_girl22x writes the best code",
    "the code is by @the.inky.tom",
]
DECORATORS = [
    "Add @property above the method and it reads like an attribute.",
    "Put @Override there, or add @deprecated.",
    "Use an @media rule for narrow screens.",
    "Tag @Test methods with a name that people can read.",
    "@lru_cache on a recursive function is a nice trick.",
    '@app.route("/books") is the endpoint in Flask.',
    "@pytest.fixture with a module scope makes that fast.",
    "The @my_timer decorator prints how long it took.",
    "Write a decorator @retry_twice for that function.",
    "I only add @include to that stylesheet, never @extend.",
    "The @property on line 3 is the culprit.",
    "Two @ five each, bargain.",
]


def test_decorators_are_not_handles() -> None:
    assert [text for text in HANDLES if not personal.has_handle(text)] == []
    assert [text for text in DECORATORS if personal.has_handle(text)] == []


ADDRESSES = [
    "12 oak street, springfield",
    "send it to 48 upper mill road, leeds 12345",
    "9 HOLLOW PINE LANE, DUNMORE",
    "She lives at 14 Winter Trail.",
    "They moved to 3 Sandpiper Way, the green gate.",
    "Her address is 9 Bakehouse Row.",
    "Go to 77 Mill Hill, Ansby.",
    "Here: 8 Gull Close, Porthaven PX3 4ZZ",
    "12 Mill Pond Road, top floor",
    "1984 Mill Street, second door",
    "Meet me at 5 Quarry Square, Eastwick",
    "He works at 40 Foundry Court.",
    "come to 22 acacia avenue",
    "221 Baker Street, Ansby, is where his mother lives.",
    "17 Main Street, Ashbrook, OH 43999",
    "It is 610 Tannery Row, Port Ellery, CA 96199",
    "She moved to 93 W 52nd Street, Port Ellery.",
    "Find him: Amselgrund 48, 79999 Altmoor",
    "Er wohnt Lindenstraße 12.",
    "You can find him most evenings at the gym on Harbour Street",
]
NO_ADDRESSES = [
    "It's a 2 way street, buddy.",
    "I saw 21 Jump Street, and laughed.",
    "Track 4 penny lane, great song",
    "I liked mad max 2 fury road, amazing film.",
    "It was a 5 hour drive, but we took the long road, and 3 more roads, people.",
    "I counted 12 lamps on the street, one of them broken.",
    "We stood outside 10 Downing Street for an hour and saw only the cat.",
    "The tour of 221B Baker Street is worth it, even without Holmes.",
    "He lives at 221B Baker Street, everybody knows that.",
    "Somebody at 1600 Pennsylvania Avenue should read this.",
    "The 1969 Abbey Road sessions are the best thing they did.",
    "I own 3 Abbey Road pressings and none of them sounds the same.",
    "They go to Abbey Road to take the same photo.",
    "We walked 12 Winter Trail miles before lunch.",
    "She goes to Winter Trail every February.",
    "Meet us for the 7 Hills Walk in May.",
    "He plays at a club on 52nd Street.",
    "Our 5 Long Way stickers are still on the van.",
    "My house is 10 minutes walk from the station.",
    "Come over for a 5 mile winter trail run.",
    "There were 20 Times Square billboards with his face.",
    "She works on Wall Street and hates it.",
    "In 1984 Main Street looked like this, and since 1990 Mill Street has too.",
    "Nuremberg 1946.",
    "I installed it via Windows 11 and it just worked.",
    "There is 1 avenue I have not tried.",
]


def test_famous_addresses_and_trails_are_not_personal() -> None:
    assert [text for text in ADDRESSES if not personal.has_address(text)] == []
    assert [text for text in NO_ADDRESSES if personal.has_address(text)] == []


@pytest.mark.parametrize("space", ["   ", "\n", "\u2013", "\u2011", "\u00b7"])
@pytest.mark.parametrize(
    ("words", "number", "reason"),
    [
        ("", "4111 1111 1111 1111", Unfit.CARD_NUMBER),
        ("", "DE89 3704 0044 0532 0130 00", Unfit.BANK_ACCOUNT),
        ("his SSN is ", "078 05 1120", Unfit.DOCUMENT_NUMBER),
        ("call ", "212 555 0143", Unfit.PHONE_NUMBER),
    ],
)
def test_separators_hide_no_number(words: str, number: str, reason: Unfit, space: str) -> None:
    """Reddit shows a line break and several blanks as one blank, and models write en dashes."""
    if reason is Unfit.DOCUMENT_NUMBER and space == "\u00b7":
        space = "-"  # numbers with two dots are dates and versions, too
    reply = words + number.replace(" ", space)
    assert what.may_say(reply, what.around("Which one?"), ConductSettings(reply_classifier=None)) is reason


@pytest.mark.parametrize(
    "body",
    [
        "my card is 4111 1111 1111 1111 12/27 123", "4111111111111111 12/27", "2 4111 1111 1111 1111", "41111111 11111111 / 12/27",
        "4111 11111111 1111 / 12",
        "4111/1111/1111/1111",
        "12 27 4111 1111 1111 1111 123", "2 5555 5555 5555 4444 3", "4111 - 1111 - 1111 - 1111", "4111_1111_1111_1111",
        "4111-111111-111111 - 2 cards", "3782 822463 10005 09/27",
    ],
)  # fmt: skip
def test_a_card_among_other_numbers(body: str) -> None:
    assert personal.has_card_number(body)


@pytest.mark.parametrize(
    "body",
    [
        "Leap years: 2000 2004 2008 2012 2016 2020 2024 2028 2032 2036 2040",
        "2014/2015 2015/2016 2016/2017 2017/2018 2018/2019",
        "ELO 2831 2822 2804 2798 2780 2777 2765",
        "build 100.10.2021",
    ],
)
def test_lists_of_numbers_are_no_cards(body: str) -> None:
    assert not personal.has_card_number(body) and not personal.has_document_number(body)
