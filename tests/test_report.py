"""bot.report.report: an invented run with hostile text, as a page, as a table and as a spreadsheet file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from bot import cli, files, schema
from bot.conduct.what import Unfit
from bot.conduct.when import Refusal
from bot.conduct.where import Reason
from bot.posting.ledger import Settled
from bot.reddit.outcomes import Outcome
from bot.report import report
from bot.schema import Candidate, Comment, Context, NotChosen, Phrased, Scored, Scores, Skipped, Submitted, Verdict

SCRIPT = "<script>alert(1)</script> \"quoted\" & 'single'"
MARKUP = "[bold red]not markup[/bold red] [/] :smile: [link=http://x.example]a link[/link]"
RIGHT_TO_LEFT = "شكرا جزيلا \u202eevil"
AWKWARD = "=1+1\n\nsecond \x1b[31mline 🍳 [SEP]"

COMMENTS = [
    Comment("t1_a", "t3_x", "books", f"title {SCRIPT}", SCRIPT, 48, 1_700_000_000, 0, "reader_1", False, "https://example.org/a"),
    Comment("t1_b", "t3_y", "books", "second", MARKUP, 7, 1_700_000_000, 1, "reader_2", False, "javascript:alert(2)"),
    Comment("t1_c", "t3_x", "home", "first again", RIGHT_TO_LEFT, 3, 10**15, 0, "", True, ""),
    Comment("t1_d", "t3_z", "home", "fourth", AWKWARD, 2, 1_700_000_000, 0, "reader_4", False, ""),
]
#            comment, reply, realism, upvote, verdict, reason
CANDIDATES = [
    ("t1_a", "the second best", 0.625, 0.25, "kept", "not_best"),
    ("t1_a", f"chosen {SCRIPT}", 0.875, 0.75, "chosen", ""),
    ("t1_b", "nobody talks like that", 0.499, 0.9, "refused", "low_realism"),
    ("t1_b", " ", 0.8, 0.1, "refused", "empty"),
    ("t1_c", "good but not good enough", 0.7, 0.47, "kept", "other_comment_in_submission"),
    ("t1_c", "bad", 0.1, 0.6, "refused", "low_realism"),
    ("t1_d", f"chosen {MARKUP} {RIGHT_TO_LEFT}", 0.55, 0.31, "chosen", ""),
    ("t1_d", "kept and quiet", 0.6, 0.3, "kept", "not_best"),
]
SKIPPED = ["too_old", "too_old", "nsfw", "a_reason_without_phrase"]


def write_run(folder: Path, comments: list[Comment] = COMMENTS, threshold: float = 0.5) -> Path:
    """Write a run folder with the files of all stages."""
    by_id = {comment.comment_id: comment for comment in comments}
    candidates, scored = [], []
    for number, (comment_id, reply, realism, upvote, verdict, reason) in enumerate(CANDIDATES):
        if comment_id in by_id:
            comment, name = by_id[comment_id], f"{comment_id}-{number}"
            candidates.append(Candidate(comment_id, name, number, "?", reply, "tiny", -1.5 - number))
            scores = (realism, upvote, None, upvote)
            scored.append(Scored(comment_id, comment.thread_id, comment.subreddit, comment.comment, name, reply, *scores, verdict, reason))
    skipped = [Skipped(f"t1_s{number}", "t3_x", "books", reason) for number, reason in enumerate(SKIPPED)]
    schema.write_rows(folder / "comments.csv", Comment, comments, {"fetch": {"subreddits": ["books", "home"]}, "source": "reddit"})
    schema.write_rows(folder / "skipped.csv", Skipped, skipped)
    schema.write_rows(
        folder / "candidates.csv", Candidate, candidates, {"settings": {"temperature": 0.8}, "model": "f" * 64, "seed": 7}, left_out={}
    )
    weights = {"realism": 0.25, "upvote": 0.75, "relevance": 0.0}
    scores = [Scores(s.comment_id, s.candidate_id, s.realism_score, s.upvote_score, s.relevance_score, s.rank_score) for s in scored]
    schema.write_rows(folder / "scores.csv", Scores, scores, {"settings": {"weights": weights}})
    schema.write_rows(folder / "scored.csv", Scored, scored)
    chosen = [row for row in scored if row.verdict == "chosen"]
    schema.write_rows(folder / "chosen.csv", Scored, chosen, {"settings": {"minimum_realism": threshold}})
    return folder


class Page(HTMLParser):
    """The parsed page: tags with attributes, and text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style":
            self.parts.append(data)

    def flat(self) -> str:
        """All text on one line, a space between elements."""
        return " ".join(" ".join(self.parts).split())


