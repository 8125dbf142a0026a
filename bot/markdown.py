"""Reddit's Markdown -> the text that readers see. Pure functions.

`unmarked` removes entities, marks, quotes, link targets and images. It serves training and inference alike (`text.clean`). Where CommonMark
and Reddit's old renderer differ, the text of either is fine. Every step takes linear time.
"""

from __future__ import annotations

import html
import html.entities
import re
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and C1 controls except tab and newline: tokenizers have not seen them and some CSV readers fail on them. Reddit's editor puts a
# zero-width space into every blank line.
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\ufeff]")

# The target of a link or an image: (https://example.org/a_(b) "title"), with any of the three quotes of titles, or (<a b>).
_TITLE = r"(?:\"[^\"\n]*\"|'[^'\n]*'|\([^()\n]*\))"
_TARGET = rf"\([ \t]*+(?:<[^<>\n]*>|(?:[^()\s]|\([^()\s]*\))*+)(?:[ \t]++{_TITLE})?+[ \t]*+\)"
_LABEL = r"\[([^\[\]]*+(?:\[[^\[\]]*+\][^\[\]]*+)*+)\]"


def _patterns(*rows: tuple[str, str, str]) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    return tuple((mark, re.compile(pattern), plain) for mark, pattern, plain in rows)


# An entity with its semicolon. (`html.unescape` alone would also replace the start of `&sectors`.)
_ENTITY = re.compile(r"&(?:#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6})|[A-Za-z][A-Za-z0-9]{1,31});")
# What escaping writes. All other entities were typed, so their characters are no marks: &#42;this&#42;. People type &gt; too, but dumps of
# some months escape twice, and there &amp;gt; begins a quote; it is taken for one.
_ESCAPES = frozenset({"&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#39;", "&#x27;", "&#34;"})
# Code and escaped characters are shielded first: their spaces and ASCII punctuation are replaced by lone surrogates, which no text has, so
# that nothing in them is a mark, and are put back at the end.
_SHIELD = {ord(mark): 0xDC00 + ord(mark) for mark in " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}
_UNSHIELD = {shield: mark for mark, shield in _SHIELD.items()}
_UNSHIELDED = frozenset(map(chr, _UNSHIELD))
_SHIELDED = re.compile("[\udc00-\udc7f]")
_SPACES = {ord(blank): _SHIELD[32] for blank in "\t\n\r"}
_ESCAPED_OR_TICKS = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~>^|<&:\"'])|\\(?=\n[ \t]*+\S)|`+")
_MARKERS = r"(?:(?:[*+-]|\d{1,9}[.)])[ \t]+)"  # of list items
_FENCE = re.compile(rf"([ \t]*{_MARKERS}*+)(`{{3,}}(?=[^`]*$)|~{{3,}})(.*)")
_FENCE_END = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*")
_ONE_WORD = re.compile(r"[ \t]*[\w+#.-]*[ \t]*")
_INDENTED = re.compile(r"(?:    | {0,3}\t)")
_LIST_ITEM = re.compile(r"[ \t]*(?:[*+-]|\d{1,9}[.)])(?:[ \t]|$)")
_QUOTED = re.compile(rf"([ \t]*{_MARKERS}*+(?:>(?!!)[ \t]*+(?=>(?!!))|>(?!!) ?)+)(.*)")

