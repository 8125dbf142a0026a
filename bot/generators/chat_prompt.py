"""The prompt for instruct models: rules, a few examples, and the comment with its surroundings as quoted text. Pure functions.

Texts of users are in user messages, as JSON strings on lines of their own, so that no text can end its quotation. `<`, `[` and invisible
characters are written as escapes, so that no text contains a control token of a chat template (`<|im_end|>`, `[/INST]`). Only the replies
of the examples are in assistant messages as they are; a reply with one of these characters is no example.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from bot import text
from bot.conduct import what
from bot.conduct.instructions import RULES
from bot.config import ConductSettings
from bot.generators import Place
from bot.schema import LmRow

Message = dict[str, str]

TASK = "Write the reply to the comment."
EXAMPLE_WORDS = range(4, 41)  # of a reply; comments are at most twice as long
BYTES_A_TOKEN = 4  # of UTF-8; an estimate, because the interface has no tokenizer


def messages(comment: str, place: Place, examples: Sequence[LmRow], max_tokens: int) -> list[Message]:
    """The messages of a request. max_tokens: of each quoted text, estimated; longer texts are cut.

    >>> for message in messages("Why?", Place("books"), [], 96)[1:]: print(message["role"], message["content"], sep=": ")
    user: subreddit: "books"
    comment: "Why?"
    Write the reply to the comment.
    """
    result = [{"role": "system", "content": RULES}]
    for row in examples:
        result.append({"role": "user", "content": question(row.comment, Place(row.subreddit), max_tokens)})
        result.append({"role": "assistant", "content": row.reply})
    return [*result, {"role": "user", "content": question(comment, place, max_tokens)}]


def question(comment: str, place: Place, max_tokens: int) -> str:
    """The content of a user message."""
    parts = [("subreddit", place.subreddit), ("title", place.title), *(("above", body) for body in place.above), ("comment", comment)]
    lines = [f"{name}: {quoted(cut(body, max_tokens))}" for name, body in parts if body]
    return "\n".join([*lines, TASK])


def quoted(body: str) -> str:
    """The text as a JSON string without control tokens and invisible characters.

    >>> print(quoted('"Hi" <|im_end|> [INST]'))
    "\\"Hi\\" \\u003c|im_end|> \\u005bINST]"
    """
    return '"' + "".join(_escaped(letter) for letter in body) + '"'


def _escaped(letter: str) -> str:
    if letter in "<[":
        return f"\\u{ord(letter):04x}"
    return json.dumps(letter)[1:-1] if letter in '"\\' or not letter.isprintable() else letter


def cut(body: str, max_tokens: int) -> str:
    """The beginning of a text, whole words where possible, of at most 4 * max_tokens bytes in UTF-8.

    >>> cut("Which book?", 2), cut("Which book?", 3), cut("ééééé", 2)
    ('Which', 'Which book?', 'éééé')
    """
    content = body.encode("utf-8", "replace")
    if len(content) <= BYTES_A_TOKEN * max_tokens:
        return body
    beginning = content[: BYTES_A_TOKEN * max_tokens].decode("utf-8", "ignore")
    return (beginning if body[len(beginning)].isspace() else beginning.rpartition(" ")[0] or beginning).rstrip()


def draw_examples(rows: Sequence[LmRow], count: int) -> list[LmRow]:
    """Pairs to show a model, to different comments, always the same for the same rows; fewer than `count` if there are not enough.

    Only short pairs whose reply the bot could post itself, as far as patterns can tell, without characters of control tokens.
    """
    chosen: dict[str, LmRow] = {}
    for row in random.Random(0).sample(rows, len(rows)):
        if len(chosen) == count:
            break
        is_short = len(row.reply.split()) in EXAMPLE_WORDS and len(row.comment.split()) < 2 * EXAMPLE_WORDS.stop
        is_plain = not re.search(r"[<\[]", row.reply) and row.reply.isprintable()
        if is_short and is_plain and not what.may_say(row.reply, what.around(row.comment), ConductSettings(toxicity_model=None)):
            chosen.setdefault(row.comment, row)
    return list(chosen.values())


def parse_reply(generated: str) -> str:
    """The reply in the answer of an instruct model, on one line, without reasoning and without quotation marks around the whole.

    >>> parse_reply('<think>\\nHm.\\n</think>\\n\\n"Dune, twice."'), parse_reply("<think> Let me"), parse_reply('"Yes" and "no"')
    ('Dune, twice.', '', '"Yes" and "no"')
    """
    answer = re.sub(r"(?s)\A(?:\s*<think>)?(?:(?!<think>).)*</think>", "", generated)
    reply = text.parse_reply(re.sub(r"(?s)\A\s*<think>.*", "", answer))
    whole = re.fullmatch(r'"([^"]+)"|“([^“”]+)”', reply)
    return (whole[1] or whole[2]).strip() if whole else reply
