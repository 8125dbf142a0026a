"""bot.text: cleaning, training text and prompt, and the split of threads."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from functools import cache

import duckdb
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from bot import text
from bot.cli import ROOT
from tests.growth import growth

# Arbitrary text, and text that resembles control tokens.
PIECES = st.sampled_from(
    ["[SEP]", "[\\SEP]", "[\\\\SEP]", "[CLS]", "[", "]", "SEP", "\\", "<|", "|>", "<|endoftext|>", "<|\\endoftext|>", "<|startoftext|>",
     "<|a", "<|im_end|>", "endoftext", " ", "\n", "é", "word"]
)  # fmt: skip
NEAR_TOKENS = st.lists(PIECES, max_size=8).map("".join)
WELL_FORMED = st.text(st.characters(exclude_categories=["Cs"])) | NEAR_TOKENS
ANY = st.text() | NEAR_TOKENS
SMOLLM = ROOT / "models" / "base" / "smollm2-135m-instruct" / "tokenizer.json"


# --- clean ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "cleaned"),
    [
        ("plain words", "plain words"),
        ("  two  spaces\tand a tab\n\nand lines \r\n end ", "two spaces and a tab and lines end"),
        # quotes
        ("> what you said\n\nMy answer", "My answer"),
        ("&gt; what you said\n&gt; and more\n\nMy answer", "My answer"),
        (">>> deep\n  > indented\n\nok", "ok"),
        ("2 > 1 and 1 < 2", "2 > 1 and 1 < 2"),
        # spoilers
        (">!He dies!< at the end", "He dies at the end"),
        ("&gt;!He\ndies!&lt; at the end", "He dies at the end"),
        # links and images
        ("see [the list](https://example.org/a_(b)) now", "see the list now"),
        ('see [the list](/r/books/wiki "our wiki") now', "see the list now"),
        ("see [the list]( https://example.org ) now", "see the list now"),
        ("![a cat](https://example.org/cat.png) ha", "a cat ha"),
        ("look https://example.org/x?y=1&amp;z=2 here", "look here"),
        ("look www.example.org here", "look here"),
        ("[https://example.org](https://example.org)", ""),
        ("array[0] (sic) stays", "array[0] (sic) stays"),
        ("see [[the list]](https://example.org) and [a [small] one](/r/books)", "see [the list] and a [small] one"),
        ("from <https://example.org/a> and <b>", "from and <b>"),
        # Reddit's own names for uploads, emotes and GIFs
        ("![gif](giphy|3o7aD2saalBwwftBIY|downsized) ha", "ha"),
        ("so good![gif](emote|free_emotes_pack|grimacing)![img](emote|t5_2yvry|23459)", "so good"),
        ('![img](a1b2c3d4e5 "my cat")', ""),
        ("the ![gif] and [gif](https://example.org) stay", "the ![gif] and gif stay"),
        ("u/reader_1 in r/books, /r/books", "u/reader_1 in r/books, /r/books"),
        # Markdown
        ("**bold** and *slanted* and ***both*** and ~~gone~~", "bold and slanted and both and gone"),
        ("*slanted ~~and gone~~ here*", "slanted and gone here"),
        # superscript
        ("well ^(not quite) so", "well not quite so"),
        ("^^I ^^am ^^small (^too)", "I am small (too)"),
        ("^(I) ^(**shout**) ^(^this ^too)", "I shout this too"),
        ("x^2 + 2^(n-1), ^_^ and ^ and \\^that", "x^2 + 2^(n-1), ^_^ and ^ and ^that"),
        # tables
        ("|a|b|\n|:-|-:|\n|1|2|", "a b 1 2"),
        ("Class | Grade\n---|---\nAP | 97", "Class Grade AP 97"),
        ("|only|\n|:-|\n|one|", "only one"),
        ("this | that, if (a || b)", "this | that, if (a || b)"),
        ("__bold__ and _slanted_ but snake_case_name", "bold and slanted but snake_case_name"),
        ("5 * 3 * 2", "5 * 3 * 2"),
        ("# Title\n###### small\n#hashtag", "Title small #hashtag"),
        ("* one\n* two\n- three\n+ four", "one two three four"),
        ("-5 degrees\n*nice*", "-5 degrees nice"),
        ("above\n\n* * *\n\nbelow", "above below"),
        ("above\n---\nbelow\n___\nend", "above below end"),
        ("`code` and ```more code```", "code and more code"),
        ("```\nx = 1\n```\nlike this", "x = 1 like this"),
        ("~~~python\nx = 1\n~~~\nlike this", "x = 1 like this"),
        # backslashes
        ("\\*not slanted\\* and \\_nor\\_ this", "*not slanted* and _nor_ this"),
        ("¯\\\\\\_(ツ)\\_/¯", "¯\\_(ツ)_/¯"),
        ("\\#1 \\- first \\> second", "#1 - first > second"),
        ("C:\\Users stays", "C:\\Users stays"),
        # entities, escaped once and, in old dumps, twice
        ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
        ("Tom &amp;amp; Jerry &amp;lt;3", "Tom & Jerry <3"),
        ("a&nbsp;b &#39;c&#39; &#x27;d&#x27;", "a b 'c' 'd'"),
        ("one\n\n&#x200B;\n\ntwo", "one two"),
        # characters
        ("nul\0 bell\a escape\x1b next\x85line \ufeffmark", "nul bell escape next line mark"),
        ("half \ud83d emoji", "half \ufffd emoji"),
        ("👩‍👩‍👧 שלום é", "👩‍👩‍👧 שלום é"),
        ("NA null 007 1e5 =1+1", "NA null 007 1e5 =1+1"),
        ("[SEP] <|endoftext|>", "[SEP] <|endoftext|>"),
        ("", ""),
    ],
)
def test_clean(body: str, cleaned: str) -> None:
    assert text.clean(body) == cleaned


@given(body=ANY | st.text(st.sampled_from("*_~`[]()>!<&;amp\\#- \n\thtp:/.wx|^\ud800")))
def test_cleaned_text_is_one_line_without_extra_spaces(body: str) -> None:
    cleaned = text.clean(body)
    assert cleaned == " ".join(cleaned.split())
    assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", cleaned)


@given(words=st.lists(st.text(st.characters(categories=["L", "Nd"]), min_size=1), max_size=20))
def test_clean_does_not_change_plain_words(words: list[str]) -> None:
    assert text.clean(" ".join(words)) == " ".join(words)


UNCLOSED_PIECES = [
    " *a", " _a", ">!", "[", "[a](", "[]( ", "`", "*", "_", "~~a ", "- ", "\\", "***a ", "&gt;", "\n>", "((", "[[a]", "[a][", "](",
    "![gif](", "^", " ^a", "^(", "^(a ", "|-", "|\n-", "-|-x\n", "<http", "<https://a ", "<http://", "(http://a ", "http://a) ", "http://(",
    "(www.a", "a\n=", "a \n", "# a # ", "- - ", "- # ", "1. >", "- >", ">```\n", "```a b\n", "~~~~a~\n~~~\n", "- ```\n", "\\\n", "&#42;",
]  # fmt: skip


@pytest.mark.parametrize("piece", [*UNCLOSED_PIECES, "[](" + " " * 10_000, "\t", " __a", "**a* ", "`a`b ``"])
def test_clean_takes_linear_time(piece: str) -> None:
    """Also for unclosed Markdown, where searching the end of every mark would take quadratic time."""
    assert growth(text.clean, piece) < 30


@pytest.mark.parametrize(
    ("body", "matches"),
    [
        ("I am a bot, and this action was performed automatically.", True),
        ("i'm a bot", True),
        ("I’m a helpful bot that counts words", True),
        ("BEEP BOOP", True),
        ("bleep, bloop!", True),
        ("This bot wants to find the best and worst bots", True),
        ("Look at my source code on Github", True),
        ("I'm not a bot", False),
        ("Is this a bot?", False),
        ("I am about to leave", False),
        ("I am a bottle collector", False),
        ("my robot vacuum is a bot I love", False),
        ("the payment was performed automatically", False),
    ],
)
def test_statements_of_bots(body: str, matches: bool) -> None:
    assert bool(re.search(text.BOT_SAYS_SO, body)) is matches


NOTICES = [
    "[unavailable]", "[Removed]", "[ Removed by Reddit ]", "[removed by moderator]", "**[deleted]**", "*[deleted]*", "[deleted by user]",
    "[ Removed by Reddit under [some rule](/help/some_rule). ]", "［removed］", "[supprimé]", "[削除済み]", "removed by moderator",
    "This comment was overwritten by a script.", "Comment deleted by its author with a tool for that", "This post has been removed.",
    "I have overwritten all my comments", "(deleted)", "My comments were deleted in protest",
]  # fmt: skip
NO_NOTICES = [
    "", " \n", "[edit] a better title", "[removed] is a band, too", "Deleted scenes are the best", "removed the lid and stirred",
    "[this list](https://example.org)", "I deleted the app", "unavailable until Monday, says the shop", "deleted it by mistake",
    "The comment about the soup was the best",
]  # fmt: skip


def test_notices_of_removed_text() -> None:
    others = ["[Dieser Kommentar wurde vom Nutzer gelöscht]", "[supprimé par son auteur, désolé]", "[eliminado por el moderador del foro]"]
    assert [body for body in [*NOTICES, *others] if not text.is_notice(body)] == []
    assert [body for body in NO_NOTICES if text.is_notice(body)] == []


@pytest.mark.parametrize("piece", ["[", "[a](b)", "[[a]", "[a]", "this comment ", " ", "*", "[a](", "deleted "])
def test_notices_are_detected_in_linear_time(piece: str) -> None:
    assert growth(text.is_notice, piece) < 30


GONE = [
    "[removed by a moderator]", "[Removed By Moderators: rule 4]", "[deleted by moderator of r/tea]", "*[Removed by the mod team]*",
    "\n\n [ removed by reddit for [this](https://example.org/a_(b)) ]\n", "[ removed for spam by AutoModerator ]", "\u00a0[REMOVED]\u200b",
    "[This post has been removed by the moderators of /r/tea for rule 2]", "[Reddit has removed this post]", "&amp;#x200B;\n\n[removed]",
    "[removed by reddit](https://example.org/policy)", "[Removed\nby Reddit\u2019s legal team]", "[Moderators removed this]",
    # agents
    "[Sorry, this thread has been removed by the moderators of r/tea.]", "[Sorry, this link was removed by Reddit\u2019s filters.]",
    "[Removed by u/AutoModerator]", "[deleted by /u/tea-ModTeam]", "[removed by r/Tea-mods]", "[removed by r/tea\u2019s moderators]",
    "[Removed by a volunteer admin: off topic]", "[Reply removed by one of the mods]", "[Comment deleted by user]",
    "[Sorry, this post was deleted by the person who originally posted it.]", "[r/tea has removed your post]",
    # brackets
    "[[Removed by Reddit]](https://example.org/help)", "[Removed by Reddit because of [[rules]](/r)]", "\\[deleted\\]",
    "\\[ Removed by Reddit \\]", "[*removed* by **Reddit**]", "[Removed by mods](/r/tea/rules \"rules\")",
    # several
    "[removed]\n\n[removed]", "[deleted by user]\n[ Removed by Reddit ]", "**[removed]** &nbsp; [deleted]",
]  # fmt: skip
NOT_GONE = [
    "[ Removed by Reddit ] is what I read", "Why that? [removed by reddit]", "[removed the lid]", "[removed by my mother]",
    "[deleted scenes]", "[removed by redditors]",
    "[removed by modern art fans]", "[removed](https://example.org)", "[I was removed by Reddit]",
    # headlines
    "[Reddit deleted 40 old forums](https://example.org/news)", "[reddit removed the map I drew](http://example.org)",
    "[removed from the menu by reddit readers](http://example.org)", "[Video removed by moderators after a vote](http://example.org)",
    # sentences
    "[The mods removed my chair from the room]", "[removed by reddit users]", "[Reddit removed a button]", "[Mods removed this fine song]",
    "[removed the lid, painted by a moderator]", "[removed]\n\nsays the page", "\\[removed the lid\\]",
    "[removed][edited]",
]  # fmt: skip


def test_notices_are_the_same_in_python_and_sql() -> None:
    assert [body for body in GONE if not (text.is_deleted(body) and text.is_notice(body))] == []
    assert [body for body in NOT_GONE if text.is_deleted(body)] == []
    assert [body for body in NOT_GONE if text.is_notice(body)] == []
    with duckdb.connect() as db:
        matched = [db.execute("SELECT regexp_matches(?, ?)", [body, text.DELETED_BODY]).fetchone() for body in GONE + NOT_GONE]
    assert matched == [(True,)] * len(GONE) + [(False,)] * len(NOT_GONE)


def test_who_deleted_a_text() -> None:
    by_author = ["[deleted]", "[deleted by user]", "This comment was overwritten by a script."]
    assert [notice for notice in by_author if not text.is_deleted_by_author(notice)] == []
    by_others = ["[removed]", "[deleted by a moderator]", "[Deleted by u/AutoModerator]", "[Post deleted by Reddit\u2019s admins]"]
    assert [notice for notice in by_others if text.is_deleted_by_author(notice)] == []


BOTS = [
    "pundad_bot_77", "PoemBot-2021", "Bot_Ledger", "Kind_Bot_v3", "MapBot_", "TypoFixerBotJr", "autopoembot", "HAIKUBOT", "v2bot",
    "b0t_farm", "ChatGPT_poems", "gif_slower", "PageMirrorer", "robotBot", "TalbotBot", "janetalbotbot", "HeroBot", "LabBot",
    "video-converter", "CommentArchiver", "titlebot", "databot_2", "bottlebot", "Botany_Bot",
]  # fmt: skip
PEOPLE = [
    "Talbot", "abbot_of_x", "robot_fan", "Botany_4", "bottle_7", "turbot_cook", "cabotage", "BOTTLE_CAP", "ROCKBOTTOM", "TheAbbot",
    "Botswana",
    "sabot_maker", "McAbbott", "sabotage_q", "turbotax", "bothersome", "LilBotticelli", "iRobot", "RoboCop_2", "Chai_lover", "mailer",
    # grown together
    "annetalbot", "tomabbot_4", "tinyrobot", "misterrobots", "TINYROBOT", "AngryRobot", "not-a-robot", "smallturbot", "r0bot", "MrR0b0t",
    "MrRoBot", "Autobot_5", "PaulCabot", "BotAnist",
    # work that people do
    "Last_Responder", "TrailFinder", "CoinCounter", "leak_detector", "Joke_Poster", "Poem_Translator", "epic_fixer", "meme_archiver",
    # letters of other words
    "TeaSAI", "Lin_AI", "Train_Simulator", "tldr_jane", "WILLM_8",
]  # fmt: skip


def test_names_of_bots_are_the_same_in_python_and_sql() -> None:
    assert [name for name in BOTS if not text.is_bot_name(name)] == []
    assert [name for name in PEOPLE if text.is_bot_name(name)] == []
    query = "SELECT regexp_matches(regexp_replace(?, ?, '_', 'g'), ?)"
    with duckdb.connect() as db:
        matched = [db.execute(query, [name, text.NOT_A_BOT, text.BOT_NAME]).fetchone() for name in BOTS + PEOPLE]
    assert matched == [(True,)] * len(BOTS) + [(False,)] * len(PEOPLE)


@pytest.mark.parametrize(
    "piece", ["[removed ", " ", "[removed by the ", "[this ", "*", "&nbsp;", "[removed by ", "\\[", "[removed by mods [a](b)", "[[a] "]
)
def test_deleted_bodies_are_detected_in_linear_time(piece: str) -> None:
    assert growth(lambda body: text.is_deleted(body + "x"), piece) < 30


@pytest.mark.parametrize(
    "piece",
    ["this ", "the ", "this the ", "removed by ", "by the ", "this\t", "removed ", "a moderator ", "r/a ", "mods reddit ", "reddit team ",
     " ", "removed by mods, "],
)  # fmt: skip
def test_a_long_run_of_words_in_one_bracket_takes_linear_time(piece: str) -> None:
    for beginning in ("[", "[removed for ", "[removed by ", "[removed by mods "):
        assert growth(lambda body, beginning=beginning: text.is_deleted(beginning + body), piece) < 30


@pytest.mark.parametrize(
    ("body", "deleted"),
    [
        ("[deleted]", True),
        ("[removed]", True),
        (" [Removed]\n", True),
        ("[ Removed by Reddit ]", True),
        ("[deleted by user]", True),
        ("", True),
        (" \n", True),
        ("deleted", False),
        ("why was it [deleted]?", False),
    ],
)
def test_is_deleted(body: str, deleted: bool) -> None:
    assert text.is_deleted(body) is deleted


# --- the training text --------------------------------------------------------------------------------------------------------


@given(body=ANY)
@example(body="[SEP]")
@example(body="[\\SEP]")
@example(body="<|\\\\endoftext|>")
@example(body="<|[SEP]|>")
def test_escape_is_reversible(body: str) -> None:
    assert text.unescape(text.escape(body)) == body


@given(body=ANY)
def test_escaped_text_contains_no_control_token(body: str) -> None:
    assert not re.search(r"<\|\w+\|>|\[(SEP|CLS|MASK|PAD|UNK)\]", text.escape(body), re.ASCII)


def test_escape_changes_nothing_else() -> None:
    for body in ("plain", "[sep]", "[SEP", "SEP]", "<|two words|>", "a | b", "\\", "[\\]", "(SEP)"):
        assert text.escape(body) == body
    assert text.escape("x[SEP]y<|endoftext|>") == "x[\\SEP]y<|\\endoftext|>"


@given(comment=ANY, reply=ANY)
@example(comment="[SEP]", reply="[SEP]")
@example(comment="[", reply="SEP]")
@example(comment="a [SE\x1cP]", reply="<|startoftext|>")
def test_one_separator_and_no_control_token(comment: str, reply: str) -> None:
    whole = text.format_training_text(comment, reply)
    assert whole.count(text.SEPARATOR) == 1
    assert "<|startoftext|>" not in whole and "<|endoftext|>" not in whole and "\n" not in whole
    assert len(re.findall(r"\[(?:SEP|CLS|MASK|PAD|UNK)\]|<\|[A-Za-z0-9_]+\|>", whole)) == 1


@given(comment=ANY, reply=ANY)
def test_the_prompt_is_a_prefix_without_trailing_space(comment: str, reply: str) -> None:
    prompt = text.format_prompt(comment)
    assert text.format_training_text(comment, reply).startswith(prompt + " ")
    assert prompt.endswith("[SEP]")


@given(comment=WELL_FORMED, reply=WELL_FORMED)
def test_parse_reply_recovers_the_reply_of_a_training_text(comment: str, reply: str) -> None:
    whole = text.format_training_text(comment, reply)
    assert text.parse_reply(whole.removeprefix(text.format_prompt(comment))) == " ".join(reply.split())


@pytest.mark.parametrize(
    ("generated", "reply"),
    [
        (" Dune.", "Dune."),
        (" Dune.\n\nReally.  Go on.", "Dune. Really. Go on."),
        (" Dune. [SEP] Another reply", "Dune."),
        (" Dune.<|endoftext|>Next row [SEP] more", "Dune."),
        (" Dune.<|im_end|>\n<|im_start|>user", "Dune."),
        ("<|startoftext|>x", ""),
        ("[SEP]", ""),
        ("", ""),
        (" she typed [\\SEP] and <|\\endoftext|>", "she typed [SEP] and <|endoftext|>"),
        (" she typed [\\\\SEP]", "she typed [\\SEP]"),
        (" half \ud83d", "half \ufffd"),
    ],
)
def test_parse_reply(generated: str, reply: str) -> None:
    assert text.parse_reply(generated) == reply


# --- tokens ---------------------------------------------------------------------------------------------------------------------


@cache
def gpt2_like() -> Tokenizer:
    """A byte-level BPE like that of GPT-2, trained on a small text with separators."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = BpeTrainer(
        vocab_size=600, initial_alphabet=ByteLevel.alphabet(), special_tokens=["<|startoftext|>", "<|endoftext|>"], show_progress=False
    )
    rows = [
        "Any good books? [SEP] Dune. [SEP] It is about a desert. [SEP] [SEP]",
        "what [\\SEP] is that? [SEP] (no idea) [SEP] ... [SEP] 42",
    ]
    tokenizer.train_from_iterator(rows * 20, trainer)
    return tokenizer


