"""rendered: how Reddit renders the markdown of a text.

    as_plain_markdown   escapes a text so that Reddit shows it unchanged; used by `submit`
    becomes             whether Reddit turns part of a text into a ping, an image or a link; used by `may_say`

Comments are shown by two renderers: Snudown (old Reddit, github.com/reddit/snudown) and one that follows CommonMark (new Reddit and the
apps). A character is escaped if either of them would interpret it; unnecessary escapes are invisible to the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from bot.conduct import hosts, letters

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# Characters that are markup only in pairs: a single one in a paragraph is shown unchanged.
_PAIRED = tuple(re.compile(re.escape(mark) + "+") for mark in "*_`~")
_BETWEEN_LETTERS = re.compile(r"(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])")
# Each match is markup, and a backslash is put before it.
_LIVE = re.compile(
    r"\\(?=[!-/:-@\[-`{-~]|$)"  # a backslash that would escape what follows
    r"|\^(?=\S)"  # superscript
    r"|>(?=[>!])|(?<=>)>"  # spoiler, and what Snudown interprets as bold
    r"|&(?=#?\w+;)"  # entity
    r"|<(?=[A-Za-z0-9/!?])"  # HTML, <http://…>
    r"|^>"  # quote
    r"|^#|^:(?=-|$)"  # heading, delimiter row of a table
    r"|^[-+*](?=\s|$)"  # item of a list
    r"|^([-_*])(?=(?:[ \t]*\1){2,}[ \t]*$)|^-(?=-*$)"  # ruler, heading
    r"|^(?:`{3}|~{3})",  # fence
    re.MULTILINE,
)
_NUMBERED = re.compile(r"^(\d+)(?=[.)](?:\s|$))", re.MULTILINE)  # the backslash goes before the dot
_UNDERLINE = re.compile(r"^=(?==*+\s*$)", re.MULTILINE)  # turns the line above into a heading; Snudown cannot escape it
_TABLE_RULE = re.compile(r"^[|:-]", re.MULTILINE)
_BRACKET_PAIR = re.compile(r"\]\s*[\[(:]")  # [text](target), [text][label], [label]: target


def as_plain_markdown(text: str) -> str:
    r"""Markdown that Reddit shows as `text`, with the same lines and paragraphs and every character unchanged.

    White space at the ends of lines, runs of spaces and repeated blank lines are not preserved, since HTML does not show them. Links that
    Reddit makes without markup (a bare host, u/somebody) cannot be escaped; `may_say` refuses them.

    >>> as_plain_markdown("1984. I read it *twice*\n# and_more")
    '1984\\. I read it \\*twice\\*  \n\\# and_more'
    """
    paragraphs = re.split(r"\n\s*\n", "\n".join(" ".join(line.split()) for line in text.strip().splitlines()))
    return "\n\n".join(_escaped(paragraph).replace("\n", "  \n") for paragraph in paragraphs)


def _escaped(paragraph: str) -> str:
    """Escape one paragraph whose lines have no trailing white space."""
    marked = {match.start() for match in _LIVE.finditer(paragraph)}
    marked |= {match.end() for match in _NUMBERED.finditer(paragraph)}
    for mark in _PAIRED:
        runs = list(mark.finditer(paragraph))
        if mark is _PAIRED[1] and not re.search("_", _BETWEEN_LETTERS.sub("", paragraph)):
            continue  # snake_case_names
        if len(runs) > 1 or any(paragraph[run.start() - 1 : run.start()] in ("", "\n") and len(run[0]) > 2 for run in runs):
            marked.update(place for run in runs for place in range(*run.span()))
    if _BRACKET_PAIR.search(paragraph):
        marked.update(match.start() for match in re.finditer(r"[\[\]]", paragraph))
    if _TABLE_RULE.search(paragraph):
        marked.update(match.start() for match in re.finditer(r"\|", paragraph))
    entities = {match.start() for match in _UNDERLINE.finditer(paragraph)}
    return "".join("&#61;" if at in entities else f"\\{each}" if at in marked else each for at, each in enumerate(paragraph))


# --- links, pings, images -----------------------------------------------------------------------------------------------------


class Becomes(Enum):
    PING = "ping"
    IMAGE = "image"
    LINK = "link"


# What Snudown accepts as the target of a link (autolink.c, sd_autolink_issafe).
_SAFE = re.compile(r"(?i)(?:[a-z][a-z0-9+.-]*:|/|#)")
# Snudown is less strict than CommonMark: it allows white space before a target, spaces in it, and words after a definition.
_GAP = re.compile(r"\][ \t]*\n?[ \t]*(?=\(|\[(?![^\[\]]*\]:))")
_TARGET = re.compile(r"\]\(\s*((?:[a-z][a-z0-9+.-]{0,15}:|/|#)[^()\n]*)\)", re.IGNORECASE)
_DEFINITION = re.compile(r"(?m)^( {0,3}\[[^\]\n]+\]:\s*\S+)[^\n]*$")
_TAG = re.compile(r"<(?:(a)|img|video|audio|picture|iframe|embed|object|svg)\b", re.IGNORECASE)
# u/somebody, /r/somewhere as in Snudown (sd_autolink__username, sd_autolink__subreddit), /user/somebody as on new Reddit, and the same with
# capitals or spaces. In Snudown a character that is not ASCII, such as a dash, must not precede; other renderers may be less strict.
_PING = re.compile(
    r"(?i)(?:/|(?<![^\W_]))(?:u/[\w-]|r/(?:t:[a-z0-9]|[a-z0-9]\w))"
    r"|(?:/|(?<!\w))user/\w"
    r"|(?<!\w)[ur](?: /|/ | / )\s*\w{3}"
)
_IMAGE_NAME = re.compile(
    r"(?i)!\s?\[\s?(?:gif|img|image|emote)\b|\b(?:giphy|tenor|imgur)\s?(?:\||slash\b)\s?\w|\[(?:gif|img|emote)\]"
    r"|(?<!\w):[a-z][a-z0-9_]+:(?!\w)"
)
_EMAIL = re.compile(r"[A-Za-z0-9.+_-]@[A-Za-z0-9_-]*\.[\s\S]")  # Snudown takes the end of a sentence for a dot of the address


def becomes(text: str) -> Becomes | None:
    r"""What Reddit turns a part of the text into, or None. A ping takes precedence over an image, and an image over a link.

    Both the text and its visible form (letters.latin) are examined, since the two renderers resolve escapes in different orders.

    >>> becomes("ask _u/inky_quill_"), becomes("[a][b]\n\n[b]: #x"), becomes("![gif](giphy|abc)"), becomes("foo[0](x) and s/he")
    (<Becomes.PING: 'ping'>, <Becomes.LINK: 'link'>, <Becomes.IMAGE: 'image'>, None)
    """
    result = {each for reading in dict.fromkeys((text, letters.visible(text), letters.latin(text))) for each in _all(reading)}
    return next((each for each in Becomes if each in result), None)


def _all(text: str) -> Iterator[Becomes]:
    """Everything that one form of the text contains."""
    tokens = [child for token in _parse(text) for child in (token, *(token.children or ()))]
    shown = "".join("\n" if token.type.endswith("break") else token.content for token in tokens if token.type in _TEXT)
    for reading in (text, shown):
        if _PING.search(reading):
            yield Becomes.PING
        if _IMAGE_NAME.search(reading):
            yield Becomes.IMAGE
        if _EMAIL.search(reading) or hosts.has_address(reading):
            yield Becomes.LINK
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "image":
            yield Becomes.IMAGE
        elif token.type == "html_inline" or token.type == "html_block":
            if tag := _TAG.search(token.content):
                yield Becomes.LINK if tag[1] else Becomes.IMAGE
        elif token.type == "link_open" and _is_link(str(token.attrs["href"]), before, tokens[tokens.index(token) + 1]):
            yield Becomes.LINK


_TEXT = frozenset(["text", "code_inline", "softbreak", "hardbreak", "code_block", "fence", "html_inline", "html_block"])


def _is_link(target: str, before: Token | None, inside: Token) -> bool:
    """Whether Reddit makes a link: always if Snudown accepts the target; otherwise new Reddit may, except for foo[0](x) and [1] (page)."""
    index = before is not None and before.type == "text" and before.content[-1:].isalnum()
    return bool(_SAFE.match(target)) or not (index or inside.content.isdigit())


def _parse(text: str) -> list[Token]:
    text = _TARGET.sub(lambda match: f"]({'%20'.join(match[1].split())})", _GAP.sub("]", text))
    return _parser().parse(_DEFINITION.sub(r"\1", text))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True}).enable(["strikethrough", "table"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    return parser
