"""what: may this text be posted? Pure, but for a classifier's files; every refusal is an `Unfit`.

    may_say        asked by `choose` of every candidate that could be chosen; `Unfit` in scored.csv

What a comment says can't switch a check off: none of them looks for instructions. All that is learnt from the thread is its texts, which a
reply may not copy, and their language, which the comment that is answered tells only where nothing else does.

A new refusal is a member of `Unfit`, with its phrase, and a line in `may_say`, the cheap checks first. The libraries behind `may_say` are
loaded on first use: alt-profanity-check brings scikit-learn, which takes seconds.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot import text
from bot.cli import UserError
from bot.conduct import words
from bot.corpus import copies
from bot.schema import Phrased

if TYPE_CHECKING:
    import numpy as np

    from bot.config import ConductSettings


class Unfit(Phrased):
    """Why a text is not posted, in the order of asking."""

    HIDDEN_CHARACTERS = "hidden_characters", "has characters that can't be seen or that turn text around"
    OVER_LONG = "over_long", "longer than the settings allow"
    PING = "ping", "names a user or a subreddit, who would be called"  # u/somebody, r/somewhere
    IMAGE = "image", "has an image"
    LINK = "link", "has a link"
    E_MAIL = "e_mail", "has an e-mail address"
    PHONE_NUMBER = "phone_number", "has a phone number"
    SLUR = "slur", "has a swear word or a slur"  # a word of the list, however it is spelt
    THREAT = "threat", "threatens somebody"
    TOXIC = "toxic", "a classifier finds it offensive"
    COPY_OF_COMMENT = "copy_of_comment", "says the comment again"
    COPY_OF_THREAD = "copy_of_thread", "says what stands in the thread already"
    COPY_OF_OWN = "copy_of_own", "says what the bot has written before"
    COPY_OF_TRAINING = "copy_of_training", "says what the generator was trained on"
    OTHER_LANGUAGE = "other_language", "not in the thread's language"


# --- may this be posted? -------------------------------------------------------------------------------------------------------


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
    language = text.language(" ".join(thread)[:LANGUAGE_CHARACTERS]) or text.language(comment[:LANGUAGE_CHARACTERS])
    return Around(copies.plain(comment), [copies.plain(each) for each in thread], own, training, language)


def may_say(reply: str, around: Around, conduct: ConductSettings) -> Unfit | None:
    """Why this text is not posted, or None; the cheap checks first.

    What is looked for is looked for in the text as Reddit would show it: entities and full-width letters undone, no backslashes.
    """
    if has_hidden_characters(reply):
        return Unfit.HIDDEN_CHARACTERS
    if len(reply) > conduct.maximum_characters:
        return Unfit.OVER_LONG
    shown = unicodedata.normalize("NFKC", html.unescape(reply)).replace("\\", "")
    if has_hidden_characters(shown):
        return Unfit.HIDDEN_CHARACTERS
    said = copies.plain(shown)
    checks: tuple[tuple[Unfit, Callable[[], bool]], ...] = (
        (Unfit.PING, lambda: bool(_PING.search(shown))),
        (Unfit.IMAGE, lambda: bool(_IMAGE.search(shown))),
        (Unfit.E_MAIL, lambda: bool(_E_MAIL.search(shown))),
        (Unfit.LINK, lambda: bool(_LINK.search(shown))),
        (Unfit.PHONE_NUMBER, lambda: has_phone_number(shown)),
        (Unfit.SLUR, lambda: bool(bad_words(shown))),
        (Unfit.THREAT, lambda: bool(_THREAT.search(shown))),
        (Unfit.TOXIC, lambda: profanity(shown) >= conduct.maximum_profanity),
        (Unfit.TOXIC, lambda: conduct.toxicity_model is not None and toxicity(shown, conduct.toxicity_model) >= conduct.maximum_toxicity),
        (Unfit.COPY_OF_COMMENT, lambda: copies.is_copy(said, [around.comment], conduct.maximum_similarity)),
        (Unfit.COPY_OF_THREAD, lambda: copies.is_copy(said, around.thread, conduct.maximum_similarity)),
        (Unfit.COPY_OF_OWN, lambda: copies.is_copy(said, around.own, conduct.maximum_similarity)),
        (Unfit.COPY_OF_TRAINING, lambda: around.training is not None and copies.is_sketched(shown, around.training)),
        (Unfit.OTHER_LANGUAGE, lambda: around.language is not None and text.is_surely_not(shown, around.language)),
    )
    return next((reason for reason, applies in checks if applies()), None)


_PING = re.compile(r"(?i)(?<![\w/])/?(?:[ur]|user)/[\w-]{2,}")  # w/r/t and and/or are none
_IMAGE = re.compile(r"(?i)!\[|<img\b|\.(?:png|jpe?g|gifv?|webp|svg|mp4)\b")
_E_MAIL = re.compile(
    r"(?i)[\w.+-]+\s?(?:@|[(\[{]at[)\]}])\s?[\w-]+(?:\s?(?:\.|[(\[{](?:dot|\.)[)\]}])\s?[\w-]+)+|\w\s+at\s+[\w-]+\s+dot\s+(?:com|net|org|edu)\b|\bmailto:"
)
_LINK = re.compile(
    r"(?im)\b[a-z][a-z0-9+.-]*://|\bwww\d?\.|\]\s?\(|^\s*\[[^\]\n]+\]:\s|<a\s|\b(?:javascript|data):\S"
    r"|\b[\w-]+(?:\.|\s?[(\[{](?:dot|\.)[)\]}]\s?|\sdot\s)"
    r"(?:com|net|org|edu|gov|info|biz|io|co|ai|app|dev|gg|ly|tv|xyz|uk|de|fr|ru|eu|ca|au)\b(?!')"  # not .it, .in, .me: «great.It was»
    r"|\b[\w-]+\.[a-z]{2,}/\w"
)
_PHONE = re.compile(r"(?<!\d)(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-. ]\d{4}(?!\d)")  # American ones, those that belong to nobody too
PHONE_REGIONS = ("US", "GB")  # whose numbers are known without a country's code; with one, all are
# What the classifier and the word list both let through.
_THREAT = re.compile(
    r"(?i)\bk+y+s+\b|\b(?:kill|hang|shoot|hurt|cut|drown) (?:your|ur)\s?sel(?:f|ves)\b"
    r"|\b(?:i['’]?ll|i will|we['’]?ll|we will|gonna|going to) (?:\w+ ){0,2}"
    r"(?:kill|murder|stab|shoot|hurt|rape|bomb|strangle) (?:you|u|ur|your)\b"
    r"|\bshoot(?:ing)? up (?:the|a|your|this|my)\b"
    r"|\b(?:deserves?|ought|needs?|should) (?:all )?(?:to )?(?:die(?! (?:out|off|down)\b)|be (?:shot|killed|hanged))\b"
)
# Characters without a width that are no format characters by Unicode's own word: fillers, blanks, joiners of marks.
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u2028\u2029")
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
_JOINER = re.compile(f"(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])")
_NUMBER = re.compile(r"(?<!\w)\d[\d.,:/%+$-]+(?![^\W\d_])")  # the word list's digits are letters: «4.5/5» would be one of its words
# Detoxify's. The other labels of its «unbiased» models say who is spoken of, which is no fault.
TOXIC_LABELS = frozenset(
    [
        "toxic",
        "toxicity",
        "severe_toxic",
        "severe_toxicity",
        "obscene",
        "threat",
        "insult",
        "identity_hate",
        "identity_attack",
        "sexual_explicit",
    ]
)


def has_hidden_characters(body: str) -> bool:
    """Control (but line feed), format, unassigned and private characters, lone surrogates, blanks; what joins two emoji is none.

    >>> has_hidden_characters("a\\u200bb"), has_hidden_characters("a\\u202eb"), has_hidden_characters("a\\ud800")
    (True, True, True)
    >>> has_hidden_characters("\\U0001f469\\u200d\\U0001f692 and\\n"), has_hidden_characters("a\\u200db")
    (False, True)
    """
    if body.isascii() and body.isprintable():
        return False
    return any(
        each in _BLANKS or (unicodedata.category(each) in ("Cc", "Cf", "Cn", "Co", "Cs") and each != "\n") for each in _JOINER.sub("", body)
    )


def has_phone_number(body: str) -> bool:
    """
    >>> has_phone_number("call (212) 555-0143"), has_phone_number("+49 30 901820"), has_phone_number("from 2005 to 2006, 1500 of 1,234,567")
    (True, True, False)
    """
    import phonenumbers

    return bool(_PHONE.search(body)) or any(phonenumbers.PhoneNumberMatcher(body, region).has_next() for region in PHONE_REGIONS)


def bad_words(body: str) -> list[str]:
    """Words of glin-profanity's English list but words.MILD_WORDS, and their plurals; spelt with digits, signs or gaps too.

    >>> bad_words("you sh1t"), bad_words("s h i t"), bad_words("that gay couple is nice, in Scunthorpe")
    (['shit', 'sh1t'], ['shit'], [])
    """
    found: list[str] = _word_filter().check_profanity(_NUMBER.sub(" ", body))["profane_words"]
    return found


@cache
def _word_filter() -> Any:
    from glin_profanity import Filter
    from glin_profanity.data.dictionary import dictionary

    listed = set(dictionary.get_words("english")).difference(words.MILD_WORDS)
    plurals = [plural(word) for word in listed if word[-1].isalpha()]  # the list has few of them
    settings = {"languages": ["english"], "detect_leetspeak": True, "leetspeak_level": "moderate"}
    return Filter({**settings, "ignore_words": sorted(words.MILD_WORDS), "custom_words": plurals})


def plural(word: str) -> str:
    """
    >>> plural("cat"), plural("lady"), plural("boss"), plural("toy")
    ('cats', 'ladies', 'bosses', 'toys')
    """
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search("(?:s|x|z|sh|ch)$", word) else "s")


def profanity(body: str) -> float:
    """alt-profanity-check's probability that a text is offensive. It knows insults, no odd spellings, and takes «gay» for one."""
    from profanity_check import predict_prob

    return float(predict_prob([body])[0])


