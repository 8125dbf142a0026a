"""Text functions: cleaning, training text and prompt, and the split of threads. Pure functions.

Only `format_training_text` and `format_prompt` build input for a generator that was trained on this text (generators/chat_prompt.py builds
that for instruct models). The prompt is a prefix of the training text, by characters and by tokens, and every training text contains
exactly one separator.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from functools import cache
from typing import Any

from bot import markdown
from bot.markdown import well_formed as well_formed

SEPARATOR = "[SEP]"
# DELETED_BODY, NOT_A_BOT and BOT_NAME are also valid RE2, since the query of `extract` uses them. RE2's \\s, \\w and \\b are only ASCII, so
# they are avoided: blanks are listed here, with the entities that Reddit's editor writes and marks of emphasis.
_BLANK = (
    "(?:[\\s*_~\x0b\x1c-\x1f\x85\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]"
    "|&(?:amp;)?(?:nbsp|#x0*(?:a0|200b)|#0*(?:160|8203));)"
)
_GAP = _BLANK + "+"
_TEXT = "(?:comment|(?:cross)?post|submission|content|thread|title|text|reply|message|link|image|video|media|gallery|poll)s?"
_REMOVED = "(?:removed|deleted|taken down|redacted)"
_ADMINS = (  # Reddit, and what belongs to it; "reddit users" are people
    f"(?:reddit(?:['’]s)?(?:{_GAP}(?:and|legal|safety|trust|policy|spam|content|copyright|abuse|automated|automatic|anti-evil|security|support"
    "|filter|system|team|department|staff|operation|moderator|moderation|mod|admin|administrator)s?){0,5})"
)
_MODERATORS = (
    "(?:(?:auto[ _-]?)?mod(?:eration|erator|s)?s?(?:[ -]?team)?|admin(?:istrator|istration)?s?|staff|anti-evil operations"
    "|/?u/[a-z0-9_-]*(?:mod|admin)[a-z0-9_-]*|/?r/[a-z0-9_-]+)"
)
_THE = (
    f"(?:(?:an?|the|one|of|our|your|this|its|human|volunteer|subreddit|sub|community|site|reddit|/?r/[a-z0-9_-]+)(?:['’]s)?{_GAP}){{0,4}}"
)
_LINKS = r"(?:\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\][^\[\]]*)*\]"  # the rest of a bracket, from the links in it
_REST = rf"[^\[\]]*{_LINKS}"
_OPEN, _CLOSE = rf"(?:\\?\[{_BLANK}*){{1,2}}", rf"(?:{_BLANK}*\\?\])"
_REASON = rf"(?:{_BLANK}*[.,:;!?()/–—-]|{_GAP}(?:for|due|because|as|on|under|in|per|with|pursuant|since|to|violat|rule|\[))"
_WHY = rf"(?:{_CLOSE}|{_REASON}{_REST}|{_BLANK}*{_LINKS})"
_SUBJECT = f"(?:(?:sorry,?|this|the|your|{_TEXT}|has|have|been|was|were|is|permanently|automatically|temporarily){_GAP})*"
_MIDDLE = (
    rf"(?:{_BLANK}*|(?:{_BLANK}*[,:;(–—-]|{_GAP}(?:for|from|due|because|on|at|in|as|per|under|automatically|permanently|temporarily))"
    r"[^\[\] \n]*[ \n]+(?:[^\[\] \n]+[ \n]+){0,12}?)"
)
# An empty body, or nothing but notices in the place of a text that is gone: `[deleted]`, `[removed]`, `[deleted by user]`, and all in
# brackets that says that Reddit or moderators removed it, with or without reason and link. Brackets may have backslashes. A person's texts
# are "[removed the lid]" and "[The admin removed my car]", and so is a link with a headline: "[Reddit removed an app](http://a.b)".
# Repetitions are bounded, since Python's engine would try each division of a long run of such words, and RE2 is slow on a long pattern.
_NOTICE = (
    rf"{_OPEN}(?:(?:deleted|removed){_CLOSE}{_CLOSE}?"
    rf"|{_SUBJECT}{_REMOVED}{_MIDDLE}by{_GAP}(?:"
    rf"(?:the{_GAP})?(?:original{_GAP})?(?:user|author|op|poster|person who originally posted it)\.?{_CLOSE}{_CLOSE}?"
    rf"|{_THE}(?:(?:{_ADMINS}|{_MODERATORS}){_WHY}{_CLOSE}?(?:\([^()\n]*\))?|{_MODERATORS}[^a-z0-9_\[\]]{_REST}))"
    rf"|{_THE}(?:{_ADMINS}|{_MODERATORS}){_GAP}(?:(?:has|have){_GAP})?{_REMOVED}"
    rf"(?:{_GAP}(?:it|this|(?:(?:this|the|your){_GAP})?{_TEXT}))?{_WHY}{_CLOSE}?)"
)
DELETED_BODY = rf"(?i)^{_BLANK}*(?:{_NOTICE}{_BLANK}*){{0,2}}$"
_BY_MODERATORS = rf"(?i)by{_GAP}{_THE}(?:{_ADMINS}|{_MODERATORS})"
BRACKETED_WORDS = 3
NOTICE_LENGTH = 500  # characters; scripts that overwrite comments may append an advertisement
_BRACKETED = re.compile(r"\[[^\[\]]*+(?:\[[^\[\]]*+\](?:\([^()]*+\))?[^\[\]]*+)*+\]")  # may contain a link
# "Deleted" or "removed" in other languages.
_REMOVED_ELSEWHERE = re.compile(
    r"(?i)gel[öo]scht|entfernt|supprim|effac|elimin|borrad|retirad|removid|apagad|exclu[ií]d|cancellat|rimoss|verwijderd|slettet|raderad"
    r"|borttag|fjernet|poistett|usuni[ęe]t|smaz[aá]n|silin|kald[ıi]r|töröl|[șş]ters|удал[её]н|видален|削除|삭제|删除|刪除"
)
# A person's own remark in brackets.
_ASIDE = re.compile(
    r"(?i)\[\s*(?:deleted|removed)\s+(?!by (?:the |its |their |an? )?(?:original )?(?:author|user|owner|poster)\b)\w"
)  # not a notice
# Scripts that overwrite comments put this at the end, some after other words.
_SCRIPT = re.compile(
    r"(?i)this (?:post|comment|message) was (?:\w+ )?deleted and anonymi[sz]ed with\W{1,4}redact"
    r"(?:\W{1,3}https?:\S*redact\.dev|\W*(?:\(https?:\S*\))?\W*\Z)"
)
_OF_A_TEXT = re.compile(
    r"(?i)\[\s*(?:this|the|my|your|all|old|original|sorry|comments?|posts?|contents?|messages?|submission|overwritten|redacted|edited)\b"
)
_OVERWRITTEN = re.compile(
    r"(?is)[<({]?\s*(?:sorry,?\s+(?=(?:(?:this|the|my|your)\s+)?(?:post|comment|content|submission|thread|message)s?\s+(?:was|were|has|have|is|been|removed|deleted)\b))?(?:(?:this|the|my|your|all)\s+)?(?:(?:old|original)\s+)?"
    r"(?:comments?|posts?|contents?|messages?|replies|text|submission|thread|account)?\s*(?:has been|have been|was|were|is|got)?\s*"
    r"(?:mass |automatically |permanently |since )?"
    r"(?:deleted|removed|overwritten|redacted|erased|wiped|unavailable|(?:edited|changed|replaced)(?= in protest))"
    r"(?:\s+and\s+(?:anonymi[sz]ed|overwritten|removed|deleted|edited|replaced|locked|purged|wiped|scrambled))?"
    r"(?:\s*[)>}.!]*\s*\Z|\s+(?:by|with|using|via|at the request of)\s+(?:an? |the |its |their |this "
    r"|reddit|redact|mods?\b|moderat|user\b|author|admin|automod|power|shreddit|me\b)"
    r"|\s+(?:in protest|in response to|to protect|due to|for violat|because of))"
    r"|(?:i have |i've )?(?:chosen to )?overwrit(?:e|ten)\s+(?:this|all|my)\b"
)
UNANSWERABLE_LENGTH = 10_000  # characters: Reddit's own limit for a comment
# Words and surnames that end in "bot" or begin with it. They are taken out of a user name before BOT_NAME is looked for (is_bot_name): the
# first ones wherever they are, since people write "misterrobot" and "johntalbot"; the others at the beginning of a word of the name.
_ANYWHERE = "r[o0]b[o0]t|talb[o0]t|abb[o0]t|turb[o0]t|cab[o0]t|chab[o0]t|burb[o0]t|autob[o0]t"
_AT_WORDS = (
    "barbot|bobot|cibot|corbot|elbot|garbot|gerbot|guibot|herbot|irobot|jabot|jobot|lambot|lebot|libot|lobot|marbot|nabot|rabot|ribot"
    "|sabot|tabot|tarbot|thibot|tibbot"
)
NOT_A_BOT = (
    rf"(?:{_ANYWHERE}|{'|'.join(each[0].upper() + each[1:] for each in _ANYWHERE.split('|'))}|{_ANYWHERE.upper()}|RoBot)s?"
    rf"|(?i:(?:^|[^a-z])(?:{_ANYWHERE}|{_AT_WORDS})s?)|(?:{'|'.join(map(str.capitalize, _AT_WORDS.split('|')))})s?"
    r"|(?i:bott(?:icelli|le|om)|botan(?:y|ist|ical)|botswana)"
)
# What programs work on, and their work. Many people are a "First_Responder", a "PathFinder" or a "Shit_Poster".
_THINGS = (
    "gif", "gfycat", "video", "image", "imgur", "reddit", "subreddit", "link", "url", "wiki", "wikipedia", "tweet", "twitter", "youtube",
    "page", "comment", "post", "thread", "text", "doc", "article", "news", "unit", "metric", "xkcd", "quote", "card", "spoiler",
)  # fmt: skip
_WORKERS = (
    "transcriber", "slower", "reverser", "converter", "stabili[sz]er", "downloader", "summari[sz]er", "notifier", "autoresponder",
    "scraper", "crawler", "archiver", "mirrorer", "rehoster", "unfurler", "linker", "fixer", "fetcher", "aggregator", "corrector",
)  # fmt: skip
# Shapes of bots' user names. A word of the name in small or capital letters; the same within CamelCase; "bot" at the end of small letters
# (autowikibot); at the end, a thing and what a program does with it (gif_slower, LinkFixer).
BOT_NAME = (
    r"(?i:(?:^|[^a-z])(?:b[o0]ts?|chatbot|gpt|chatgpt|llms?|automod|automoderator|mod[_-]?mail|autoreply)(?:[^a-z]|$))"
    r"|(?:B[o0]ts?|Chatbot|AutoMod|AutoModerator|Mod[Mm]ail|Auto[Rr]eply)(?:[^A-Za-z]|[A-Z][a-z]|$)"
    r"|(?:^|[^A-Z])(?:G[Pp][Tt]|L[Ll][Mm]s?)(?:[^A-Za-z]|[A-Z][a-z]|$)"
    r"|(?:B[O0]TS?)(?:[^A-Za-z]|[A-Z][a-z]|$)|(?:B[o0]t)[A-Z]"
    r"|[A-Za-z]b[o0]t(?:[^a-z]|$)"
    rf"|(?:(?i:(?:^|[^a-z])(?:{'|'.join(_THINGS)}))|(?:{'|'.join(map(str.capitalize, _THINGS))}))(?i:s?[^a-z]?(?:{'|'.join(_WORKERS)}))"
    r"[^A-Za-z]*$"
)
# Typical statements of bots, in cleaned text. "I'm not a bot" and "is this a bot?" do not match.
BOT_SAYS_SO = (
    r"(?i)\bI(?:['’]| a)m a (?:\w+ )?bot\b|\baction was performed automatically\b|\bbl?eep,?[ -]?bl?oop\b"
    r"|\bthis bot wants to\b|\blook at my source code\b"
)

LANGUAGE_LETTERS, LANGUAGE_CONFIDENCE = 20, 0.9  # see is_surely_not
# The detector labels some informal English as "pcm" (Nigerian Pidgin); "zxx" means no linguistic content ("AAAASDFGH").
COUNTED_AS_ENGLISH = frozenset({"en", "pcm", "zxx"})

# Texts that a tokenizer would read as control tokens: `<|name|>` of GPT-2 and similar models, `[SEP]` and others of BERT.
_CONTROL = re.compile(r"(<\|)(\\*)([A-Za-z0-9_]+\|>)|(\[)(\\*)((?:SEP|CLS|MASK|PAD|UNK)\])")
# Bidirectional controls, which can reverse a whole terminal line and have no visible text.
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# C0 and C1 controls, including those of escape sequences, but not tab and line feed.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(body: str) -> str:
    """The text on one line and without control characters, safe to print in a terminal.

    >>> printable(" a\\n\\tb \\x1b[31mred")
    'a b [31mred'
    """
    return " ".join(BIDI.sub("", UNPRINTABLE.sub(" ", body)).split())


def words(body: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    >>> words("Don't panic: it's 42!")
    ['don', 't', 'panic', 'it', 's', '42']
    """
    return re.findall(r"\w+", body.lower())