@cache
def smollm() -> Tokenizer:
    if not SMOLLM.exists():
        pytest.skip("models/base/smollm2-135m-instruct is not installed; run `make setup`")
    return Tokenizer.from_file(str(SMOLLM))


def assert_token_exact(tokenizer: Tokenizer, comment: str, reply: str) -> None:
    prompt = tokenizer.encode(text.format_prompt(comment), add_special_tokens=False).ids
    whole = tokenizer.encode(text.format_training_text(comment, reply), add_special_tokens=False).ids
    assert whole[: len(prompt)] == prompt
    assert len(whole) > len(prompt)


@pytest.mark.parametrize("tokenizer", [gpt2_like, smollm])
@given(comment=WELL_FORMED, reply=WELL_FORMED)
@example(comment="Any good books?", reply="Dune.")
@example(comment="", reply="]")
@example(comment="ends in a space ", reply=" starts with one")
@example(comment="[SEP]", reply="[SEP]")
@example(comment="x", reply="])) 'll 42 …")
@settings(max_examples=60)
def test_the_prompt_is_a_token_prefix(tokenizer: object, comment: str, reply: str) -> None:
    assert callable(tokenizer)
    assume(reply.split())
    assert_token_exact(tokenizer(), comment, reply)


def test_a_prompt_with_a_trailing_space_would_not_be_a_prefix() -> None:
    """The space is part of the reply's first token, so the prompt must not end in a space."""
    for tokenizer in (gpt2_like(), smollm()):
        spaced = tokenizer.encode(text.format_prompt("Any good books?") + " ", add_special_tokens=False).ids
        whole = tokenizer.encode(text.format_training_text("Any good books?", "Dune."), add_special_tokens=False).ids
        assert whole[: len(spaced)] != spaced