def toxicity(body: str, folder: Path) -> float:
    """The highest probability that a classifier in a folder gives any of TOXIC_LABELS.

    The folder is a transformers one (unitary/toxic-bert, say), or has a checkpoint of Detoxify's own (`….ckpt`) beside its base's
    config.json and tokenizer.
    """
    import torch

    tokenizer, model, places = _toxicity_model(folder)
    with torch.inference_mode():
        logits = model(**tokenizer(body, truncation=True, max_length=512, return_tensors="pt")).logits  # (1, labels)
    return float(logits[0, places].sigmoid().max())


@cache
def _toxicity_model(folder: Path) -> tuple[Any, Any, list[int]]:
    """Tokenizer, classifier and the places of TOXIC_LABELS among its outputs. Raises UserError where there is none."""
    import pickle

    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if checkpoint := next(iter(sorted(folder.glob("*.ckpt"))), None):
            stored = torch.load(checkpoint, map_location="cpu", weights_only=True)  # no pickle of a stranger's is run
            labels = dict(enumerate(stored["config"]["dataset"]["args"]["classes"]))
            outputs = stored["config"]["arch"]["args"]["num_classes"]
            model = AutoModelForSequenceClassification.from_config(
                AutoConfig.from_pretrained(folder, num_labels=outputs, local_files_only=True)
            )
            # numbers of positions, which older versions of transformers stored
            model.load_state_dict({name: each for name, each in stored["state_dict"].items() if not name.endswith("position_ids")})
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
            labels = model.config.id2label
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"conduct.toxicity_model: {folder} holds no classifier ({reason}); give its folder") from None
    places = [place for place, label in labels.items() if label in TOXIC_LABELS]
    if not places:
        raise UserError(f"conduct.toxicity_model: {folder} has none of Detoxify's labels ({', '.join(labels.values())}); give another")
    return tokenizer, model.eval(), places