def is_deleted(body: str) -> bool:
    """True for an empty body and for Reddit's placeholders for deleted bodies.

    >>> is_deleted(" [removed] "), is_deleted("I removed it")
    (True, False)
    """
    return re.search(DELETED_BODY, body) is not None


def is_bot_name(author: str) -> bool:
    """True for a user name of the shape that bots' names have.

    >>> [is_bot_name(name) for name in ("haiku_bot", "RemindMeBot", "autowikibot", "gif_slower", "johntalbot", "MisterRobot", "PathFinder")]
    [True, True, True, True, False, False, False]
    """
    return re.search(BOT_NAME, re.sub(NOT_A_BOT, "_", author)) is not None


def fingerprint(body: str) -> str:
    """The sha256 of a body in hexadecimal digits, ignoring differences in white space.

    >>> fingerprint("a  b\\n") == fingerprint("a b"), fingerprint("a b") == fingerprint("ab")
    (True, False)
    """
    return hashlib.sha256(" ".join(well_formed(body).split()).encode()).hexdigest()


def discloses(body: str) -> bool:
    """True for a text that states that a bot wrote it and how to stop it, as in the line below each of the bot's replies.

    >>> discloses("I am a bot. Reply `!stop` and I am gone."), discloses("I am a bot.")
    (True, False)
    """
    return "!stop" in body and re.search(BOT_SAYS_SO, body) is not None


