"""bot.conduct.rendered: plain text stays plain, and links, pings and images are detected as Reddit renders them."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bot.conduct.rendered import as_plain_markdown
from bot.config import DISCLOSURE

COMMONMARK = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
COMMONMARK.validateLink = lambda url: True  # type: ignore[method-assign]
MARKS = [
    "a", "b c", "12", " ", "  ", "\n", "\n\n", "\t", "#", ">", ">!", "!<", "-", "--", "---", "+", "*", "**", "***", "_", "__", "`",
    "``", "```", "~", "~~", "~~~", "(", ")", "[", "]", "[x]", "](y)", ": ", "/x", "!", "\\", "&", "&lt;", "&#35;", "<", "<b>", "-->",
    "|", "|-|", "a|b", ":-", "=", "===", "1.", "2)", "10. x", "* ", "- ", "+ ", "é", "😀", "_a_", "*a*", "`a`", "x_y_z", ".", '"', "{",
    "^",
]  # fmt: skip


def as_shown(markdown: str) -> tuple[str, set[str]]:
    """The visible text, with single spaces, and the names of all tags except line breaks and paragraphs."""
    page = re.sub(r"<br ?/?>\n?", "\n", COMMONMARK.render(markdown).replace("\n<p>", "\n\n<p>"))
    tags = set(re.findall(r"<(?!/?p>)/?(\w+)", page))
    return visible(html.unescape(re.sub(r"</?p>", "", page))), tags


def visible(text: str) -> str:
    lines = "\n".join(" ".join(line.split()) for line in text.strip().splitlines())
    return re.sub(r"\n{2,}", "\n\n", lines)


@settings(max_examples=400)
@given(text=st.lists(st.sampled_from(MARKS), min_size=1, max_size=10).map("".join))
@example("1984. A good year.")
@example("#1 on the list\n===\nand -\n-|-\n:-")
@example("```\nnobody closes this")
@example("[a]: /x")
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    if not visible(text):
        return
    shown, tags = as_shown(as_plain_markdown(text))
    assert (shown, tags) == (visible(text), set())


@settings(max_examples=200)
@given(text=st.lists(st.sampled_from(MARKS), min_size=1, max_size=10).map("".join))
def test_no_markup_extends_to_the_line_below(text: str) -> None:
    page = COMMONMARK.render(f"{as_plain_markdown(text)}\n\n{DISCLOSURE}")
    assert page.endswith(COMMONMARK.render(DISCLOSURE))


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("2^10 books", r"2\^10 books"),  # marks of Snudown that are not in CommonMark
        ("#2 of them", r"\#2 of them"),
        (">!it was him!<", r"\>!it was him!<"),
        ("~~no~~", r"\~\~no\~\~"),
        ("=====", "&#61;===="),
        ("one\ntwo\n\n\nthree", "one  \ntwo\n\nthree"),
        ("snake_case_names, 3 * 4 < 13 & a^ or ~5 [edit] typo!", "snake_case_names, 3 * 4 < 13 & a^ or ~5 [edit] typo!"),
        ("an ordinary sentence (with a note), isn't it? 1984 was long ago - yes.", None),
    ],
)
def test_only_marks_are_escaped(text: str, markdown: str | None) -> None:
    assert as_plain_markdown(text) == (markdown or text)