# Then Reddit's Markdown in the order in which it is removed: a mark that every match contains, the pattern, and the replacement. Quotes and
# spoilers are removed first, emphasis after the blocks.
_QUOTE_MARKS = re.compile(rf"[ \t]*{_MARKERS}*+(?:>(?!!)[ \t]*)+")
_QUOTE = re.compile(rf"(?m)^[ \t]*{_MARKERS}*+>(?!!)")
_NO_PARAGRAPH = re.compile(r"#{1,6}(?:[ \t]|$)|(?:[*_-][ \t]*){3,}$|[ \t]*(?:[*+-]|\d{1,9}[.)])[ \t]|[ \t]*>!")  # begins another block
_DEFINITION = re.compile(  # of a reference link: [label]: target "title"
    r"(?m)(^[ \t]*\n|\A)?^ {0,3}\[([^\[\]\n]+)\]:[ \t]*+(?:\n[ \t]*+)?(<[^<>\n]*>|[^\s<]\S*+)"
    rf"(?:[ \t]++{_TITLE})?+[ \t]*+(?:\n|\Z)"
)
_REFERENCE = re.compile(rf"!?{_LABEL}(?: ?\[([^\[\]]*+)\])?(?!\()")
_RAISED = re.compile(r"(?<![\w)^])\^++\(|[()]|\n[ \t]*\n")
_BLOCKS = _patterns(
    ("![", r"!\[(?:img|gif)\]" + _TARGET, " "),  # Reddit's own name for an uploaded image, an emote or a GIF
    ("![", "!" + _LABEL + _TARGET, r"\1"),  # images and links: keep the text; an image may be the text of a link
    ("](", _LABEL + _TARGET, r"\1"),
    ("<http", r"<https?://[^\s<>]++>", " "),
)
_LINES = _patterns(
    ("=", r"(?m)(?<=\S)[ \t]*\n {0,3}=+[ \t]*$", "\n"),  # the line below a heading
    ("", r"(?m)^[ \t]*(?:[*_-][ \t]*){3,}$", " "),  # rulers
    ("", r"(?m)^[ \t]*(?:(?:[*+-][ \t]+)++(?:#{1,6}[ \t]+)?|#{1,6}[ \t]+)", "\n"),  # headings, bullets
)
_LINE_MARK = re.compile("[#*+=_-]")
_HEADING = re.compile(r"(?m)^[ \t]*(?:[*+-][ \t]+)?#{1,6}[ \t].*#[ \t]*$")
# An address is replaced by a lone surrogate, which no text has, so that the marks around it are seen: **http://a.b**, (http://a.b).
_ADDRESS = re.compile(r"(?:https?://|(?<!\w)www\.)\S+")
_ADDRESS_END = ".,:;!?*_~\"')]"
_OPENED_BY = {")": "(", "]": "[", **{mark: mark for mark in "*_~\"'"}}
_NO_ADDRESS = "\udfff"
_LEFT_EMPTY = re.compile(r"\((?:\s*\udfff)++\s*\)|\[(?:\s*\udfff)++\s*\]|\"(?:\s*\udfff)++\s*\"|\udfff(?![)\]])")
_AT_END = re.compile(r"\s?\udfff(?=[)\]])")
_RAISED_WORD = _patterns(("^", r"(?<![^\s(])\^++(?=[^\W_][^\s^]*+(?:\s|$))", ""))  # ^this, but not 2^6 and ^_^


_EMPHASIS = re.compile(r"\*+|_+|~~+|\n[ \t]*\n")
_TABLE_RULE = re.compile(r"(?m)^(?=[^\n|]*+\|)(?=[^\n-]*+-)[|: \t-]++$")  # the line below a table header: |:-|-:|


def well_formed(text: str) -> str:
    """Replace lone surrogates by U+FFFD, so that the text can be encoded as UTF-8.

    >>> well_formed("a\\ud800b") == "a\\ufffdb"
    True
    """
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def unmarked(body: str, quotes: bool = False) -> str:
    """Like `text.clean`, but keeps lines and white space. quotes: keep quoted lines.

    >>> unmarked("> you said\\n\\nI *agree*", quotes=True)
    'you said\\n\\nI agree'
    """
    text = _CONTROL_CHARACTERS.sub(" ", _unescape(well_formed(body)).replace("\r", "\n"))
    if "`" in text or "~~~" in text or "    " in text or "\t" in text:
        text = _shield_blocks(text)
    if "`" in text or "\\" in text:
        text = _shield_spans(text)
    if "&amp;" in body:  # old dumps escape twice, and people write entities
        text = _CONTROL_CHARACTERS.sub(" ", _unescape(text))
    if ">" in text:
        if _QUOTE.search(text):
            text = _unquote(text, quotes)
        text = _reveal(text)
    if "]:" in text:
        text = _resolve_references(text)
    text = _replace(text, _BLOCKS)
    if "http" in text or "www." in text:
        text = _ADDRESS.sub(_without_address, text)
    if "#" in text:
        text = _HEADING.sub(_unclosed, text)
    if _LINE_MARK.search(text):
        text = _replace(text, _LINES)
    if "*" in text or "_" in text or "~~" in text:
        text = _unemphasize(text)
    if "^(" in text:
        text = _lower(text)
    text = _replace(text, _RAISED_WORD)
    if "|" in text and _TABLE_RULE.search(text):
        text = _TABLE_RULE.sub(" ", text).replace("|", " ")
    if text.isascii():
        return text
    if _NO_ADDRESS in text:
        text = _AT_END.sub("", _LEFT_EMPTY.sub(" ", text))
    return text.translate(_UNSHIELD) if _SHIELDED.search(text) else text