def is_notice(body: str) -> bool:
    """True for a text that must not be answered because it stands in the place of another: a notice of `is_deleted`; at most three words in
    brackets, which may be one in another language; or a sentence that the text was removed, deleted or overwritten, as scripts write it.

    False for an empty body.

    >>> is_notice("*[ Removed by Reddit ]*"), is_notice("[gel\u00f6scht]"), is_notice("This comment was overwritten by a script.")
    (True, True, True)
    >>> is_notice("[edit] a better title"), is_notice("[Reddit removed a button]")
    (False, False)
    """
    if is_deleted(body):
        return bool(body.strip())
    shown = " ".join(unicodedata.normalize("NFKC", html.unescape(body).strip().strip("*_~`^ \t")).split())
    if _SCRIPT.search(shown):
        return True
    if len(shown) > NOTICE_LENGTH:
        return False
    if _BRACKETED.fullmatch(shown) and not _ASIDE.match(shown):
        if len(words(shown)) <= BRACKETED_WORDS or _REMOVED_ELSEWHERE.search(shown):
            return True
        return _OF_A_TEXT.match(shown) is not None and _OVERWRITTEN.match(shown.strip("[ ]")) is not None
    return _OVERWRITTEN.match(shown) is not None


def is_deleted_by_author(notice: str) -> bool:
    """True if a notice states that the author deleted the text, also by a script; False if a moderator or Reddit removed it.

    >>> [is_deleted_by_author(notice) for notice in ("[deleted]", "[ Removed by Reddit ]", "[deleted by a moderator]")]
    [True, False, False]
    """
    return re.search(r"(?i)delet|overwr|redact|gel\u00f6scht|erased|wiped", notice) is not None and not re.search(_BY_MODERATORS, notice)


