"""bot.posting.approvals, and what `submit` posts of a run that people read. Runs the real PRAW against the sandbox."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from bot import config, files, sandbox, schema, text
from bot.cli import UserError, WrongSettings
from bot.conduct.when import Refusal
from bot.config import APPROVED_DISCLOSURE, DISCLOSURE, RedditSettings, Settings, SubmitSettings
from bot.online import submit
from bot.posting import approvals, ledger
from bot.posting.ledger import Reply
from bot.report import report
from bot.sandbox.server import Box
from bot.schema import Act, Approval, Candidate, Comment, Scored
from bot.web import app as web
from bot.web import server
from bot.web.runs import Runs
from tests.posting import change, configure, go, opened, ours, outcomes, prepared
from tests.visiting import Visitor


def event(act: str, who: str = "ann", comment: str = "t1_a", after: str = "", **more: str) -> Approval:
    return Approval(comment, more.get("thread", "t3_a"), f"{comment}-1", act, who, 100, "", "so", after or ("so" * (act == "approve")), "")


# --- the state ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ("", None),
        ("approve", "approve"),
        ("approve reject", "reject"),
        ("approve reject undo", "approve"),
        ("approve reject undo undo", None),
        ("undo approve", "approve"),
        ("skip undo undo edit", "edit"),
    ],
)
def test_the_act_that_counts(acts: str, expected: str | None) -> None:
    standing = approvals.standing([event(act) for act in acts.split()] + [event("skip", comment="t1_b")])
    assert (standing["t1_a"].act if "t1_a" in standing else None) == expected and standing["t1_b"].act == "skip"


def test_undo_is_for_the_latest_act_of_the_same_person() -> None:
    events = [event("approve"), event("reject", "bob", "t1_b"), event("skip", "ann", "t1_c"), event("reject", "bob", "t1_c")]
    assert approvals.last_of(events, "ann") is events[0]  # bob acted on t1_c after her
    assert approvals.last_of(events, "bob") is events[3]
    assert approvals.last_of([*events, event("undo", "bob", "t1_c")], "bob") is events[1]
    assert approvals.last_of(events, "eve") is None


def test_an_act_on_an_old_page_is_not_recorded(tmp_path: Path) -> None:
    assert approvals.record(tmp_path, event("approve"), 0) is None
    between = approvals.record(tmp_path, event("reject", "bob"), 0)
    assert between == event("approve") and approvals.read(tmp_path / approvals.FILE) == [event("approve")]
    assert approvals.record(tmp_path, event("reject", "bob"), 1) is None


def test_one_reply_is_approved_in_a_submission(tmp_path: Path) -> None:
    assert approvals.record(tmp_path, event("approve"), 0) is None
    assert approvals.record(tmp_path, event("edit", "bob", "t1_b", after="x"), 0) == event("approve")
    assert approvals.record(tmp_path, event("reject", "bob", "t1_b"), 0) is None
    assert approvals.record(tmp_path, event("approve", "bob", "t1_c", thread="t3_c"), 0) is None
    assert approvals.record(tmp_path, event("undo"), 1) is None
    assert approvals.record(tmp_path, event("approve", "bob", "t1_b"), 1) is None


@pytest.mark.parametrize("act", ["reject", "skip"])
def test_an_undo_does_not_approve_a_second_reply_in_a_submission(tmp_path: Path, act: str) -> None:
    for seen, each in enumerate(["approve", act]):
        assert approvals.record(tmp_path, event(each), seen) is None
    other = event("approve", "bob", "t1_b")
    assert approvals.record(tmp_path, other, 0) is None
    assert approvals.record(tmp_path, event("undo"), 2) == other
    assert approvals.record(tmp_path, event("undo", "bob", "t1_b"), 1) is None
    assert approvals.record(tmp_path, event("undo"), 2) is None
    assert [each.comment_id for each in approvals.standing(approvals.read(tmp_path / approvals.FILE)).values()] == ["t1_a"]


def test_many_people_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each of 8 people tries to decide the same 20 comments: every comment gets one act."""

    def decide(who: str) -> None:
        for number in range(20):
            approvals.record(tmp_path, event("reject", who, f"t1_{number}", thread=f"t3_{number}"), 0)

    threads = [threading.Thread(target=decide, args=(f"p{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.comment_id for each in approvals.read(tmp_path / approvals.FILE)) == sorted(f"t1_{number}" for number in range(20))


RULES = SubmitSettings(approval_timeout_hours=2)
REPLY = Reply("t1_a", "t3_a", "books", "reader", "t1_a-1", "so")
HOUR = 3600


@pytest.mark.parametrize(
    ("events", "hours", "required", "optional"),
    [
        ([], 1, (Refusal.NOT_APPROVED, False), (None, False)),
        ([], 3, (Refusal.APPROVAL_TIMEOUT, False), (None, False)),
        ([event("skip")], 1, (Refusal.NOT_APPROVED, False), (None, False)),
        ([event("approve")], 1, (None, True), (None, True)),
        ([event("approve")], 3, (None, True), (None, True)),  # approved in time, posted later
        ([event("approve"), event("undo")], 1, (Refusal.NOT_APPROVED, False), (None, False)),
        ([event("reject")], 1, (Refusal.REJECTED_BY_PERSON, False), (Refusal.REJECTED_BY_PERSON, False)),
        ([event("approve", after="other")], 1, (Refusal.NOT_APPROVED, False), (None, False)),  # changed by hand in the file
        ([event("edit", after="other")], 1, (Refusal.CHANGED_SINCE_APPROVAL, False), (None, False)),
        ([event("edit", after="so")], 1, (None, True), (None, True)),
        ([replace(event("approve"), candidate_id="t1_a-2")], 1, (Refusal.CHANGED_SINCE_APPROVAL, False), (None, False)),
        ([replace(event("approve"), comment_sha256="1")], 1, (Refusal.CHANGED_SINCE_APPROVAL, False), (None, False)),
        ([replace(event("approve"), event_utc=2 * HOUR + 200)], 3, (Refusal.APPROVAL_TIMEOUT, False), (None, True)),
    ],
)  # fmt: skip
def test_whether_a_reply_is_approved(
    tmp_path: Path, events: list[Approval], hours: int, required: tuple[Refusal | None, bool], optional: tuple[Refusal | None, bool]
) -> None:
    (tmp_path / "chosen.csv").touch()
    os.utime(tmp_path / "chosen.csv", (100, 100))
    schema.append_rows(tmp_path / approvals.FILE, Approval, events)
    answers = [approvals.refusal(tmp_path / approvals.FILE, REPLY, 100 + hours * HOUR, RULES, each) for each in (True, False)]
    assert answers == [required, optional]
    posting = RULES.model_copy(update={"approval_timeout": "post"})
    late = approvals.refusal(tmp_path / approvals.FILE, REPLY, 100 + hours * HOUR, posting, True)
    assert late == ((None, approvals.is_approved(next(iter(events), None))) if required[0] == Refusal.APPROVAL_TIMEOUT else required)


def test_approval_is_required_on_reddit_and_not_in_a_sandbox() -> None:
    there, here = RedditSettings(), RedditSettings(url="http://127.0.0.1:8765")
    assert submit.is_approval_required(Settings(reddit=there)) and not submit.is_approval_required(Settings(reddit=here))
    assert submit.is_approval_required(Settings(reddit=here, submit=SubmitSettings(approval="required")))
    assert not submit.is_approval_required(Settings(reddit=there, submit=SubmitSettings(approval="none")))
    assert approvals.refusal(None, REPLY, 0, RULES, True) == (Refusal.NOT_APPROVED, False)  # a waiting reply of an older version


def test_only_the_line_for_approved_replies_speaks_of_approval(tmp_path: Path) -> None:
    assert "approved by a person" in APPROVED_DISCLOSURE and "approved" not in DISCLOSURE and text.discloses(APPROVED_DISCLOSURE)
    path = tmp_path / "my.toml"
    path.write_text('[submit]\ndisclosure = "I am a bot, approved by a person. Reply `!stop`."\n')
    with pytest.raises(WrongSettings, match=r"disclosure: .*approved_disclosure is for replies"):
        config.load(path)


# --- submit -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def decide(box: Box, run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Approval is required. decide(comment, act, text): what a person does with a comment of the run."""
    configure(monkeypatch, submit__approval="required")

    def act(comment: Comment, kind: str, body: str | None = None) -> None:
        row = next(each for each in schema.read_rows(run / "scored.csv", Scored) if each.comment_id == comment.comment_id)
        after = "" if kind in ("reject", "skip", "undo") else row.reply if body is None else body
        known = sum(each.comment_id == row.comment_id for each in approvals.read(run / approvals.FILE))
        new = Approval(row.comment_id, row.thread_id, row.candidate_id, kind, "ann", int(time.time()), "", row.reply, after, "")
        assert approvals.record(run, replace(new, comment_sha256=text.fingerprint(row.comment)), known) is None

    return act


def ready(box: Box, run: Path, count: int) -> list[Comment]:
    comments = prepared(box, run, count)
    schema.write_rows(run / "comments.csv", Comment, comments, {"source": "sandbox"})
    schema.write_rows(run / "scored.csv", Scored, schema.read_rows(run / "chosen.csv", Scored))
    return comments


def bodies(box: Box) -> list[str]:
    return [row["body"] for row in box.store.comments_by(sandbox.USERNAME)[::-1]]


def test_only_approved_replies_are_posted_with_the_approved_text(
    box: Box, run: Path, decide: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    comments = ready(box, run, 4)
    assert go(run) == ["not_approved"] * 4 and not ours(box)
    assert "4 wait for a person: approve them on the page of `python run_bot.py web`" in capsys.readouterr().out
    decide(comments[0], "approve")
    decide(comments[1], "edit", "I would ask the librarian first.")
    decide(comments[2], "reject")
    assert go(run) == ["posted", "posted", "rejected_by_person", "not_approved"]
    chosen = {row.comment_id: row.reply for row in schema.read_rows(run / "chosen.csv", Scored)}
    assert bodies(box) == [
        f"{body}\n\n{APPROVED_DISCLOSURE}" for body in (chosen[comments[0].comment_id], "I would ask the librarian first.")
    ]
    decide(comments[2], "undo")
    decide(comments[2], "approve")
    decide(comments[3], "skip")
    assert go(run) == ["posted", "posted", "posted", "not_approved"] and len(ours(box)) == 3


def choose_another_text(run: Path) -> None:
    """Another reply to the first comment is chosen, as in a run with another seed."""
    rows = schema.read_rows(run / "scored.csv", Scored)
    rows[0] = replace(rows[0], reply="Another text of another run.")
    for name in ("scored.csv", "chosen.csv"):
        schema.write_rows(run / name, Scored, rows)


def approved(runs: Path, capsys: pytest.CaptureFixture[str], send: bool = True) -> str:
    """What `submit` without --run prints."""
    capsys.readouterr()
    submit.main(runs=runs, send=send)
    return capsys.readouterr().out


def test_without_a_run_what_was_approved_lately_is_posted(
    box: Box, tmp_path: Path, run: Path, decide: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else: not what nobody decided, even if no approval is required, and nothing is tried again that was refused for good."""
    configure(monkeypatch, submit__approval="none")
    comments = ready(box, run, 4)
    assert approved(tmp_path, capsys) == "" and not ours(box)
    decide(comments[0], "edit", "I would ask the librarian first.")
    decide(comments[1], "edit", "Buy it at http://example.com now.")
    assert "2 replies are approved; nothing is sent without --post" in approved(tmp_path, capsys, send=False)
    assert f"1 of 2 approved replies posted ({comments[1].comment_id} link)" in approved(tmp_path, capsys)
    assert bodies(box) == [f"I would ask the librarian first.\n\n{APPROVED_DISCLOSURE}"]
    assert outcomes(run) == ["posted", "link"]
    assert approved(tmp_path, capsys) == ""  # both are settled
    decide(comments[2], "approve")
    later = time.time() + 25 * 3600
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        assert approved(tmp_path, capsys) == "" and len(ours(box)) == 1  # after a day
    assert "1 of 1 approved replies posted" in approved(tmp_path, capsys) and len(ours(box)) == 2
    assert sorted(outcomes(run)) == ["link", "posted", "posted"]


def test_without_a_run_the_text_must_be_the_approved_one(
    box: Box, tmp_path: Path, run: Path, decide: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no approval is required: another text in the files, an undo after they were read, a reply of an earlier run that waits."""
    configure(monkeypatch, submit__approval="none")
    comments = ready(box, run, 3)
    for comment in comments:
        decide(comment, "approve")
    choose_another_text(run)
    read = submit.read_chosen

    def undo_meanwhile(folder: Path) -> tuple[list[Reply], list[Reply]]:
        decide(comments[1], "undo")
        return read(folder)

    monkeypatch.setattr(submit, "read_chosen", undo_meanwhile)
    approved(tmp_path, capsys)
    assert ours(box) == [comments[2].comment_id]
    other = ready(box, tmp_path / "other", 1)
    with opened(run) as db:
        reply = Reply(other[0].comment_id, other[0].thread_id, other[0].subreddit, other[0].author, "c", "A waiting reply.")
        ledger.intend(db, reply, int(time.time()))
        ledger.settle(db, reply.comment_id, ledger.State.READY, "rate_limited", int(time.time()))
    monkeypatch.setattr(submit, "read_chosen", read)
    decide(comments[1], "approve")
    approved(tmp_path, capsys)
    assert ours(box) == [comments[2].comment_id, comments[1].comment_id]


def test_without_a_run_an_approval_out_of_date_does_not_prevent_a_current_one(
    box: Box, tmp_path: Path, run: Path, decide: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same comment in two folders, in one of them with another text since, which is refused first."""
    [comment] = ready(box, run, 1)
    decide(comment, "approve")
    other = Path(shutil.copytree(run, tmp_path / "zz"))
    choose_another_text(other)
    whole = (run / approvals.FILE).read_bytes()
    (run / approvals.FILE).unlink()
    assert "changed_since_approval" in approved(tmp_path, capsys)
    (run / approvals.FILE).write_bytes(whole)
    assert "1 of 1 approved replies posted" in approved(tmp_path, capsys) and ours(box) == [comment.comment_id]
    assert approved(tmp_path, capsys, send=False) == approved(tmp_path, capsys) == ""  # it is settled


@pytest.mark.parametrize("damage", ["link", "pipe", "manifest"])
def test_a_rejected_reply_is_not_posted_while_its_files_cannot_be_read(
    box: Box, run: Path, decide: Callable[..., None], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    configure(monkeypatch, submit__approval="none")
    comments = ready(box, run, 2)
    decide(comments[0], "reject")
    path = run / approvals.FILE
    rules = config.load(None).submit
    reply = Reply(comments[0].comment_id, comments[0].thread_id, comments[0].subreddit, comments[0].author, "c", "A reply.")
    assert approvals.refusal(path, reply, int(time.time()), rules, is_required=False) == ("rejected_by_person", False)
    if damage == "manifest":
        (run / "chosen.csv.manifest.json").write_text("{")
    else:
        path.rename(run / "moved.csv")
        path.symlink_to("gone.csv") if damage == "link" else os.mkfifo(path)
        with pytest.raises(UserError, match=rf"{approvals.FILE}: (a link|not a regular file); correct the file"):
            go(run)
    assert approvals.refusal(path, reply, int(time.time()), rules, is_required=False) == ("approvals_unreadable", False)
    assert not ours(box)


def test_without_a_run_a_damaged_folder_is_named_and_the_others_are_posted(
    box: Box, tmp_path: Path, run: Path, decide: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    [comment] = ready(box, run, 1)
    decide(comment, "approve")
    shutil.copytree(run, tmp_path / "a")
    (tmp_path / "a" / approvals.FILE).write_text("nonsense")
    (tmp_path / "loop").symlink_to("loop")
    shutil.copytree(run, tmp_path / "b")
    schema.write_rows(tmp_path / "b" / "comments.csv", Comment, [comment])  # of Reddit itself
    with pytest.raises(UserError, match=r"a/approvals.csv"):
        approved(tmp_path, capsys)
    assert len(ours(box)) == 1 and [path.parent.name for path in tmp_path.glob("*/submitted.csv")] == ["run"]
    with pytest.raises(UserError, match=r"chosen.csv: cannot be read \(Not a directory\)"):
        approved(run / "chosen.csv", capsys)


def test_without_a_run_doubt_about_one_folder_stops_the_others(
    box: Box, tmp_path: Path, run: Path, decide: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    comments = ready(box, run, 2)
    for comment in comments:
        decide(comment, "approve")
    shutil.copytree(run, tmp_path / "later")
    rows = schema.read_rows(run / "chosen.csv", Scored)
    for folder, own in ((run, rows[:1]), (tmp_path / "later", rows[1:])):
        schema.write_rows(folder / "chosen.csv", Scored, own)
        schema.write_rows(
            folder / approvals.FILE,
            Approval,
            [each for each in approvals.read(folder / approvals.FILE) if each.comment_id == own[0].comment_id],
        )
    box.store.add_fault("500", "/api/comment")
    approved(tmp_path, capsys)
    assert not ours(box) and sorted([*outcomes(run), *outcomes(tmp_path / "later")]) == ["in_doubt", "parked"]


def test_a_text_without_words_is_not_posted(box: Box, run: Path, decide: Callable[..., None]) -> None:
    comments = ready(box, run, 2)
    decide(comments[0], "edit", "  ")
    decide(comments[1], "approve")
    assert go(run) == ["no_text", "posted"] and len(ours(box)) == 1


def test_posted_rows_stay_when_reddit_cannot_be_reached(box: Box, run: Path, decide: Callable[..., None]) -> None:
    [comment] = ready(box, run, 1)
    decide(comment, "approve")
    assert go(run) == ["posted"]
    box.store.add_fault("503", "/api/v1/me", times=20)
    with pytest.raises(UserError):
        go(run)
    assert outcomes(run) == ["posted"]


def test_without_a_run_a_busy_ledger_prints_nothing(
    box: Box, tmp_path: Path, run: Path, decide: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    [comment] = ready(box, run, 1)
    decide(comment, "approve")
    with ledger.held(config.load(None).submit.ledger, make=True), pytest.raises(typer.Exit) as end:
        approved(tmp_path, capsys)
    assert end.value.exit_code == 75 and capsys.readouterr() == ("", "") and not ours(box)


def test_what_changed_since_it_was_approved_is_not_posted(box: Box, run: Path, decide: Callable[..., None]) -> None:
    comments = ready(box, run, 3)
    for comment in comments:
        decide(comment, "approve")
    choose_another_text(run)
    change(box, "UPDATE comments SET body = 'Edited since.' WHERE name = ?", comments[1].comment_id)
    assert go(run) == ["changed_since_approval", "edited", "posted"]
    assert len(ours(box)) == 1


def test_an_approved_text_passes_the_same_door(box: Box, run: Path, decide: Callable[..., None]) -> None:
    comments = ready(box, run, 2)
    decide(comments[0], "edit", "Buy it at http://example.com now.")
    decide(comments[1], "approve")
    assert go(run) == ["link", "posted"]


def test_an_undo_counts_until_the_moment_of_posting(
    box: Box, run: Path, decide: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    comments = ready(box, run, 2)
    for comment in comments:
        decide(comment, "approve")
    judged = submit.judged

    def undo_meanwhile(sender: submit.Sender, reply: Reply) -> tuple[str | None, Reply]:
        if reply.comment_id == comments[0].comment_id:
            decide(comments[0], "undo")
        return judged(sender, reply)

    monkeypatch.setattr(submit, "judged", undo_meanwhile)
    assert go(run) == ["not_approved", "posted"]


def test_a_person_can_choose_another_candidate_or_one_where_none_was_chosen(box: Box, run: Path, decide: Callable[..., None]) -> None:
    comments = ready(box, run, 2)
    rows = schema.read_rows(run / "scored.csv", Scored)
    kept = replace(rows[0], candidate_id=f"{rows[0].comment_id}-7", reply="It depends on the oven, I think.", verdict="kept")
    schema.write_rows(run / "scored.csv", Scored, [kept, replace(rows[1], verdict="refused", reason="low_rank")])
    schema.write_rows(run / "chosen.csv", Scored, rows[:1])
    decide(comments[0], "approve")  # the kept one is the first of its rows
    decide(comments[1], "approve")
    assert go(run) == ["posted", "posted"]
    assert [body.partition("\n")[0] for body in bodies(box)] == [kept.reply, rows[1].reply]


def test_a_waiting_reply_is_posted_by_a_later_run_only_while_it_is_approved(
    box: Box, run: Path, decide: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    comments = ready(box, run, 2)
    for comment in comments:
        decide(comment, "approve")
    box.store.add_fault(kind="429")
    assert set(go(run)) <= {"rate_limited", "told_to_wait"} and not ours(box)
    with opened(run) as db:
        [waiting] = ledger.in_state(db, ledger.State.READY)
        assert waiting.approvals == str(run / approvals.FILE)
        db.execute("UPDATE reply SET not_before_utc = NULL")
    decide(next(each for each in comments if each.comment_id == waiting.comment_id), "undo")
    later = run.parent / "later"
    schema.write_rows(later / "comments.csv", Comment, [])
    schema.write_rows(later / "chosen.csv", Scored, [])
    assert go(later) == ["not_approved"]
    whole = (run / approvals.FILE).read_bytes()
    (run / approvals.FILE).write_bytes(b"nonsense")
    assert go(later) == ["approvals_unreadable"]  # and not the end of the run
    (run / approvals.FILE).write_bytes(whole)
    decide(next(each for each in comments if each.comment_id == waiting.comment_id), "approve")
    assert go(later) == ["posted"] and bodies(box) == [f"{waiting.body}\n\n{APPROVED_DISCLOSURE}"]
    page = Visitor(server.make_app(*web.parts(Runs(run.parent, ledger=run.parent / "ledger.sqlite"), config.load(None), None)))
    page.get("/name")
    page.post("/name", {"who": "ann"})
    assert page.get("/").text.count("1 posted") == 2  # also in the list of the run that it comes from
    path = f"/runs/{run.name}/approve"
    shown = page.get(f"{path}?item={waiting.comment_id}").text
    assert "This reply is on Reddit" in shown and waiting.body in shown
    before = approvals.read(run / approvals.FILE)
    assert page.post(path, {"act": "undo", "comment_id": waiting.comment_id}).location.endswith("note=nothing")
    assert approvals.read(run / approvals.FILE) == before


def test_nothing_is_approved_after_the_time(box: Box, run: Path, decide: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    ready(box, run, 1)
    day = time.time() - 24 * HOUR
    os.utime(run / "chosen.csv", (day, day))
    assert go(run) == ["approval_timeout"]
    configure(monkeypatch, submit__approval_timeout="post")
    assert go(run) == ["posted"] and bodies(box)[0].endswith(DISCLOSURE)


def test_rejections_and_edits_count_where_approval_is_not_required(
    box: Box, run: Path, decide: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, submit__approval="none")
    comments = ready(box, run, 3)
    decide(comments[0], "reject")
    decide(comments[1], "edit", "The second part is the better one.")
    assert go(run) == ["rejected_by_person", "posted", "posted"]
    assert [body.partition("\n\n")[2] for body in bodies(box)] == [APPROVED_DISCLOSURE, DISCLOSURE]
    assert bodies(box)[0].startswith("The second part")


def test_the_report_shows_the_text_that_was_posted(box: Box, run: Path, decide: Callable[..., None]) -> None:
    comments = ready(box, run, 2)
    decide(comments[0], "edit", "I would ask the librarian first.")
    go(run)
    schema.write_rows(run / "candidates.csv", Candidate, [])
    page = report.page(report.read_run(run))
    assert "I would ask the librarian first." in page and "Reply of a person’s choice" in page
    assert page.index("I would ask the librarian first.") < page.index("The whole run")


def test_approvals_belong_to_the_run_folder(run: Path) -> None:
    schema.write_rows(run / "comments.csv", Comment, [])
    approvals.record(run, event("approve"), 0)
    assert files.foreign_in_run(run) is None
    assert {str(act) for act in Act} == {"approve", "edit", "reject", "skip", "undo"}