def _unescape(text: str) -> str:
    """Replace entities that have their semicolon, and shield the characters of those that were typed.

    >>> _unescape("&lt;b&gt; &#x41; fish&sectors &notit;")
    '<b> A fish&sectors &notit;'
    """
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    body = entity[0]
    character = html.unescape(body) if body[1] == "#" else html.entities.html5.get(body[1:], body)
    return character if body in _ESCAPES or character is body else character.translate(_SPACES).translate(_SHIELD)


def _unclosed(heading: re.Match[str]) -> str:
    """A heading without the marks at its end: # so #. Those of "# C#" are a part of it."""
    line = heading[0].rstrip(" \t")
    shorter = line.rstrip("#")
    return shorter if shorter[-1:] in (" ", "\t") and shorter.strip(" \t#*+-") else line


def _without_address(match: re.Match[str]) -> str:
    """What replaces an address: a placeholder, and the marks at its end that belong to the text around it: (see http://a.b)."""
    address = match[0].rstrip(_ADDRESS_END)
    tail = match[0][len(address) :]
    before = match.string[max(0, match.start() - 200) : match.start()] if tail else ""
    kept = []
    for opened, closed in ("()", "[]"):  # https://example.org/a_(b)
        if opened in address:
            tail = tail.replace(closed, "", max(0, address.count(opened) - address.count(closed)))
    for mark in tail:
        opened = _OPENED_BY.get(mark, "")
        if opened and before.rfind(opened) > (before.rfind(mark) if opened != mark else -1):
            kept.append(mark)
    return _NO_ADDRESS + "".join(kept)


def _shield_blocks(text: str) -> str:
    lines = text.split("\n")
    _shield_lines(lines)
    return "\n".join(lines)


def _shield_lines(lines: list[str]) -> bool:
    """Shield the lines of fenced and indented code, also in quotes and lists, and remove the fences. True if the last line is code.

    Fences may have any text behind them (https://spec.commonmark.org/0.31.2/#fenced-code-blocks); one with more than a word must be closed,
    because old Reddit shows such a text.
    """
    fence, width = "", 0  # the marks of the open fence, and the indentation of the list item that it is in
    content, open_paragraph, code = 0, False, False  # content: the indentation of the list item, 0 outside of lists
    longest: dict[str, list[int]] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        indent = len(line) - len(line.lstrip(" \t"))
        if fence and line.strip() and indent < width:
            fence = ""  # the list item ends
        item = _LIST_ITEM.match(line)
        code = True
        if fence:
            end = _FENCE_END.fullmatch(line)
            if end and end[1].startswith(fence) and (width or not _INDENTED.match(line)):
                lines[number], fence, open_paragraph, code = "", "", False, False
            else:
                lines[number] = line.translate(_SHIELD)
        elif not line.strip():
            open_paragraph = code = False
        elif not open_paragraph and not content and _INDENTED.match(line):
            lines[number] = line.translate(_SHIELD)
        elif ">" in line and _QUOTED.match(line):
            content = _offset(item, line) if item else content if open_paragraph or indent else 0
            end_of_quote, code = _shield_quote(lines, number)
            open_paragraph = not code and bool(lines[end_of_quote - 1].strip("> \t"))
            number = end_of_quote - 1
        elif ("```" in line or "~~~" in line) and (opened := _fence(lines, number, longest)) and (content or not _INDENTED.match(line)):
            content = len(opened[1]) if item else content if indent >= content else 0
            lines[number], fence, width = opened[1], opened[2], content
        elif item and (content or not _INDENTED.match(line)):
            content, open_paragraph, code = _offset(item, line), True, False
        else:
            content = content if open_paragraph or indent else 0
            open_paragraph, code = True, False
        number += 1
    return code


