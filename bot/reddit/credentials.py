"""Check credentials before anything is sent, for characters that Reddit's credentials never contain and for two-factor codes.

    if problem := fault(client.config): raise NoPermission(problem)

Messages never contain the value, only the invalid character.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

PATTERNS = {"client_id": r"[\w-]+", "client_secret": r"[\w-]+", "refresh_token": r"[\w.~-]+", "username": r"[\w-]{3,20}"}
# Plain quotation marks, and those that word processors and phones replace them by.
QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"


def fault(config: Any) -> str:
    """What is wrong with the credentials of a PRAW configuration, and what to do; empty if no fault is detected.

    >>> from types import SimpleNamespace
    >>> fault(SimpleNamespace(client_id="\u201cid\u201d"))
    'praw_client_id: contains \u201c (LEFT DOUBLE QUOTATION MARK), which is never part of it; write the value without quotes or spaces'
    """
    for name, pattern in PATTERNS.items():
        value = getattr(config, name, None)
        if not isinstance(value, str) or not value or re.fullmatch(pattern, value, re.ASCII):
            continue
        if name == "username" and re.match(r"/?u/", value):
            return "praw_username: begins with u/; write the name alone"
        if wrong := re.search(r"[^\w.~-]" if name == "refresh_token" else r"[^\w-]", value, re.ASCII):
            return f"praw_{name}: contains {_called(wrong[0])}, which is never part of it; write the value without quotes or spaces"
        return f"praw_{name}: is not 3 to 20 letters, digits, _ and -"
    password = getattr(config, "password", None)
    if not isinstance(password, str) or not password:
        return ""
    if password != password.strip() or re.search(r"[\r\n\x00]", password):
        return "praw_password: begins or ends with a space, or contains a line break; remove it"
    if len(password) > 1 and password[0] in QUOTES and password[-1] in QUOTES:
        return f"praw_password: is in quotation marks ({_called(password[0])}); remove them"
    if re.search(r":\d{6}$", password):
        return (
            "praw_password: ends in a two-factor code, which works only once, but each stage logs in again; such an account needs"
            " praw_refresh_token instead of praw_username and praw_password"
        )
    return ""


def _called(character: str) -> str:
    """
    >>> _called("\u201d"), _called(" ")
    ('\u201d (RIGHT DOUBLE QUOTATION MARK)', 'SPACE')
    """
    name = unicodedata.name(character, "")
    return f"{character} ({name})" if name and character.isprintable() and character != " " else name or f"U+{ord(character):04X}"