# --- splits ---------------------------------------------------------------------------------------------------------------------


def test_known_splits_do_not_change() -> None:
    """Pinned values: a change would move threads between splits that models were trained on."""
    known = {"train": ["t3_b", "t3_abc", "t3_é", ""], "val": ["t3_1", "t3_15", "t3_2d"], "test": ["t3_0", "t3_6", "t3_a"]}
    assert {split: [name for names in known.values() for name in names if text.split_for(name) == split] for split in known} == known


def test_split_shares() -> None:
    counts = Counter(text.split_for(f"t3_{number:x}") for number in range(20_000))
    assert set(counts) == {"train", "val", "test"}
    assert abs(counts["train"] / 20_000 - 0.90) < 0.01
    assert abs(counts["val"] / 20_000 - 0.05) < 0.007
    assert abs(counts["test"] / 20_000 - 0.05) < 0.007


def test_a_split_is_the_same_in_another_process() -> None:
    names = [f"t3_{number}" for number in range(200)]
    code = f"from bot.text import split_for; print(*(split_for(f't3_{{n}}') for n in range({len(names)})))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [text.split_for(name) for name in names]


@given(name=st.text())
def test_any_thread_has_a_split(name: str) -> None:
    assert text.split_for(name) in {"train", "val", "test"}