def clean(body: str) -> str:
    """Convert a Reddit body to plain text on one line, without entities, Markdown, quotes, link targets, images and control characters.

    The result has no leading, trailing or doubled white space. Call it only once: `clean(clean(x)) == clean(x)` does not always hold for
    text that spells out entities (`&amp;amp;`).

    >>> clean("&gt; you said\\n\\nI *agree*, see [this](http://a.b/c) &amp; http://d.e")
    'I agree, see this &'
    """
    return " ".join(markdown.unmarked(body).split())


def readable(body: str) -> str:
    """The cleaned text; empty if it is nothing but a notice in the place of a deleted text.

    >>> readable("**Why?**"), readable("[ Removed by Reddit ]"), readable("[removed by Reddit](/help)")
    ('Why?', '', '')
    """
    plain = clean(body)
    return "" if is_deleted(body) or is_deleted(plain) else plain


def language(body: str) -> str | None:
    """The language of a text (ISO 639-1). None if the text is too short or the detector is not confident.

    >>> language("Das weiß ich leider auch nicht, aber frag doch morgen noch einmal."), language("¡Hola!")
    ('de', None)
    """
    if sum(map(str.isalpha, body)) < LANGUAGE_LETTERS:
        return None
    best, confidence = _language_detector().rank(body)[0]
    if confidence < LANGUAGE_CONFIDENCE:
        return None
    return "en" if best in COUNTED_AS_ENGLISH else str(best)


