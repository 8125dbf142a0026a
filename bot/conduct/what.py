"""what: may this text be posted? Pure, but for a classifier's files; every refusal is an `Unfit`.

    may_say        asked by `choose` of every candidate that could be chosen; `Unfit` in scored.csv

What a comment says can't switch a check off: none of them looks for instructions. All that is learnt from the thread is its texts, which a
reply may not copy, and their language, which the comment that is answered tells only where nothing else does.

    letters.py     what a reader sees: look-alike letters, entities, characters without a width
    rendered.py    links, pings, images as Reddit's markdown makes them; hosts.py: addresses without http://
    personal.py    e-mail, telephone, address, accounts, documents, handles
    slurs.py       swear words in every spelling
    matching.py    phrases/*.txt: threats, hate, advice, claims, spam, prompts; quotes.py: words put into somebody's mouth
    echo.py        the comment again; language.py: another language; toxicity.py: Detoxify

A new refusal is a member of `Unfit`, with its phrase, and a line in `_checks`, the cheap ones first; one that phrases tell is a file in
phrases/ and a member of the same name. The libraries are loaded on first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot import text
from bot.conduct import echo, language, letters, matching, personal, quotes, rendered, slurs, toxicity
from bot.corpus import copies
from bot.schema import Phrased

if TYPE_CHECKING:
    import numpy as np

    from bot.config import ConductSettings


class Unfit(Phrased):
    """Why a text is not posted, in the order of asking."""

    HIDDEN_CHARACTERS = "hidden_characters", "has characters that can't be seen or that turn text around"
    OVER_LONG = "over_long", "longer than the settings allow"
    NO_WORDS = "no_words", "no words that can be checked"
    PING = "ping", "names a user or a subreddit, who would be called"  # u/somebody, r/somewhere
    IMAGE = "image", "has an image"
    E_MAIL = "e_mail", "has an e-mail address"
    LINK = "link", "has a link"
    WALLET = "wallet", "has an address of a cryptocurrency or another code"
    BANK_ACCOUNT = "bank_account", "has the number of a bank account"
    CARD_NUMBER = "card_number", "has the number of a payment card"
    DOCUMENT_NUMBER = "document_number", "has the number of a passport, a licence or a plate"
    PHONE_NUMBER = "phone_number", "has a phone number"
    ADDRESS = "address", "says where somebody lives"
    HANDLE = "handle", "sends to an account on another service"
    BOT_SUMMONS = "bot_summons", "calls another bot"
    PROMPT_LEAK = "prompt_leak", "has pieces of a prompt, or what assistants say"
    SLUR = "slur", "has a swear word or a slur"  # a word of the list, however it is spelt
    SELF_HARM = "self_harm", "encourages self-harm"
    THREAT = "threat", "threatens somebody"
    HATE = "hate", "speaks ill of a group of people"
    SEXUAL = "sexual", "is sexual"
    INSULT = "insult", "insults somebody"
    MEDICAL = "medical", "gives medical advice"
    LEGAL_MONEY = "legal_money", "gives advice on law or money"
    HOW_TO = "how_to", "says how to do something dangerous"
    HUMAN_CLAIM = "human_claim", "claims to be a person, or to have a person's life"
    VOTES_SPAM = "votes_spam", "asks for votes, followers or buyers"
    INVENTED_QUOTE = "invented_quote", "quotes what nobody in the thread wrote"
    TOXIC = "toxic", "a classifier finds it offensive"
    COPY_OF_COMMENT = "copy_of_comment", "says the comment again"
    COPY_OF_THREAD = "copy_of_thread", "says what stands in the thread already"
    COPY_OF_OWN = "copy_of_own", "says what the bot has written before"
    COPY_OF_TRAINING = "copy_of_training", "says what the generator was trained on"
    OTHER_LANGUAGE = "other_language", "not in the thread's language"


# --- may this be posted? -------------------------------------------------------------------------------------------------------


# A category (the value of an `Unfit`) to the probability that the reply is of it. The classifier is calibrated so that its verdict changes
# at 0.5; conduct.reply_threshold says where it counts.
Judged = Mapping[str, float]
NOT_JUDGED: Judged = {}
LANGUAGE_CHARACTERS = 20_000  # of a thread, enough to tell


@dataclass(frozen=True)
class Around:
    """What a reply is held against. Texts are `copies.plain`; training is `copies.read`'s, None where there is none."""

    comment: str
    thread: Sequence[str] = ()
    own: Sequence[str] = ()
    training: np.ndarray[Any, Any] | None = None
    language: str | None = None  # of the thread, None where it can't be told


