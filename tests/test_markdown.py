"""bot.text.clean on Markdown that patterns get wrong, and against a reference parser (markdown-it)."""

from __future__ import annotations

import html
import random

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from bot import text
from tests.growth import growth

FENCE = "```"


@pytest.mark.parametrize(
    ("body", "cleaned"),
    [
        # all kinds of code: only their own marks are removed
        ("Put `**` around it, or `__`.", "Put ** around it, or __."),
        ("the key `` a`b `` and ```c``d```", "the key a`b and c``d"),
        ("a `\\*` stays, a \\* does not", "a \\* stays, a * does not"),
        ("use `x^2`, `~~y~~`, `[a][b]` and `![c](d)`", "use x^2, ~~y~~, [a][b] and ![c](d)"),
        ("`>!` and `!<` hide it, `^(so)` raises it", ">! and !< hide it, ^(so) raises it"),
        ("open `www.example.org` with `curl http://example.org`", "open www.example.org with curl http://example.org"),
        (f"{FENCE}py\n# no heading\n- no_item_\n> no quote\n{FENCE}\ndone", "# no heading - no_item_ > no quote done"),
        ("~~~~\n~~~\n*x*\n~~~~\nafter *it*", "~~~ *x* after it"),
        (f"{FENCE}\nnever *closed*", "never *closed*"),
        ("So:\n\n    *a* > b\n    # c\n\nand *d*", "So: *a* > b # c and d"),
        ("\ttab_ *x*\n\nend", "tab_ *x* end"),
        ("* item\n\n    its *second* paragraph", "item its second paragraph"),
        ("words\n    *go on* here", "words go on here"),
        ("don`t close *this*", "don`t close this"),
        ("one ` here\n\nand ` there *x*", "one ` here and ` there x"),
        ("\\`no code *here*\\`", "`no code here`"),
        ("``not the same` *run*", "``not the same` run"),
        # fences in lists, with any text behind them
        ("- ```\n  *x*\n  ```\n- *y*", "*x* y"),
        ("2) ~~~ py\n   # x\n   ~~~\n3) *y*", "2) # x 3) y"),
        ("* a\n\n    ```\n    *x*\n    ```\n*y*", "a *x* y"),
        ("- ```\n  *never* closed\n*y*", "*never* closed y"),
        ("- + ```\n    *x*\n    ```\n- *y*", "*x* y"),
        ("```{.py #id}\n*x*\n```\n*y*", "*x* y"),
        ('```js file="a b.js" {1,3}\n*x*\n```', "*x*"),
        ("~~~ a ``` ~~~\n*x*\n~~~\n*y*", "*x* y"),
        ("```all of *this* is a reply", "```all of this is a reply"),
        # code in quotes
        (">```\n>code\n>```\nmine", "mine"),
        ("> ~~~ a b\n> code\n> ~~~\n*mine*\n\nand", "mine and"),
        ("> ```\n> not closed\nmine", "mine"),
        (">     indented\nmine", "mine"),
        ("> > ```\n> > code\n> > ```\nmine", "mine"),
        ("> ```\n> code\n> ```\n> words\nlazy\n\nmine", "mine"),
        # headings and line breaks
        ("A title\n=====\nand *words*", "A title and words"),
        ("a\n\n===\nb == c", "a === b == c"),
        ("# One #\n## Two ##  \n### a ### b\n# C#", "One Two a ### b C#"),
        ("# One \\#", "One #"),
        ("- # One #\n- - *two*", "One two"),
        ("a\\\nb\\", "a b\\"),
        # titles and addresses
        ("[x](http://a.b 'it\\'s') y [z](/c \"so \\\"so\\\"\")", "x y z"),
        ("(http://x.y) fine, (see www.x.y) fine", "fine, (see) fine"),
        ("see (https://x.y/a_(b)), https://x.y/c_(d) too", "see too"),
        ("[http://x.y] **http://x.y/_z_** \"www.x.y\" ~~http://x.y~~ ok", "ok"),
        ("*see http://x.y* so", "see so"),
        ("http://x.y/a_ and http://x.y) awww.so", "and awww.so"),
        # quotes in lists
        ("- > theirs\n- mine", "mine"),
        ("1. > theirs\n   lazy\n\nmine", "mine"),
        ("- >!mine!<", "mine"),
        # entities that were typed are no marks; those of old dumps, which escape twice, are
        ("&amp;#42;x&amp;#42; &#95;y&#95; &lowbar;z&lowbar;", "*x* _y_ _z_"),
        ("&amp;#35; no heading\n\n&#62; no quote\n\n&#91;a](/b)", "# no heading > no quote [a](/b)"),
        ("&amp;gt; theirs\n\na&#32;b&Tab;c", "a b c"),
        # reference links
        ("[The map][m] helps.\n\n[m]: http://example.org", "The map helps."),
        ("[The Map][] and [the   map] help.\n\n[the map]: <http://example.org> 'a title'", "The Map and the map help."),
        ("![a cat][C] ha\n\n[c]: /cat.png \"x\"", "a cat ha"),
        ("[a][1] [b][2]\n[1]: http://example.org/1\n[2]: http://example.org/2", "a b"),
        ("[one][9] and [two][] and [three]", "[one][9] and [two][] and [three]"),
        ("I said\n[later]: thanks", "I said [later]: thanks"),
        # superscript
        ("so ^(a (b (c) d) e) far", "so a (b (c) d) e far"),
        ("^^(tiny ^(tinier)) ok", "tiny tinier ok"),
        ("^(never closed\n\nand (this) stays", "^(never closed and (this) stays"),
        ("2^(n-1) and f(x)^(2)", "2^(n-1) and f(x)^(2)"),
        # quotes
        ("> they said\nand went on\n\nI say no", "I say no"),
        ("Mine first\n> theirs\n> theirs too\nlazy\n\nmine last", "Mine first mine last"),
        ("> > deep\n> back\nlazy\n\nmine", "mine"),
        ("> theirs\n>\nmine", "mine"),
        ("> # their heading\nmine", "mine"),
        (">!hidden!<\nshown", "hidden shown"),
        ("> theirs\n\n>!mine!<", "mine"),
        ("&gt; theirs\nlazy\n\nyours &amp;gt; mine", "yours > mine"),
        # entities
        ("cats&dogs, AT&T;, x&lty, &notin and &copycat", "cats&dogs, AT&T;, x&lty, &notin and &copycat"),
        ("a &#62 b &#x3e c", "a &#62 b &#x3e c"),
        ("&hearts; &#9829; &NotEqualTilde;", "♥ ♥ ≂̸"),
        ("&amp;hearts; &amp;#9829; q?a=1&amp;region=2", "♥ ♥ q?a=1&region=2"),
        ("\\&amp;hearts; and `&amp;hearts;`", "&hearts; and &hearts;"),
    ],
)  # fmt: skip
def test_clean(body: str, cleaned: str) -> None:
    assert text.clean(body) == cleaned


