"""what: may this text be posted? Pure, apart from a classifier's files; every refusal is an `Unfit`.

    may_say        called by `choose` for every candidate that could be chosen; `Unfit` in scored.csv

A comment's text cannot disable a check, because no check follows instructions. The checks use a thread only for its texts, which a reply
must not copy, and for its language. The language of the comment being answered counts only if the rest of the thread is inconclusive.

    letters.py     the text as a reader sees it: look-alike letters, entities, characters without a width
    rendered.py    links, pings and images in Reddit's markdown; hosts.py: addresses without http://
    personal.py    e-mail, telephone, address, accounts, documents, handles
    slurs.py       swear words in any spelling
    matching.py    phrases/*.txt: threats, hate, advice, claims, spam, prompts; quotes.py: invented quotations
    echo.py        copies of the thread's texts; language.py: other languages; toxicity.py: Detoxify

To add a refusal, add a member to `Unfit`, with its phrase, and a line to `_checks`, where cheap checks come first. For a refusal by
phrases, add a file to phrases/ and a member of the same name. Libraries are loaded on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bot import text
from bot.conduct import echo, instructions, language, letters, matching, personal, quotes, rendered, slurs, toxicity
from bot.corpus import copies
from bot.schema import Phrased

if TYPE_CHECKING:
    import numpy as np

    from bot.config import ConductSettings


class Unfit(Phrased):
    """Why a text is not posted, in the order of the checks."""

    HIDDEN_CHARACTERS = "hidden_characters", "has characters that are invisible or that reverse text"
    OVER_LONG = "over_long", "longer than the settings allow"
    NO_WORDS = "no_words", "has no words that can be checked"
    PING = "ping", "mentions a user or a subreddit, which would notify them"  # u/somebody, r/somewhere
    IMAGE = "image", "has an image"
    E_MAIL = "e_mail", "has an e-mail address"
    LINK = "link", "has a link"
    WALLET = "wallet", "has a cryptocurrency address or another long code"
    BANK_ACCOUNT = "bank_account", "has the number of a bank account"
    CARD_NUMBER = "card_number", "has the number of a payment card"
    DOCUMENT_NUMBER = "document_number", "has the number of a passport, a licence or a plate"
    PHONE_NUMBER = "phone_number", "has a phone number"
    ADDRESS = "address", "has a postal address"
    HANDLE = "handle", "refers to an account on another service"
    BOT_SUMMONS = "bot_summons", "calls another bot"
    PROMPT_LEAK = "prompt_leak", "has parts of a prompt, or phrases of AI assistants"
    SLUR = "slur", "has a swear word or a slur"  # a listed word in any spelling
    SELF_HARM = "self_harm", "encourages self-harm"
    THREAT = "threat", "threatens somebody"
    HATE = "hate", "is hateful towards a group of people"
    SEXUAL = "sexual", "is sexual"
    INSULT = "insult", "insults somebody"
    MEDICAL = "medical", "gives medical advice"
    LEGAL_MONEY = "legal_money", "gives advice on law or money"
    HOW_TO = "how_to", "explains how to do something dangerous"
    HUMAN_CLAIM = "human_claim", "claims to be a person, or to live a person's life"
    VOTES_SPAM = "votes_spam", "asks for votes, followers or purchases"
    INVENTED_QUOTE = "invented_quote", "has a quotation that nobody in the thread wrote"
    TOXIC = "toxic", "offensive according to a classifier"
    COPY_OF_COMMENT = "copy_of_comment", "repeats the comment"
    COPY_OF_THREAD = "copy_of_thread", "repeats a text of the thread"
    COPY_OF_OWN = "copy_of_own", "repeats an earlier reply of the bot"
    COPY_OF_TRAINING = "copy_of_training", "repeats the generator's training text"
    OTHER_LANGUAGE = "other_language", "not in the thread's language"


# --- may this be posted? -------------------------------------------------------------------------------------------------------


# Category (the value of an `Unfit`) -> probability that the reply belongs to it, compared with conduct.reply_threshold.
Judged = Mapping[str, float]
NOT_JUDGED: Judged = {}
LANGUAGE_CHARACTERS = 20_000  # number of characters of a thread that are used to detect its language


@dataclass(frozen=True)
class Around:
    """What a reply is compared with. Texts are as returned by `copies.plain`, training by `copies.read`, None if there is none."""

    comment: str
    thread: Sequence[str] = ()
    own: Sequence[str] = ()
    training: np.ndarray[Any, Any] | None = None
    language: str | None = None  # of the thread, None if unknown


def around(comment: str, thread: Sequence[str] = (), own: Sequence[str] = (), training: np.ndarray[Any, Any] | None = None) -> Around:
    """comment: the one to answer; thread: the title and the thread's other comments; own: the bot's earlier replies, already normalized."""
    spoken = text.language(" ".join(thread)[:LANGUAGE_CHARACTERS]) or text.language(comment[:LANGUAGE_CHARACTERS])
    return Around(copies.plain(comment), [copies.plain(each) for each in thread], own, training, spoken)


def may_say(reply: str, around: Around, conduct: ConductSettings, judged: Judged = NOT_JUDGED) -> Unfit | None:
    """Why this text is not posted, or None. Cheap checks come first.

    The checks examine the text as Reddit would show it: with entities and full-width letters resolved, and without backslashes. judged: a
    classifier's probabilities for the reply; without them only patterns decide.
    """
    if letters.has_hidden_characters(reply):
        return Unfit.HIDDEN_CHARACTERS
    if len(reply) > conduct.maximum_characters:
        return Unfit.OVER_LONG
    if letters.has_hidden_characters(letters.visible(reply)):
        return Unfit.HIDDEN_CHARACTERS
    return next((reason for reason, applies in _checks(reply, around, conduct, judged) if applies), None)


def _checks(reply: str, around: Around, conduct: ConductSettings, judged: Judged) -> Iterator[tuple[Unfit, bool]]:
    """Every reason and whether it applies, evaluated lazily in this order."""
    shown, latin = letters.visible(reply), letters.latin(reply)
    readings = dict.fromkeys((latin, " ".join(latin.split())))  # as it is written, and as Reddit shows it

    unmasked = dict.fromkeys([*readings, *map(letters.without_masks, readings)])

    def has(check: Callable[[str], object]) -> bool:
        return any(map(check, readings))

    yield Unfit.NO_WORDS, language.is_unreadable(shown)
    becomes = rendered.becomes(reply)
    yield Unfit.PING, becomes is rendered.Becomes.PING
    yield Unfit.IMAGE, becomes is rendered.Becomes.IMAGE
    yield Unfit.E_MAIL, has(personal.has_e_mail)
    yield Unfit.LINK, becomes is rendered.Becomes.LINK
    yield Unfit.WALLET, has(personal.has_wallet)
    yield Unfit.BANK_ACCOUNT, has(personal.has_bank_account)
    yield Unfit.CARD_NUMBER, has(personal.has_card_number)
    yield Unfit.DOCUMENT_NUMBER, has(personal.has_document_number)
    yield Unfit.PHONE_NUMBER, has(personal.has_phone_number)
    yield Unfit.ADDRESS, has(personal.has_address)
    yield Unfit.HANDLE, has(personal.has_handle)
    yield Unfit.SLUR, bool(slurs.bad_words(reply))
    yield Unfit.PROMPT_LEAK, instructions.leaks(reply)
    for category in Unfit:
        yield category, category in matching.CATEGORIES and any(map(partial(matching.matches, category), unmasked))
    yield Unfit.INVENTED_QUOTE, has(lambda reading: quotes.invents_quote(reading, [around.comment, *around.thread]))
    yield from ((category, judged.get(category, 0.0) >= conduct.reply_threshold) for category in Unfit)
    if conduct.toxicity_model is not None:
        yield Unfit.TOXIC, toxicity.toxicity(shown, conduct.toxicity_model) >= conduct.maximum_toxicity
    plain, compact = copies.plain(latin), echo.compact(reply)
    copied = (Unfit.COPY_OF_COMMENT, [around.comment]), (Unfit.COPY_OF_THREAD, around.thread), (Unfit.COPY_OF_OWN, around.own)
    for reason, others in copied:
        yield reason, copies.is_copy(plain, others, conduct.maximum_similarity) or echo.echoes(compact, others)
    yield Unfit.COPY_OF_TRAINING, around.training is not None and copies.is_sketched(latin, around.training)
    yield Unfit.OTHER_LANGUAGE, around.language is not None and language.is_other(shown, around.language)