def page_of(folder: Path) -> Page:
    report.main(folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def printed(folder: Path, width: int, terminal: bool = False) -> str:
    out = io.StringIO()
    report.print_table(folder, Console(file=out, width=width, force_terminal=terminal, highlight=False))
    return out.getvalue()


def cells(output: str) -> Iterator[str]:
    """The table's rows, each with its lines joined."""
    for block in re.split(r"(?m)^ ─+ *$", output):
        yield " ".join(block.split())


# --- the page -----------------------------------------------------------------------------------------------------------


def test_page_escapes_everything(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "base", "form"}
    assert "\x1b" not in content
    for text in (COMMENTS[0].title, SCRIPT, MARKUP, RIGHT_TO_LEFT, AWKWARD.replace("\x1b", "\ufffd")):
        assert text in page.parts  # unchanged, including line breaks
    attributes = [(name, value or "") for _, attributes in page.tags for name, value in attributes.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert {value for name, value in attributes if name == "href"} == {"https://example.org/a", "#t1_a"}
    assert not [name for name, _ in attributes if name == "src"] and "@import" not in content
    assert not re.search(r"url\((?!#)", content)  # only references within an SVG


def test_page_shows_texts_in_their_own_direction(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    texts = [
        attributes for tag, attributes in page.tags if attributes.get("class") in ("body", "text") or (tag == "h3" and "dir" in attributes)
    ]
    assert len(texts) == 4 + 2 + len(CANDIDATES) + 4  # comments, chosen replies, candidates, titles
    assert {attributes["dir"] for attributes in texts} == {"auto"}


def test_page_counts_and_reasons(tmp_path: Path) -> None:
    schema.write_rows(tmp_path / "context.csv", Context, [Context("t3_x", f"t1_k{n}", "t3_x", "other") for n in range(23)])
    text = page_of(write_run(tmp_path)).flat()
    for count in ("4 comments to answer", "4 comments skipped", "8 candidates", "3 refused", "2 replies chosen", "context 23"):
        assert count in text
    assert f"2 too old – {Reason.TOO_OLD.phrase}" in text and "1 a reason without phrase" in text
    assert f"2 low realism – {NotChosen.LOW_REALISM.phrase}" in text and f"1 empty – {NotChosen.EMPTY.phrase}" in text
    assert "Dry run: nothing was sent." in text
    assert "Chosen replies (2)" in text and "No reply (2)" in text
    assert "No reply: all 2 refused (empty 1, low realism 1)." in text
    assert "No reply: another comment of this submission was answered." in text
    assert "weights realism 0.25, relevance 0, upvote 0.75 of the signals in rank_score" in text
    assert "temperature 0.8" in text and "seed 7" in text and "realism threshold 0.5" in text and "f" * 12 in text and "f" * 13 not in text
    assert "−2.50" in text  # log-likelihood


def test_page_begins_with_the_replies(tmp_path: Path) -> None:
    """Counts and plots come after all replies, and every table is folded."""
    report.main(write_run(tmp_path))
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    body = content.partition("</header>")[2]
    places = [body.index(each) for each in ("Chosen replies", "No reply", "The whole run", '<div class="tiles">', "<svg")]
    assert places == sorted(places) and body.rindex("</article>") < body.index("The whole run")
    assert body.count("<table") == body.count("<details>") - 1 > 4 and "<details open" not in body  # the last one is the glossary
    assert content.count("UTC") == 1


def test_page_links_to_posted_replies(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    rows = [row for row in schema.read_rows(run / "chosen.csv", Scored) if row.comment_id == "t1_a"]
    made_from = {"chosen": files.sha256_of(run / "chosen.csv")}
    submitted = [Submitted(row.comment_id, row.thread_id, row.candidate_id, "posted", "t1_own", 1, row.reply) for row in rows]
    schema.write_rows(run / "submitted.csv", Submitted, submitted, made_from)
    links = {attributes["href"] for tag, attributes in page_of(run).tags if tag == "a"}
    assert {"https://example.org/a", "https://www.reddit.com/comments/x/_/own"} <= links


def test_page_lists_candidates_best_first(tmp_path: Path) -> None:
    text = page_of(write_run(tmp_path)).flat()
    first = text[text.index("reader_1") : text.index("reader_4")]
    assert first.index("Chosen reply · realism 0.87 · upvote 0.75") < first.index("1 chosen <script>") < first.index("2 the second best")
    assert "nobody talks like that 0.49 0.90" in text  # 0.499 is truncated, not rounded to the threshold
    assert "Relevance" not in text  # no column without a ranker


def test_page_shows_rank_and_relevance_scores_if_there_are_any(tmp_path: Path) -> None:
    write_run(tmp_path)
    rows = [replace(row, relevance_score=0.43, rank_score=0.21) for row in schema.read_rows(tmp_path / "scored.csv", Scored)]
    schema.write_rows(tmp_path / "scored.csv", Scored, rows)
    text = page_of(tmp_path).flat()
    assert "Realism Upvote Relevance Rank ↓" in text and "0.43" in text and "0.21" in text
    assert "Relevance scores of all candidates" in text


def test_page_shows_submissions_and_their_outcomes(tmp_path: Path) -> None:
    write_run(tmp_path)
    attempts = [
        Submitted("t1_a", "t3_x", "t1_a-1", "posted", "t1_new", 1_700_000_100),
        Submitted("t1_d", "t3_z", "t1_d-6", "locked", "", 1_700_000_100),
    ]
    schema.write_rows(tmp_path / "submitted.csv", Submitted, attempts, {"chosen": files.sha256_of(tmp_path / "chosen.csv")})
    text = page_of(tmp_path).flat()
    assert "Submitted: 1 of 2 replies posted (locked 1)." in text and "Dry run" not in text
    assert "posted: the reply is on the site ( t1_new )" in text and "locked: not posted, the thread is locked" in text


def test_what_a_person_chose_and_waiting_replies_of_other_runs(tmp_path: Path) -> None:
    write_run(tmp_path)
    attempts = [
        Submitted("t1_a", "t3_x", "t1_a-0", "posted", "t1_new", 1_700_000_100, "Edited by a person."),
        Submitted("t1_b", "t3_y", "t1_b-2", "posted", "t1_own", 1_700_000_100, "Answered after all."),
        Submitted("t1_old", "t3_o", "t1_old-0", "posted", "t1_then", 1_700_000_100, "A reply that waited."),
        Submitted("t1_older", "t3_p", "t1_older-0", "locked", "", 1_700_000_100, "Another."),
    ]
    schema.write_rows(tmp_path / "submitted.csv", Submitted, attempts, {"chosen": files.sha256_of(tmp_path / "chosen.csv")})
    sentence = "Submitted: 2 of 2 replies posted. Waiting replies of other runs: 1 of 2 replies posted (locked 1)."
    table = printed(tmp_path, 160)
    assert sentence in page_of(tmp_path).flat() and sentence in " ".join(table.split())
    assert "a person’s choice: Edited by a person." in table and "a person’s choice: Answered after all." in table
    assert f"chosen {SCRIPT}" not in table and "nothing: all" not in table


def test_outcomes_of_other_texts_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run was posted, then repeated with another seed and not submitted: the candidates have the same ids but other texts."""
    write_run(tmp_path)
    attempts = [
        Submitted("t1_a", "t3_x", "t1_a-1", "posted", "t1_new", 1_700_000_100, "What was posted then."),
        Submitted("t1_d", "t3_z", "t1_d-6", "locked", "", 1_700_000_100, "And this was not."),
    ]
    schema.write_rows(tmp_path / "submitted.csv", Submitted, attempts, {"chosen": "the checksum of another chosen.csv"})
    shown = page_of(tmp_path).flat()
    assert "Nothing from this run was sent. An earlier run of this folder submitted 2 other texts." in shown
    assert "the reply is on the site" not in shown and "t1_new" not in shown and "the thread is locked" not in shown
    assert "An earlier run of this folder submitted 2 other texts." in " ".join(capsys.readouterr().out.split())
    chosen = schema.read_rows(tmp_path / "chosen.csv", Scored)
    schema.write_rows(
        tmp_path / "submitted.csv", Submitted, [replace(attempts[0], reply=chosen[0].reply), attempts[1]], {"chosen": "another"}
    )
    shown = page_of(tmp_path).flat()
    assert "Submitted: 1 of 1 reply posted. An earlier run of this folder submitted 1 other text." in shown and "t1_new" in shown


def test_control_sequences_in_a_column_are_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path)
    odd = "a \x1b]0;title\x07 \x9b2J name"
    rows = [replace(row, verdict="refused", reason=odd) for row in schema.read_rows(tmp_path / "scored.csv", Scored)]
    schema.write_rows(tmp_path / "scored.csv", Scored, rows)
    attempts = [Submitted(row.comment_id, row.thread_id, row.candidate_id, odd, "", 1) for row in rows[:1]]
    schema.write_rows(tmp_path / "submitted.csv", Submitted, attempts, {"chosen": files.sha256_of(tmp_path / "chosen.csv")})
    page_of(tmp_path)
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b"} & set(out) and "a ]0;title 2J name" in out


@pytest.mark.parametrize("permalink", ["http://[", "https:alert", "https://", "//example.org/x", "https:///x", "http://a]b/"])
def test_an_invalid_permalink_is_not_a_link(tmp_path: Path, permalink: str) -> None:
    write_run(tmp_path)
    rows = [replace(row, permalink=permalink) for row in schema.read_rows(tmp_path / "comments.csv", Comment)]
    schema.write_rows(tmp_path / "comments.csv", Comment, rows)
    page_of(tmp_path)
    assert 'rel="noopener' not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("skipped", [True, False])
def test_empty_run(tmp_path: Path, skipped: bool, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, [])
    if not skipped:
        (tmp_path / "skipped.csv").unlink()
        (tmp_path / "skipped.csv.manifest.json").unlink()
    text = page_of(tmp_path).flat()
    assert "No comments to answer" in text and "replies to 0 of 0 comments" in text
    assert ("All 4 comments were skipped" if skipped else "There were no comments.") in text
    out = capsys.readouterr().out
    assert out.startswith(f"No comments to answer; {4 if skipped else 0} were skipped")
    assert out.endswith(f"\n{tmp_path / 'report.html'}\n")


def test_page_without_manifests(tmp_path: Path) -> None:
    for manifest in list(write_run(tmp_path).glob("*.manifest.json")):
        manifest.unlink()
    text = page_of(tmp_path).flat()
    assert "its settings are not known" in text and "threshold 0.5" not in text and "2 replies chosen" in text


def test_page_has_no_links_into_the_sandbox(tmp_path: Path) -> None:
    write_run(tmp_path)
    schema.write_rows(tmp_path / "comments.csv", Comment, COMMENTS, {"source": "sandbox"})
    page = page_of(tmp_path)
    assert "local sandbox" in page.flat()
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["#t1_a"]


def test_page_is_reproducible_and_leaves_no_other_files(tmp_path: Path) -> None:
    write_run(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    page_of(tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    page_of(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({*before, ".lock", "for_spreadsheet.csv", "report.html"})


def test_error_names_the_missing_file(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "scored.csv").unlink()
    with pytest.raises(files.FileError, match=r"scored\.csv: no such file"):
        report.main(tmp_path)
    assert not (tmp_path / "report.html").exists()


# --- the plot -----------------------------------------------------------------------------------------------------------


def scored(realism: float | None, verdict: str = "kept") -> Scored:
    return Scored("t1_a", "t3_x", "books", "c", "t1_a-0", "r", realism, None, None, realism, verdict, "")


def test_plot_counts_every_candidate_once() -> None:
    values = [0.0, 0.04, 0.05, 0.5, 0.999, 1.0, float("nan"), None]
    plot = report.plot([scored(value) for value in values] + [scored(1.0, "chosen")], "realism_score", 0.5)
    assert plot is not None and plot["label"] == "Realism"
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", plot["svg"])
    assert {"chosen: 1", "kept: 6", "refused: 0", "threshold 0.5"} <= set(texts)


def test_plot_uses_the_text_colour_of_the_page() -> None:
    plot = report.plot([scored(0.3)], "realism_score", 0.5)
    assert plot is not None and "currentColor" in plot["svg"]
    assert not re.search(r"(?i)#000000|#ffffff|<style>[^<]*(?:black|white)", plot["svg"])


def test_plot_without_scores_is_none() -> None:
    assert report.plot([scored(None)], "realism_score") is None
    assert report.plot([], "realism_score") is None


# --- the table ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 160])
def test_table_fits_the_width_and_has_no_control_characters(tmp_path: Path, width: int) -> None:
    output = printed(write_run(tmp_path), width)
    assert "\x1b" not in output and "\u202e" not in output
    assert max(len(line) for line in output.splitlines()) <= width
    rows = list(cells(output))
    assert len(rows) == 1 + 1 + 4 + 1  # empty above the upper edge, header, one row per comment, counts
    header, first, second, third, fourth = rows[1:6]
    assert header.replace("rele- ", "").endswith(
        "comment best reply realism upvote vance" if width == 80 else "best reply realism upvote relevance"
    )
    assert re.search(r"reader_1: .*0\.87 0\.75 –", first)
    assert "reader_2: [bold" in second and "red]not" in second and "all 2 refused" in second and "– – –" in second
    assert "(unknown)" in third and "another comment of this" in third
    assert "=1+1" in fourth and "0.55 0.31 –" in fourth
    assert "2 of 4 comments get a reply." in rows[6]
    assert "8 candidates: 2 chosen, 3 kept, 3 refused (low_realism 2, empty 1)." in rows[6]
    assert rows[6].endswith("Dry run: nothing was sent.")


def test_wide_table_shows_full_texts(tmp_path: Path) -> None:
    output = printed(write_run(tmp_path), 180)
    assert MARKUP in output and "nothing: all 2 refused (empty 1, low_realism 1)" in output
    assert "another comment of this submission was answered" in output


def test_colours_on_a_terminal_only(tmp_path: Path) -> None:
    output = printed(write_run(tmp_path), 120, terminal=True)
    assert "\x1b[" in output
    assert "\x1b[31m" not in output  # the escape sequence in the comment


def test_table_on_an_ascii_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    with pytest.raises(SystemExit) as end:
        cli.run_command(report.main, "report", ["--run", str(write_run(tmp_path))])
    stream.flush()
    assert end.value.code == 0 and raw.getvalue().decode("ascii").endswith(f"{tmp_path / 'report.html'}\n")


def test_the_path_of_the_page_is_printed_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main(write_run(tmp_path))
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "report.html")


@pytest.mark.parametrize(
    ("rows", "answered", "why"),
    [
        ([], False, "nothing: no candidates were made"),
        ([("refused", "low_realism")] * 10, False, "nothing: all 10 refused (low_realism 10)"),
        ([("refused", "low_realism")] * 2, True, "nothing: all 2 refused (low_realism 2)"),
        ([("refused", "low_realism"), ("kept", "other_comment_in_submission")], True, "another comment of this submission was answered"),
        ([("refused", "low_realism"), ("kept", "")], False, "nothing: 1 of 2 kept, none chosen"),
    ],
)
def test_why_nothing(rows: list[tuple[str, str]], answered: bool, why: str) -> None:
    candidates = [replace(scored(0.4), verdict=verdict, reason=reason) for verdict, reason in rows]
    assert report.why_nothing(candidates, answered) == why


# --- phrases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [Reason, Refusal, Unfit, Outcome, Settled, NotChosen, Verdict])
def test_every_name_has_a_distinct_phrase(names: type[Phrased]) -> None:
    assert all(each.phrase and each.phrase != each for each in names)
    assert len({each.phrase for each in names}) == len(names)


# --- spreadsheet --------------------------------------------------------------------------------------------------------


def read_spreadsheet(path: Path) -> list[list[str]]:
    """The cells as a spreadsheet program reads them."""
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")  # without a byte order mark, programs guess the encoding
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_the_spreadsheet_file_has_no_formulas(tmp_path: Path) -> None:
    write_run(tmp_path)
    scored_csv = (tmp_path / "scored.csv").read_bytes()
    report.main(tmp_path)
    header, *rows = read_spreadsheet(tmp_path / "for_spreadsheet.csv")
    assert header == schema.columns_of(Scored) and len(rows) == len(CANDIDATES)
    assert {row[header.index("comment")] for row in rows if row[0] == "t1_d"} == {"'=1+1\n\nsecond \ufffd[31mline 🍳 [SEP]"}
    assert "\u202e" not in (tmp_path / "for_spreadsheet.csv").read_text(encoding="utf-8")
    assert (tmp_path / "scored.csv").read_bytes() == scored_csv and b'"=1+1\n' in scored_csv


STARTS = st.sampled_from(["=", "+1", "-1", "@x", "\t=", "\r=", "\n=", " =", "＝1"])


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | STARTS))
@example(["x" * 40_000, "=" * 40_000, "\0=1", '";=1', '"\r\n=1'])
def test_no_spreadsheet_cell_starts_like_a_formula(tmp_path: Path, texts: list[str]) -> None:
    scored = [Scored("t1_a", "t3_x", "books", each, "c", each[::-1], 0.5, None, None, 0.5, "kept", "") for each in texts]
    report.write_spreadsheet(scored, tmp_path / "s.csv")
    _, *rows = read_spreadsheet(tmp_path / "s.csv")
    assert len(rows) == len(texts)
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip().startswith(tuple("=+-@＝＋－＠")) and not cell.startswith(("\t", "\r", "\n"))
        assert len(cell) < 32_767 and "\0" not in cell
    for row, body in zip(rows, texts, strict=True):
        assert row[3].startswith(body[:9]) or not body.isalnum()
