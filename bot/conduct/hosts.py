"""hosts: does a text contain a web address, including one without http:// or with disguised dots?

A name with a dot (Etsy.com, node.js, great.It was) does not count by itself. It counts if it directs readers there: «see etsy.com», a path,
a port, www., a hyphen in the name. The public suffix list (publicsuffixlist) decides which last labels exist.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from bot.conduct.language import frequency

# Schemes with two slashes, and those that need none.
_SCHEME = re.compile(
    r"(?i)(?<![a-z])[a-z][a-z0-9+.-]{1,15}://\S"
    r"|(?<![a-z])(?:https?|hxxps?|ftps?|mailto|tel|sms|magnet|javascript|vbscript|skype|whatsapp|bitcoin|steam|irc)\s?:(?=[\w+?/])"
    r"|(?<![\w:])//(?:www\.)?\w[\w-]{0,62}\.\w"
    r"|(?<![^\W_])www\d{0,3}(?:\.[\s\S]|\s\.\s?\w)"
    r"|(?<![a-z])data:\w+/|(?<!\w)www [\w-]{2,63} (?:com|net|org)\b"
)
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_DOTTED = re.compile(rf"(?<![\w.@-])((?:{_LABEL}\.){{1,4}})([^\W\d_]{{2,24}})(?![\w@-])(:\d|/\w)?")
# (.) [.] -dot- • 。: these do not occur between ordinary words.
_HIDDEN_DOT = re.compile(
    rf"(?i)(?<![\w-])({_LABEL})\s?(?:[(\[{{<]\s?(?:\.|dot|punkt|punto|point)\s?[)\]}}>]|-(?:dot|point)-"
    rf"|[•·。．｡∙⋅])\s?([a-z]{{2,24}})(?![\w-])"
)
# « . », «, », « dot » are ordinary text, unless the name is not a word or the reader is directed there.
_SPOKEN_DOT = re.compile(rf"(?i)(?<![\w-])({_LABEL})(?:\s\.\s|,| (?:dot|point|punkt|punto) |\. )([a-z]{{2,24}})(?![\w-])")
_SENT_THERE = re.compile(
    r"(?i)(?:\b(?:see|visit|check(?: out)?|go(?:ing)? to|goto|look(?:ing)? at|head (?:over )?to|click(?: on)?|browse|open|find (?:it"
    r"|them|me) (?:at|on)"
    r"|link|site|website|homepage|order (?:at|from|on)|buy (?:it |them )?(?:at|from|on)|via|download (?:it )?(?:at|from)"
    r"|sign up (?:at|on)|register (?:at|on))"
    r"[:,]?(?: (?:the|my|our|this|on|at))?)\s*$"
)
_TRIED = re.compile(r"(?i)\b(?:try|google|use|at|on|from|called)\s$")  # before a name that is not a word
_CAMEL = re.compile("[a-z][A-Z]")
COMMON = 5  # Zipf frequency of words that begin sentences: «BookTok.It is wild»
# Last labels that are not used as words after a dot.
_ALWAYS = frozenset(["com", "net", "org", "edu", "gov", "info", "biz", "xyz", "onion", "icu", "club", "online"])
# Words that are last labels after a name that is not a word.
_AFTER_NAMES = frozenset(
    ["app", "blog", "dev", "link", "live", "news", "page", "shop", "site", "space", "store", "tech", "website", "world"]
)


def has_address(text: str) -> bool:
    """
    >>> [has_address(each) for each in ("see cheap-keys.it", "http://a.example", "look at cheap-keys dot shop", "example[.]com")]
    [True, True, True, True]
    >>> [has_address(each) for each in ("go to CheapKeys.Io", "EXAMPLE.COM")]
    [True, True]
    >>> [has_address(each) for each in ("great.It was fun", "Etsy.com or the market?", "node.js", "i.e. this", "the dot com era")]
    [False, False, False, False, False]
    """
    return bool(
        _SCHEME.search(text)
        or any(_is_address(text, match) for match in _DOTTED.finditer(text))
        or any(exists(match[2]) for match in _HIDDEN_DOT.finditer(text))
        or any(_is_spoken_address(text, match) for match in _SPOKEN_DOT.finditer(text))
    )


def _is_address(text: str, match: re.Match[str]) -> bool:
    name, last = match[1].rstrip("."), match[2]
    if last == "NET" and name in ("ASP", "VB", "ADO"):
        return False
    is_camel = _CAMEL.search(name) is not None and frequency(name.lower()) == 0  # CheapKeys.com
    if not exists(last) or (last.istitle() and not (is_camel and frequency(last.lower()) < COMMON)):
        return False  # «great.It was»
    if match[3] or _is_sent(text, match.start()):
        return True
    if "-" in name or any(map(str.isdigit, name)) or ("." in name and exists(f"{name.rpartition('.')[2]}.{last}")):
        return True
    if name == name.lower() and frequency(name) == 0 and _TRIED.search(text[max(0, match.start() - 20) : match.start()]):
        return True
    if not is_camel and name not in (name.lower(), name.upper()):
        return False  # Etsy.com
    return last.lower() in _ALWAYS or (last.lower() in _AFTER_NAMES and frequency(name.lower()) == 0)


def _is_spoken_address(text: str, match: re.Match[str]) -> bool:
    name, last = match[1], match[2]
    if not exists(last):
        return False
    odd = "-" in name or (any(map(str.isdigit, name)) and not name.isdigit())
    odd = odd or (last in _ALWAYS and frequency(name.lower()) == 0)
    if "," in match[0]:
        return odd and _is_sent(text, match.start()) and text[match.end() : match.end() + 1] in ("", " ", ".", "/")
    if ". " in match[0][:-1] and " . " not in match[0]:
        return odd and _is_sent(text, match.start()) and last in _ALWAYS
    return _is_sent(text, match.start()) or odd


def _is_sent(text: str, place: int) -> bool:
    return bool(_SENT_THERE.search(text[max(0, place - 40) : place]))


@cache
def exists(last: str) -> bool:
    """True for a public suffix of host names, such as com or co.uk."""
    last = last.lower()
    return last in ("onion", "example") or _suffixes().publicsuffix(f"a.{last}", accept_unknown=False) == last


@cache
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(only_icann=True)