def test_known_halves_do_not_change() -> None:
    """Pinned values: a change would train the judges on threads that rankers were trained on."""
    assert [text.half_for(name) for name in ("t3_abc", "t3_abf", "t3_1", "t3_2", "t3_abg")] == ["judge"] * 2 + ["rankers"] * 3


def test_halves_are_independent_of_splits() -> None:
    counts = Counter((text.split_for(f"t3_{number:x}"), text.half_for(f"t3_{number:x}")) for number in range(40_000))
    assert {half for _, half in counts} == {"rankers", "judge"} and len(counts) == 6
    for split in ("train", "val", "test"):  # half of each, to three standard errors
        of_split = counts[split, "rankers"] + counts[split, "judge"]
        assert abs(counts[split, "judge"] / of_split - 0.5) < 3 * 0.5 / of_split**0.5


@given(name=st.text())
def test_any_thread_has_a_half(name: str) -> None:
    assert text.half_for(name) in {"rankers", "judge"}


@pytest.mark.parametrize(
    "body",
    [
        "This post was mass deleted and anonymized with Redact",
        "melodic slap busy kettle *This comment was mass deleted and anonymized with [Redact](https://redact.example)*",
        "Sorry, this post was deleted by the person who originally posted it.",
        "[This comment has been deleted]",
        "&#91;removed&#93;",
        "Sorry, your post was removed by a moderator",
        "Post removed and locked by the mods",
        "[edited in protest of API changes]",
        "[content removed by author using power delete suite]",
        "[comment removed in protest of reddit]",
        "gold silver This post was mass deleted and anonymized with [Redact](https://redact.dev/home) hello world",
    ],
)
def test_notices_of_scripts_and_of_reddit(body: str) -> None:
    assert text.is_notice(body)


REMARKS = [
    "[Mods removed this fine song]",
    "I was deleted and nobody told me why",
    "Sorry, this was a joke",
    'Why do old threads say "This comment was deleted and anonymized with Redact"? It makes searching useless',
    "this comment was deleted and reposted by me because of a typo",
    "Deleted and blocked.",
    "Wiped and reinstalled.",
    "[Wiped with a cloth and it was fine again, thanks]",
    "Sorry, erased with a damp cloth",
]


def test_remarks_are_no_notices() -> None:
    assert not any(map(text.is_notice, REMARKS))