def is_surely_not(body: str, language: str) -> bool:
    """True if the detector is confident that a text is not in this language. False for texts that are too short.

    Confident means that the three most likely languages, other than this one, have a total probability of at least 0.9; so it does not
    matter whether a text is Russian or Bulgarian. py3langid was selected on 440,000 cleaned replies, nearly all English. Among those with
    at least 20 letters it labels 125 as another language; 6 of these are English with foreign words, one is "AAAHAHA", and none is plain
    English. With a threshold of 0.8 instead, more than half of the additional ones would be wrong. pycld2 labels 294 and fastText's
    lid.176.ftz (threshold 0.8) 276, about half of them English ("She came. You saw. She conquered.", "im already in college lol").

    >>> is_surely_not("Das weiß ich leider auch nicht, aber frag doch morgen noch einmal.", "en"), is_surely_not("¡Hola!", "en")
    (True, False)
    """
    if sum(map(str.isalpha, body)) < LANGUAGE_LETTERS:
        return False
    same = COUNTED_AS_ENGLISH if language == "en" else {language, "zxx"}
    ranked = _language_detector().rank(body)
    return ranked[0][0] not in same and sum(share for name, share in ranked[:3] if name not in same) >= LANGUAGE_CONFIDENCE


@cache
def _language_detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def escape(text: str) -> str:
    """Escape control tokens typed by a user by inserting a backslash into each. `unescape` reverses it.

    >>> escape("a [SEP] b <|endoftext|>")
    'a [\\\\SEP] b <|\\\\endoftext|>'
    """
    return _CONTROL.sub(lambda m: f"{m[1]}\\{m[2]}{m[3]}" if m[1] else f"{m[4]}\\{m[5]}{m[6]}", text)


def unescape(text: str) -> str:
    """Undo `escape`. A control token without a backslash stays unchanged.

    >>> unescape(escape("[SEP] [\\\\SEP]")) == "[SEP] [\\\\SEP]"
    True
    """
    return _CONTROL.sub(lambda m: f"{m[1]}{m[2][1:]}{m[3]}" if m[1] else f"{m[4]}{m[5][1:]}{m[6]}", text)


def format_prompt(comment: str) -> str:
    """The prompt for a generator. It has no trailing space, because GPT-2's tokens include the space before a word.

    >>> format_prompt("Any good books?")
    'Any good books? [SEP]'
    """
    return f"{' '.join(escape(comment).split())} {SEPARATOR}"


def format_training_text(comment: str, reply: str) -> str:
    """The text of one training row, without start and end tokens (the tokenizer or gpt-2-simple's loader adds them).

    >>> format_training_text("Any good books?", "Dune.")
    'Any good books? [SEP] Dune.'
    """
    return f"{format_prompt(comment)} {' '.join(escape(reply).split())}"


def parse_reply(generated: str) -> str:
    """Extract the reply from generated text: everything before a separator or an end token, unescaped and on one line.

    >>> parse_reply(" Dune, [\\\\SEP] and all. [SEP] More")
    'Dune, [SEP] and all.'
    """
    first = re.split(r"\[SEP\]|<\|(?:endoftext|startoftext|im_end|im_start)\|>", generated, maxsplit=1)[0]
    return " ".join(unescape(well_formed(first)).split())


def split_for(thread_id: str) -> str:
    """The split of a thread: train, val or test (90 / 5 / 5), by a stable hash, so that no thread is in two splits.

    >>> split_for("t3_abc"), split_for("t3_abc")
    ('train', 'train')
    """
    bucket = _hash(thread_id) % 100
    return "train" if bucket < 90 else "val" if bucket < 95 else "test"


def half_for(thread_id: str) -> str:
    """The half of a thread: rankers or judge. The hash differs from that of the split, so each split has threads of both halves.

    The judges that evaluate the rankers' choices (evaluate/judges.py) are trained on threads that the rankers have not seen.

    >>> half_for("t3_abc"), half_for("t3_1")
    ('judge', 'rankers')
    """
    return "judge" if _hash("half of " + thread_id) % 2 else "rankers"


def _hash(value: str) -> int:
    """A hash that is the same in every process, unlike Python's `hash`."""
    return int.from_bytes(hashlib.sha256(value.encode("utf-8", "replace")).digest()[:8], "big")