def _offset(item: re.Match[str], line: str) -> int:
    """The indentation of the text of a list item."""
    return len(line) - len(line[item.end() :].lstrip(" \t"))


def _fence(lines: list[str], number: int, longest: dict[str, list[int]]) -> re.Match[str] | None:
    """The match of a line that opens a fence. longest: the longest end of a fence below each line, by mark."""
    opened = _FENCE.fullmatch(lines[number])
    if opened is None or _ONE_WORD.fullmatch(opened[3]):
        return opened
    mark = opened[2][0]
    if mark not in longest:
        ends = [len(end[1]) if (end := _FENCE_END.fullmatch(line)) and end[1][0] == mark else 0 for line in lines]
        longest[mark] = list(accumulate(reversed(ends), max))[::-1]
    below = longest[mark][number + 1 :][:1]
    return opened if below and below[0] >= len(opened[2]) else None


def _shield_quote(lines: list[str], begin: int) -> tuple[int, bool]:
    """`_shield_lines` of the quoted lines from `begin`: the number of the line after them, and whether the last one is code."""
    quoted = []
    for line in lines[begin:]:
        if ">" not in line or not (match := _QUOTED.match(line)):
            break
        quoted.append((match[1], match[2]))
    inner = [line for _, line in quoted]
    code = _shield_lines(inner)
    end = begin + len(quoted)
    lines[begin:end] = [marks + line for (marks, _), line in zip(quoted, inner, strict=True)]
    if code:
        lines[end - 1] += "\n>"  # ends the quote: the line below it doesn't belong to the code
    return end, code


def _shield_spans(text: str) -> str:
    """Shield escaped characters and code between backticks, and remove the backslashes and backticks. A span ends at a run of backticks of
    the same length in the same paragraph (https://spec.commonmark.org/0.31.2/#code-spans)."""
    runs: dict[int, list[int]] = {}
    for run in re.finditer("`+", text):
        runs.setdefault(len(run[0]), []).append(run.start())
    breaks = [each.start() for each in re.finditer(r"\n[ \t]*\n", text)] if runs else []
    kept, done = [], 0
    while match := _ESCAPED_OR_TICKS.search(text, done):
        kept.append(text[done : match.start()])
        done = match.end()
        if match[0][0] == "\\":  # an escaped character, or a line break
            kept.append((match[1] or "").translate(_SHIELD))
            continue
        starts = runs.get(len(match[0]), [])
        place, line = bisect_left(starts, done), bisect_left(breaks, done)
        if place < len(starts) and starts[place] < (breaks[line] if line < len(breaks) else len(text)):
            code = text[done : starts[place]].replace("\n", " ")
            if code[0] == code[-1] == " " and code.strip():
                code = code[1:-1]
            kept.append(code.translate(_SHIELD))
            done = starts[place] + len(match[0])
        else:
            kept.append(match[0])
    return "".join([*kept, text[done:]])


def _unquote(text: str, keep: bool) -> str:
    """Remove quoted lines and the lines of the same paragraph below them; or, with `keep`, only their marks."""
    lines = text.split("\n")
    open_quote = False  # the quote's last paragraph continues on the next line, unless that begins another block
    for number, line in enumerate(lines):
        if marks := (_QUOTE_MARKS.match(line) if ">" in line else None):
            inside = line[marks.end() :].strip()
            open_quote = bool(inside) and not _NO_PARAGRAPH.match(inside)
            lines[number] = inside if keep else ""
        elif open_quote and line.strip() and not _NO_PARAGRAPH.match(line):
            lines[number] = line if keep else ""
        else:
            open_quote = False
    return "\n".join(lines)