def around(comment: str, thread: Sequence[str] = (), own: Sequence[str] = (), training: np.ndarray[Any, Any] | None = None) -> Around:
    """comment: what is answered; thread: its title and the thread's other comments; own: what the bot wrote before, made plain already."""
    spoken = text.language(" ".join(thread)[:LANGUAGE_CHARACTERS]) or text.language(comment[:LANGUAGE_CHARACTERS])
    return Around(copies.plain(comment), [copies.plain(each) for each in thread], own, training, spoken)


def may_say(reply: str, around: Around, conduct: ConductSettings, judged: Judged = NOT_JUDGED) -> Unfit | None:
    """Why this text is not posted, or None; the cheap checks first.

    What is looked for is looked for in the text as Reddit would show it: entities and full-width letters undone, no backslashes.
    judged: what a classifier says of the reply; without it patterns alone decide.
    """
    if letters.has_hidden_characters(reply):
        return Unfit.HIDDEN_CHARACTERS
    if len(reply) > conduct.maximum_characters:
        return Unfit.OVER_LONG
    if letters.has_hidden_characters(letters.visible(reply)):
        return Unfit.HIDDEN_CHARACTERS
    return next((reason for reason, applies in _checks(reply, around, conduct, judged) if applies), None)


def _checks(reply: str, around: Around, conduct: ConductSettings, judged: Judged) -> Iterator[tuple[Unfit, bool]]:
    """Every reason and whether it applies; none is looked at before the one in front of it."""
    shown, latin = letters.visible(reply), letters.latin(reply)
    yield Unfit.NO_WORDS, language.is_unreadable(shown)
    becomes = rendered.becomes(reply)
    yield Unfit.PING, becomes is rendered.Becomes.PING
    yield Unfit.IMAGE, becomes is rendered.Becomes.IMAGE
    yield Unfit.E_MAIL, personal.has_e_mail(latin)
    yield Unfit.LINK, becomes is rendered.Becomes.LINK
    yield Unfit.WALLET, personal.has_wallet(latin)
    yield Unfit.BANK_ACCOUNT, personal.has_bank_account(latin)
    yield Unfit.CARD_NUMBER, personal.has_card_number(latin)
    yield Unfit.DOCUMENT_NUMBER, personal.has_document_number(latin)
    yield Unfit.PHONE_NUMBER, personal.has_phone_number(latin)
    yield Unfit.ADDRESS, personal.has_address(latin)
    yield Unfit.HANDLE, personal.has_handle(latin)
    yield Unfit.SLUR, bool(slurs.bad_words(reply))
    yield from ((category, matching.matches(category, latin)) for category in Unfit if category in matching.CATEGORIES)
    yield Unfit.INVENTED_QUOTE, quotes.invents_quote(latin, [around.comment, *around.thread])
    yield from ((category, judged.get(category, 0.0) >= conduct.reply_threshold) for category in Unfit)
    if conduct.toxicity_model is not None:
        yield Unfit.TOXIC, toxicity.toxicity(shown, conduct.toxicity_model) >= conduct.maximum_toxicity
    plain, compact = copies.plain(latin), echo.compact(reply)
    copied = (Unfit.COPY_OF_COMMENT, [around.comment]), (Unfit.COPY_OF_THREAD, around.thread), (Unfit.COPY_OF_OWN, around.own)
    for reason, others in copied:
        yield reason, copies.is_copy(plain, others, conduct.maximum_similarity) or echo.echoes(compact, others)
    yield Unfit.COPY_OF_TRAINING, around.training is not None and copies.is_sketched(latin, around.training)
    yield Unfit.OTHER_LANGUAGE, around.language is not None and language.is_other(shown, around.language)
