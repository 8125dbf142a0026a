"""The public functions that bot.conduct.what uses take linear time, whatever the text repeats."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import pytest

from bot.conduct import echo, hosts, language, letters, matching, personal, quotes, rendered, slurs
from bot.corpus import copies
from tests.growth import LINEAR, SHORT, growth

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