PIECES = [
    "`", "``a`", "`a``", "\\`", "```\n", "~~~\n", "    a\n\n", "\t", "> a\nb\n", "^(", "^(a)", "(^(", "[a]:", "[a]: b\n", "[a][b]", "[[a]",
    "[a]: /b\n\n[a]", "[a](<b", "[a](b 'c", "[a](b (c", "![a](", "[![", "&a;", "&#1;", "&", "\\\\", "\n    `", "\n\n`",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_clean_takes_linear_time(piece: str) -> None:
    assert growth(lambda body: text.clean("[a]: /b\n\n" + body), piece) < 30


# --- the reference ------------------------------------------------------------------------------------------------------------

WORDS = ["amber", "boat", "cedar", "dune", "ember", "fjord", "grove", "harbour", "inlet", "juniper"]


def shown(tokens: list[Token]) -> str:
    """The text of a parsed comment without its quotes, but with code and the text of links and images."""
    parts, quoted = [], 0
    for token in tokens:
        quoted += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if quoted:
            continue
        if token.type in ("fence", "code_block"):
            parts.append(token.content)
        elif token.type == "inline":
            parts.append("".join(_inline(child) for child in token.children or []))
    return " ".join("\n".join(parts).split())


def _inline(token: Token) -> str:
    return {"softbreak": "\n", "hardbreak": "\n"}.get(token.type, token.content)


def words(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 3)))


def span(rng: random.Random, depth: int = 2) -> str:
    """Inline Markdown, nested up to `depth`."""
    inner = words(rng) if depth == 0 else span(rng, depth - 1)
    code = rng.choice(["*a*", "_b_ ~~c~~", "[d](e)", "\\*", "^(f)", "![g][h]", "&lt;", "> i", "# j"])
    label = rng.choice([words(rng), f"*{words(rng)}*", f"`{code}`"])  # links can't be nested
    return rng.choice([
        words(rng), f"*{inner}*", f"**{words(rng)}**", f"~~{label}~~", f"[{label}](http://example.org/{rng.randrange(9)})",
        f"[{label}][map]", "[map][]", f"[{label}](</a b> 'title')", f"[![{words(rng)}](/a.png \"title\")](/b (title))",
        f"`{code}`", f"`` {code} ` ``", "\\*" + inner, "[none][missing]", f"![{words(rng)}](/a.png)",
    ])  # fmt: skip


def block(rng: random.Random) -> str:
    line = " and ".join(span(rng) for _ in range(rng.randint(1, 3)))
    code = rng.choice(["*a* _b_", "> c", "# d\n- e", "`f", "[g](h) [map]"])
    return rng.choice([
        line, f"{line}\n{words(rng)}", f"> {line}", f"> {line}\nlazy {words(rng)}", f">> {line}\n> {words(rng)}",
        f"> {words(rng)}\n>\n{line}",
        f"* {line}\n* {words(rng)}", f"## {line}", f"{FENCE}\n{code}\n{FENCE}", f"~~~~\n{FENCE}\n{code}\n~~~~", "***",
        "and\n\n" + "\n".join(f"    {each}" for each in code.split("\n")) + "\n\nthen",
    ])  # fmt: skip


def test_clean_equals_the_rendered_text() -> None:
    """The reference supports neither superscript nor spoilers, so here they occur only in code."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
    for seed in range(1500):
        rng = random.Random(seed)
        body = "\n\n".join(block(rng) for _ in range(rng.randint(1, 4))) + "\n\n[map]: http://example.org/map 'The map'"
        assert text.clean(html.escape(body, quote=False)) == shown(parser.parse(body)), body
