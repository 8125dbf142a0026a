"""rendered: what Reddit's markdown makes of a text.

    as_plain_markdown   the markdown that Reddit shows as exactly the text; used by `submit`

Two renderers show comments: Snudown (old Reddit, github.com/reddit/snudown) and one that follows CommonMark (new Reddit and the apps). A
character is escaped where either of them would read it as a mark; escaping what is none changes nothing for the reader.
"""

from __future__ import annotations

import re

# Marks that need a partner: one alone in a paragraph is shown as it is.
_PAIRED = tuple(re.compile(re.escape(mark) + "+") for mark in "*_`~")
_BETWEEN_LETTERS = re.compile(r"(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])")
# Each match is a mark and gets a backslash before it.
_LIVE = re.compile(
    r"\\(?=[!-/:-@\[-`{-~]|$)"  # a backslash that would escape what follows
    r"|\^(?=\S)"  # raised
    r"|>(?=[>!])|(?<=>)>"  # spoiler, and what Snudown takes for bold
    r"|&(?=#?\w+;)"  # entity
    r"|<(?=[A-Za-z0-9/!?])"  # HTML, <http://…>
    r"|^>"  # quote
    r"|^#|^:(?=-|$)"  # heading, rule of a table
    r"|^[-+*](?=\s|$)"  # item of a list
    r"|^([-_*])(?=(?:[ \t]*\1){2,}[ \t]*$)|^-(?=-*$)"  # ruler, heading
    r"|^(?:`{3}|~{3})",  # fence
    re.MULTILINE,
)
_NUMBERED = re.compile(r"^(\d+)(?=[.)](?:\s|$))", re.MULTILINE)  # the backslash stands before the dot
_UNDERLINE = re.compile(r"^=(?==*+\s*$)", re.MULTILINE)  # makes a heading of the line above; Snudown can't escape it
_TABLE_RULE = re.compile(r"^[|:-]", re.MULTILINE)
_BRACKET_PAIR = re.compile(r"\]\s*[\[(:]")  # [text](target), [text][label], [label]: target


def as_plain_markdown(text: str) -> str:
    r"""Markdown that Reddit shows as `text`: lines stay lines, paragraphs stay paragraphs, every mark is shown as the character it is.

    White space at the ends of lines, runs of spaces and more than one blank line in a row are not kept: HTML shows none of them. Links that
    Reddit makes without any mark (a bare host, u/somebody) can't be escaped; `may_say` refuses them.

    >>> as_plain_markdown("1984. I read it *twice*\n# and_more")
    '1984\\. I read it \\*twice\\*  \n\\# and_more'
    """
    paragraphs = re.split(r"\n\s*\n", "\n".join(" ".join(line.split()) for line in text.strip().splitlines()))
    return "\n\n".join(_escaped(paragraph).replace("\n", "  \n") for paragraph in paragraphs)


def _escaped(paragraph: str) -> str:
    """One paragraph, its lines without white space at their ends."""
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