def _resolve_references(text: str) -> str:
    """Remove definitions of reference links, and keep the text of the links that they define: [text][label], [label][], [label]."""
    labels: set[str] = set()

    def define(match: re.Match[str]) -> str:
        if match[1] is None and not match[3].startswith(("http", "/", "#", "<")):
            return match[0]  # the middle of a paragraph, for example "[Later]: thanks"
        labels.add(_label(match[2]))
        return "\n"

    def refer(match: re.Match[str]) -> str:
        return match[1] if _label(match[2] or match[1]) in labels else match[0]

    text = _DEFINITION.sub(define, text)
    return _REFERENCE.sub(refer, text) if labels else text


def _label(body: str) -> str:
    return " ".join(body.split()).casefold()


def _lower(text: str) -> str:
    """Remove the marks of raised words in parentheses, ^(like (these)), in linear time. Open ones end with their paragraph."""
    opened: list[tuple[int, int]] = []
    marks: list[tuple[int, int]] = []
    for match in _RAISED.finditer(text):
        if match[0] == ")":
            if opened and (start := opened.pop()) != (0, 0):
                marks += [start, match.span()]
        elif match[0][0] == "\n":
            opened = []
        else:
            opened.append((0, 0) if match[0] == "(" else match.span())
    return _without(text, marks)


def _replace(text: str, patterns: tuple[tuple[str, re.Pattern[str], str], ...]) -> str:
    for mark, pattern, plain in patterns:
        if mark in text:  # most bodies have no mark, and this check is a hundred times faster than the pattern
            text = pattern.sub(plain, text)
    return text


def _reveal(text: str) -> str:
    """Remove the marks of spoilers, >!these!<."""
    kept, done = [], 0
    while (opened := text.find(">!", done)) >= 0 and (closed := text.find("!<", opened + 2)) >= 0:
        kept += [text[done:opened], text[opened + 2 : closed]]
        done = closed + 2
    return "".join([*kept, text[done:]])


@dataclass(slots=True)
class _Run:
    """Marks that may open emphasis. left: those without a partner, the first of the run."""

    mark: str
    start: int
    length: int
    closes: bool
    left: int


def _unemphasize(text: str) -> str:
    """Remove the marks of *emphasis*, __strong emphasis__ and ~~deletions~~, in linear time.

    The algorithm is CommonMark's (https://spec.commonmark.org/0.31.2/#phase-2-inline-structure), but of the punctuation beside marks only
    other marks count, since old Reddit shows `**so:**and` as bold.
    """
    removed: list[tuple[int, int]] = []
    opened: list[_Run] = []
    searched: dict[tuple[str, bool, int], int] = {}  # kind of a run -> number of open runs, from the first, that can't be its partner
    for match in _EMPHASIS.finditer(text):
        (start, end), mark = match.span(), match[0][0]
        if mark == "\n":
            opened, searched = [], {}
            continue
        before, after = text[start - 1 : start] if start else " ", text[end : end + 1] or " "
        marks = _is_mark(before), _is_mark(after)
        opens = not after.isspace() and (not marks[1] or marks[0] or before.isspace()) and (mark != "_" or not before.isalnum())
        closes = not before.isspace() and (not marks[0] or marks[1] or after.isspace()) and (mark != "_" or not after.isalnum())
        length = left = end - start
        kind = (mark, opens, length % 3)
        place = len(opened) - 1
        while closes and left and place >= searched.get(kind, 0):
            run = opened[place]
            both = (opens or run.closes) and (run.length + length) % 3 == 0 and length % 3 != 0
            if run.mark != mark or (both and mark != "~") or (mark == "~" and left < 2):
                place -= 1
                continue
            used = 2 if left >= 2 and run.left >= 2 else 1
            removed += [(run.start + run.left - used, run.start + run.left), (end - left, end - left + used)]
            left, run.left = left - used, run.left - used
            del opened[place + (run.left > (mark == "~")) :]
            place = min(place, len(opened) - 1)
            searched = {each: min(number, len(opened)) for each, number in searched.items()}
        if closes and left:
            searched[kind] = len(opened)
        if opens and left > (mark == "~"):
            opened.append(_Run(mark, start + length - left, length, closes, left))
    return _without(text, removed)


def _is_mark(character: str) -> bool:
    return character in "*_~" or character in _UNSHIELDED


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    kept, done = [], 0
    for begin, end in sorted(spans):
        kept.append(text[done:begin])
        done = end
    return "".join([*kept, text[done:]])
