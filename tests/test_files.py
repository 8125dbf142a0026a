"""bot.files: atomic writes, protection of existing files, and errors of one line before a stage does any work."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import pytest

from bot import cli, files, schema
from bot.__main__ import STAGES, command_of
from bot.cli import ROOT, Busy, UserError
from bot.config import GenerateSettings
from bot.export import to_ctranslate2
from bot.files import FileError
from bot.online import generate
from tests import tiny

MADE = {"seed": 7}
NOBODY = 65534


def write(path: Path, body: str = "ours") -> None:
    files.write_with_manifest(path, lambda file: {"rows": 1, "made_from": MADE, "bytes": file.write(body.encode())})


def tree(folder: Path) -> dict[str, Any]:
    """The content of a folder by relative path: bytes of regular files, targets of links, None for anything else."""
    contents: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        contents[str(path.relative_to(folder))] = content
    return contents


def as_nobody(action: Callable[[], object]) -> str:
    """The error of an action run as a user without permissions; empty if it succeeds."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            action()
        except Exception as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return file.read()


@pytest.fixture
def public() -> Iterator[Path]:
    """A world-readable folder."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# --- writing --------------------------------------------------------------------------------------------------------------


def plant(temporary: Path, what: str, victim: Path) -> None:
    if what == "link":
        temporary.symlink_to(victim)
    elif what == "dangling link":
        temporary.symlink_to(victim.with_name("nowhere"))
    elif what == "hard link":
        temporary.hardlink_to(victim)
    elif what == "folder":
        (temporary / "deeper").mkdir(parents=True)
    else:
        os.mkfifo(temporary)


PLANTED = ["link", "dangling link", "hard link", "folder", "fifo"]


@pytest.mark.parametrize("what", PLANTED)
def test_an_entry_planted_under_a_temporary_name_is_replaced(tmp_path: Path, what: str) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out.csv"
    victim.write_text("precious")
    for path in (out, files.manifest_path(out)):
        plant(files.temporary_path(path), what, victim)
    write(out)
    assert victim.read_text() == "precious" and not (tmp_path / "nowhere").exists()
    assert out.read_text() == "ours" and not out.is_symlink() and files.is_current(out, MADE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.manifest.json", "victim"]


@pytest.mark.parametrize("what", PLANTED)
def test_an_entry_planted_under_a_partial_folder_is_replaced(tmp_path: Path, what: str) -> None:
    victim, out = tmp_path / "victim", tmp_path / "model"
    victim.mkdir()
    if what != "hard link":
        plant(files.partial_path(out), what, victim)
    with files.atomic_folder(out) as new:
        (new / "deeper").mkdir()
        (new / "deeper" / "weights").write_text("w")
        (new / "deeper" / "weights").chmod(0o600)
    assert tree(victim) == {} and not (tmp_path / "nowhere").exists()
    assert tree(out) == {"deeper": None, "deeper/weights": b"w"}
    assert (out / "deeper" / "weights").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "victim"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "full"), UserError("wrong")])
def test_a_failed_write_leaves_the_old_folder(tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model"
    with files.atomic_folder(out) as new:
        (new / "weights").write_text("old")
    with pytest.raises(BaseException), files.atomic_folder(out) as new:  # noqa: B017
        (new / "weights").write_text("half")
        raise error
    assert tree(tmp_path) == {"model": None, "model/weights": b"old"}
    rename = Path.rename

    def second_fails(path: Path, target: Path) -> Path:
        if path == files.partial_path(out):
            raise OSError(28, "full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError), files.atomic_folder(out) as new:
        (new / "weights").write_text("new")
    assert tree(tmp_path) == {"model": None, "model/weights": b"old"}


def test_a_folder_is_restored_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    out = tmp_path / "model"
    for act in (
        lambda: files.atomic_folder(out).__enter__(),
        lambda: files.check_output_folder(out, [], True, lambda folder: (folder / "checkpoint").exists()),
    ):
        (tmp_path / ".model.old").mkdir(parents=True)
        (tmp_path / ".model.old" / "checkpoint").write_text("hours of work")
        act()
        assert (out / "checkpoint").read_text() == "hours of work" and not (tmp_path / ".model.old").exists()
        shutil.rmtree(out)


@pytest.mark.parametrize("place", ["link", "folder", "fifo"])
def test_writers_check_the_target_themselves(tmp_path: Path, place: str) -> None:
    """Writers called without check_output also refuse special files."""
    (tmp_path / "victim").write_text("precious")
    plant(tmp_path / "out", place, tmp_path / "victim")
    before = tree(tmp_path)
    for act in (files.atomic_writer, files.atomic_binary_writer):
        with pytest.raises(FileError, match="out: (a link|a folder|not a regular file)"), act(tmp_path / "out"):
            pass
    with pytest.raises(FileError):
        write(tmp_path / "out")
    assert tree(tmp_path) == before


def text_file(path: Path) -> AbstractContextManager[Any]:
    return files.atomic_writer(path)


def bytes_file(path: Path) -> AbstractContextManager[Any]:
    return files.atomic_binary_writer(path)


def folder(path: Path) -> AbstractContextManager[Any]:
    return files.atomic_folder(path)


def resumable(path: Path) -> AbstractContextManager[Any]:
    return files.part(path, {}, str)


@pytest.mark.parametrize("writer", [text_file, bytes_file, folder, resumable])
def test_a_second_writer_is_refused_and_the_first_one_finishes(writer: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with writer(out):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(Busy, match=f"^{out}: another process is writing it; wait for it, or give another name$"), writer(out):
            pass
        assert sorted(tmp_path.rglob("*")) == before
    with writer(out):  # afterwards it can be written again
        pass
    assert sorted(tmp_path.rglob("*")) == ([] if writer is resumable else [out])


@pytest.mark.parametrize("writer", [text_file, bytes_file, folder])
def test_who_lost_the_race_for_the_temporary_file_does_not_delete_it(writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes the new file for a left one, because it is not locked yet, and puts its own in its place."""
    flock, taken = fcntl.flock, []

    def late(handle: int, how: int) -> None:
        if not taken:
            (temporary,) = tmp_path.iterdir()
            files.remove(temporary)
            taken.append(temporary)
            temporary.write_text("of another process")
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(Busy), writer(tmp_path / "out"):
        pass
    assert taken[0].read_text() == "of another process"


def test_a_second_writer_with_a_manifest_is_refused(tmp_path: Path) -> None:
    def twice(file: IO[bytes]) -> dict[str, Any]:
        with pytest.raises(Busy, match="another process is writing it"):
            files.write_with_manifest(tmp_path / "out.csv", lambda _: None)
        file.write(b"first")
        return {"rows": 1}

    files.write_with_manifest(tmp_path / "out.csv", twice)
    assert (tmp_path / "out.csv").read_bytes() == b"first" and files.has_manifest(tmp_path / "out.csv")


def test_order_of_flushes_and_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Safe at a power failure: data and manifest are flushed before any rename, and the folder after all renames."""
    out = tmp_path / "out.csv"
    write(out, "old")
    done: list[str] = []
    fsync, replace, unlink = os.fsync, os.replace, os.unlink
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(f"flush {Path(f'/proc/self/fd/{fd}').readlink().name}"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append(f"rename {Path(names[0]).name}"), replace(*names)))
    monkeypatch.setattr(os, "unlink", lambda name: (done.append(f"drop {Path(name).name}") if Path(name).exists() else None, unlink(name)))
    write(out, "new")
    monkeypatch.undo()  # the folder is deleted with os.unlink
    data, manifest = ".out.csv.tmp", ".out.csv.manifest.json.tmp"
    first = max(done.index(f"flush {data}"), done.index(f"flush {manifest}"))
    assert first < done.index("drop out.csv.manifest.json") < done.index(f"rename {data}") < done.index(f"rename {manifest}")
    assert done[-1] == f"flush {tmp_path.name}"


# --- checks of outputs ----------------------------------------------------------------------------------------------------


def refusal(path: Path, *inputs: Path, overwrite: bool | None = None) -> str:
    with pytest.raises(FileError) as caught:
        files.check_output(path, inputs, overwrite)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("overwrite", [None, False, True])
def test_links_folders_and_devices_are_never_replaced(tmp_path: Path, overwrite: bool | None) -> None:
    for what in ("link", "dangling link", "folder", "fifo"):
        path = tmp_path / what.replace(" ", "_")
        plant(path, what, tmp_path / "victim")
        assert path.name in refusal(path, overwrite=overwrite)
    for device in ("/dev/null", "/dev/stdout", "/dev/stdin", "/dev/full"):
        assert Path(device).lstat()
        assert device in refusal(Path(device), overwrite=overwrite)
    for companion in (files.manifest_path, files.part_path):
        path = tmp_path / f"{companion.__name__}.csv"
        companion(path).mkdir()
        assert "a folder" in refusal(path, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_replaced(tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by its own path, a relative path or a link, nor by the temporary files of an output."""
    source = tmp_path / "in.csv"
    write(source)
    (tmp_path / "hard.csv").hardlink_to(source)
    (tmp_path / "link.csv").symlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in (source, Path("in.csv"), tmp_path / "folder" / "in.csv", tmp_path / "hard.csv"):
        assert "would destroy the input" in refusal(path, source, overwrite=overwrite)
    assert "would destroy the input" in refusal(source, tmp_path / "link.csv", overwrite=overwrite)
    for companion in (files.part_path, files.manifest_path, files.temporary_path):
        out = tmp_path / "out.csv"
        companion(out).write_text("comment_id,comment\n")
        assert "would destroy the input" in refusal(out, companion(out), overwrite=overwrite)
        companion(out).unlink()
    files.check_output(tmp_path / "other.csv", [source, tmp_path / "missing.csv", files.STANDARD], overwrite)
    files.check_output(files.STANDARD, [source], overwrite)


def test_a_foreign_file_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    own, foreign = tmp_path / "own.csv", tmp_path / "foreign.csv"
    write(own)
    foreign.write_text("mine")
    files.check_output(own)
    own.write_text("damaged")  # but it still has its manifest
    files.check_output(own)
    assert "foreign.csv: already exists" in refusal(foreign) and "--overwrite" not in refusal(foreign)
    assert "or --overwrite" in refusal(foreign, overwrite=False)
    files.check_output(foreign, overwrite=True)
    shutil.copy(files.manifest_path(own), files.manifest_path(foreign))  # describes another file
    assert "foreign.csv: already exists" in refusal(foreign)
    files.manifest_path(foreign).write_text("{")  # corrupt, but it has the name of our manifests
    files.check_output(foreign)
    files.manifest_path(own).unlink()  # without its manifest a file counts as foreign
    assert "own.csv: already exists" in refusal(own)


def test_paths_that_cannot_be_written(tmp_path: Path, public: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "file: not a folder" in refusal(tmp_path / "file" / "deeper" / "out.csv")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    assert "broken: not a folder" in refusal(tmp_path / "broken" / "out.csv")
    assert "cannot be written" in refusal(tmp_path / ("x" * 300))
    assert "cannot be written" in refusal(Path("/proc/nothing/out.csv"))
    (public / "shut").mkdir(mode=0o555)
    (public / "closed").mkdir(mode=0o000)
    for folder in ("shut", "closed", "shut/deeper"):
        for check in (
            lambda path: files.check_output(path),
            lambda path: files.check_output_folder(path, [], True, lambda _: True),
            lambda path: files.run_folder(path.parent, make=True).__enter__(),
        ):
            message = as_nobody(lambda check=check, folder=folder: check(public / folder / "out"))  # type: ignore[misc]
            assert "cannot be written (Permission denied)" in message and "\n" not in message
    assert as_nobody(lambda: files.check_output(Path(tempfile.gettempdir()) / "a_name_of_nobody.csv")) == ""


def test_check_output_folder(tmp_path: Path) -> None:
    def check(path: Path, overwrite: bool = False) -> None:
        files.check_output_folder(path, [tmp_path / "source"], overwrite, lambda folder: (folder / "model.json").exists())

    (tmp_path / "source" / "deeper").mkdir(parents=True)
    (tmp_path / "source" / "model.json").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    shutil.copytree(tmp_path / "source", tmp_path / "model")
    for name in ("empty", "new", "deeper/new"):
        check(tmp_path / name)
    check(tmp_path / "model", overwrite=True)
    for name, overwrite, why in (
        ("file", True, "a file"), ("link", True, "a link"), ("home", True, "did not write"), ("model", False, "already exists"),
        ("source", True, "destroy the input"), ("", True, "destroy the input"), ("link/../source", True, "destroy the input"),
    ):  # fmt: skip
        with pytest.raises(FileError, match=why):
            check(tmp_path / name, overwrite)


# --- parts ----------------------------------------------------------------------------------------------------------------

GARBAGE = {
    "a truncated line": b'["c"', "a NUL": b"\0", "a block of NULs": b"\0" * 4096 + b"\n", "not UTF-8": b'["\xff"]\n',
    "another type": b"7\n", "an empty list": b"[]\n", "text": b"hello\n", "an object": b'{"a": 1}\n', "a blank line": b"\n",
    "deep nesting": b"[" * 100_000 + b"\n",
}  # fmt: skip


@pytest.mark.parametrize("key", ["rows", "sha256", "made_from"])
@pytest.mark.parametrize("value", [None, [], 1.5])
def test_a_manifest_with_a_value_of_another_type_is_one_line(tmp_path: Path, key: str, value: Any) -> None:
    path = files.manifest_path(tmp_path / "a.csv")
    path.write_text(json.dumps({"rows": 1, "sha256": "", "made_from": {}, key: value}))
    with pytest.raises(FileError, match="rows, sha256 or made_from is missing or invalid"):
        files.read_manifest(tmp_path / "a.csv")
    path.write_text("[" * 100_000)
    with pytest.raises(FileError, match="not readable"):
        files.read_manifest(tmp_path / "a.csv")


@pytest.mark.parametrize("what", ["long name", "part over a folder", "folder over a dangling link"])
def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    block: AbstractContextManager[Any] = {
        "long name": files.atomic_writer(tmp_path / ("x" * 260)),
        "part over a folder": files.part(tmp_path / "out", MADE, parse),
        "folder over a dangling link": files.atomic_folder(tmp_path / "link"),
    }[what]

    def main() -> None:
        with block:
            pass

    with pytest.raises(SystemExit) as end:
        cli.run_command(main, "stage", [])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith(f"stage: {tmp_path}/") and (tmp_path / "link").is_symlink()


def parse(value: Any) -> tuple[str, ...]:
    return (value[0], *value[1:])


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("more", [b"", b'["d"]\n'])
def test_a_part_is_truncated_after_its_last_valid_piece(tmp_path: Path, name: str, more: bytes) -> None:
    """Pieces after an invalid line are discarded. A second interruption loses none of the valid pieces."""
    out, path = tmp_path / "out.csv", tmp_path / "out.csv.part"
    with pytest.raises(KeyboardInterrupt), files.part(out, MADE, parse) as part:
        part.add(["a"])
        part.add(["b"])
        raise KeyboardInterrupt
    kept = path.read_bytes()
    path.write_bytes(kept + GARBAGE[name] + more)
    with pytest.raises(KeyboardInterrupt), files.part(out, MADE, parse) as part:
        assert part.done == [("a",), ("b",)]
        raise KeyboardInterrupt
    assert path.read_bytes() == kept
    with files.part(out, MADE, parse) as part:
        assert part.done == [("a",), ("b",)]
        part.add(["c"])
        assert path.read_bytes() == kept + b'["c"]\n'
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [b"", b"\0\0\0", b'{"seed": 8}\n["a"]\n', b'{"seed": 7}', b"\xff\n", b"comment_id\r\n"])
def test_a_part_of_another_job_is_discarded(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "out.csv.part").write_bytes(first)
    with files.part(tmp_path / "out.csv", MADE, parse) as part:
        assert part.done == []
        part.add(["a"])
        assert (tmp_path / "out.csv.part").read_bytes() == b'{"seed": 7}\n["a"]\n'


@pytest.mark.parametrize("what", ["link", "hard link", "dangling link"])
def test_a_part_does_not_follow_links(tmp_path: Path, what: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text('{"seed": 7}\n["a"]\n["b')
    plant(tmp_path / "out.csv.part", what, victim)
    with files.part(tmp_path / "out.csv", MADE, parse) as part:
        assert part.done == []
        part.add(["c"])
    assert victim.read_text() == '{"seed": 7}\n["a"]\n["b' and [path.name for path in tmp_path.iterdir()] == ["victim"]


# --- locks ----------------------------------------------------------------------------------------------------------------

HOLD = (
    "import sys; from pathlib import Path; from bot import files\n"
    "try:\n    with files.run_folder(Path(sys.argv[1])): print('held')\n"
    "except files.Busy as error: print(error.status, error)\n"
)


def try_to_lock(folder: Path, **environment: str) -> str:
    call = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.run(call, env={"PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True, check=True).stdout


def test_a_run_folder_is_locked_except_for_the_stages_of_the_run(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    with pytest.raises(UserError, match="no such run folder"), files.run_folder(run):
        pass
    assert not run.exists()
    with files.run_folder(run, make=True) as environment, files.run_folder(other, make=True) as elsewhere:
        busy = f"75 {run}: another run is using this folder; wait for it or give another folder\n"
        assert try_to_lock(run) == busy
        assert try_to_lock(run, **environment) == "held\n"
        assert try_to_lock(tmp_path / "." / "other" / ".." / "run", **environment) == "held\n"
        assert try_to_lock(run, **elsewhere) == busy  # the lock of another folder
        name, value = next(iter(environment.items()))
        stale = {name: value.replace(str(os.getpid()), "1")}  # of a run that has ended
        assert try_to_lock(run, **stale) == busy
        child = f"[sys.executable, '-c', {HOLD!r}, {str(run)!r}]"
        deeper = f"import subprocess, sys; print(subprocess.run({child}, text=True, capture_output=True).stdout)"
        call = [sys.executable, "-c", deeper]
        done = subprocess.run(call, env={"PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == busy.strip()  # not a child of this process
    assert try_to_lock(run, **environment) == "held\n"  # the lock is free, so the variable does not matter
    with files.run_folder(run), pytest.raises(Busy), files.run_folder(run):
        pass


def test_a_foreign_folder_does_not_become_a_run_folder(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(RuntimeError), files.run_folder(folder):
        raise RuntimeError  # such as: it has no comments.csv
    assert list(folder.iterdir()) == []
    (folder / "report.html").write_text("mine")
    with pytest.raises(FileError, match="report.html: already exists, but the folder contains no run"), files.run_folder(folder):
        pass


def test_a_run_that_failed_before_its_first_table_can_be_resumed(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), files.run_folder(tmp_path / "run", make=True):
            (tmp_path / "run" / "log.jsonl").write_text("{}\n")
            raise RuntimeError
        assert files.is_run(tmp_path / "run")
    with pytest.raises(RuntimeError), files.run_folder(tmp_path / "run"):
        raise RuntimeError
    assert files.is_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_name_that_is_only_a_folder_is_no_output(name: str) -> None:
    with pytest.raises(FileError, match="is a folder; give another output"):
        files.check_output(Path(name))


def test_a_run_folder_with_foreign_files(tmp_path: Path) -> None:
    for name in files.RUN_FILES:
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(FileError, match=f"{name}: already exists, but the folder contains no run"), files.run_folder(folder, make=True):
            pass
        assert tree(folder) == {name: b"mine"}
        write(folder / "comments.csv")  # a run that was copied without its dot files
        with files.run_folder(folder):
            pass
        files.manifest_path(folder / "comments.csv").unlink()
        with files.run_folder(folder):  # it contains a lock file
            pass
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="cannot be locked"), files.run_folder(tmp_path / "planted"):
        pass
    assert not (tmp_path / "victim").exists()


# --- every stage ----------------------------------------------------------------------------------------------------------
# The output of each stage, relative to the folder `work`, and its arguments. All inputs are missing or invalid, so an error that names the
# output was raised before anything was read.

FILES = {
    "extract": ("raw/2017-01.parquet", "--dumps dumps --from 2017-01 --to 2017-01 --out raw"),
    "prepare": ("prepared/lm_val.csv", "--raw nowhere --out prepared"),
    "prepare realism": ("prepared/realism_test.csv", "nowhere.csv --out prepared"),
    "prepare ranked": ("prepared/ranked_pairs.csv", "nowhere.jsonl --out prepared"),
    "prepare imitate": ("prepared/imitate_train.csv", "--also nowhere.csv --out prepared"),
    "prepare picked": ("prepared/imitate_train.csv", "nowhere.csv --out prepared"),
    "run": ("run/chosen.csv", "--out run"),
    "fetch": ("run/skipped.csv", "--run run"),
    "generate": ("out.csv", "--in nowhere.csv --out out.csv"),
    "generate (run)": ("run/candidates.csv", "--run run"),
    "score": ("out.csv", "--in nowhere.csv --out out.csv"),
    "check": ("out.csv", "--in nowhere.csv --out out.csv"),
    "rank": ("run/scores.csv", "--run run"),
    "choose": ("run/chosen.csv", "--run run"),
    "submit": ("run/submitted.csv", "--run run --post"),
    "report": ("run/report.html", "--run run"),
    "report (spreadsheet)": ("run/for_spreadsheet.csv", "--run run"),
    "sandbox": ("url.txt", "--db box.sqlite --url-file url.txt"),
    "harvest": ("harvest.csv", "--out harvest.csv"),
    "perplexity": ("out.json", "--model nowhere --in nowhere.csv --out out.json"),
    "evaluate": ("out/metrics.json", "--data nowhere --out out"),
    "judge": ("judgements.csv", "nowhere.csv --out judgements.csv"),
    "judge (sheet)": ("sheet.csv", "nowhere.csv --sheet sheet.csv"),
    "evaluate (page)": ("out/evaluation.html", "--data nowhere --out out"),
    "leaderboard": ("out/leaderboard.json", "--data nowhere --out out"),
    "leaderboard (page)": ("out/samples.html", "--data nowhere --out out"),
    "leaderboard retrieve": ("out.csv", "--in nowhere.csv --data nowhere --out out.csv"),
    "init": ("my.toml", "--out my.toml"),
}
FOLDERS = {
    "models convert": ("model", "checkpoint --out model"),
    "models export-tfhub": ("model", "minilm-l6 --out model"),
    **{f"train {task}": ("model", "--data nowhere --out model") for task in ("lm", "realism", "upvote", "relevance", "choice", "conduct")},
}
NO_OUTPUT_OPTION = {  # stages without an output chosen by the user, and what they write instead
    "train weights": "", "train sketches": "replies.npy of a model", "models list": "", "status": "",
    "models card": "the card of a model", "models pull": "models/base", "models export": ".serving beside a model", "purge": "in place",
    "inbox": "the ledger", "pause": "the ledger", "resume": "the ledger", "forget": "the ledger", "resolve": "the ledger",
    "unbench": "the ledger", "adopt": "the ledger", "prune": "", "judge table": "",
    "web": "approvals.csv of a run", "reply": "", "chat": "", "doctor": "", "leaderboard fill": "the folder of the leaderboard",
}  # fmt: skip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    for name in ("dumps", "run"):
        (folder / name).mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def refused(stage: str, arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a stage that must fail without changing any file, and return its error line."""
    name = stage.partition(" (")[0]
    before = tree(Path())
    with pytest.raises(SystemExit) as ended:
        cli.run_command(command_of(name), f"run_bot.py {name}", arguments.split())
    out, error = capsys.readouterr()
    assert ended.value.code == 1 and out == "" and error.count("\n") == 1, (out, error)
    after = tree(Path())
    assert {path: content for path, content in after.items() if not path.endswith(".lock")} == before
    return error


@pytest.mark.parametrize("obstacle", ["folder", "link", "dangling link", "fifo", "foreign", "parent"])
@pytest.mark.parametrize("stage", FILES)
def test_a_stage_checks_its_output_first(stage: str, obstacle: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, arguments = FILES[stage]
    out = Path(name)
    shutil.rmtree("run" if out.parent != Path("run") or obstacle == "parent" else "nowhere", ignore_errors=True)
    if obstacle == "parent":
        if out.parent == Path():
            out, arguments = Path("deeper") / name, arguments.replace(name, f"deeper/{name}")
        out.parent.write_text("a file")
        assert str(out.parent) in refused(stage, arguments, capsys)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if obstacle == "foreign":
        out.write_text("mine")
    else:
        Path("victim").write_text("precious")
        plant(out, obstacle, Path("victim").absolute())
    assert str(out) in refused(stage, arguments, capsys)


@pytest.mark.parametrize("obstacle", ["file", "link", "foreign"])
@pytest.mark.parametrize("stage", FOLDERS)
def test_a_stage_checks_its_output_folder_first(stage: str, obstacle: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, arguments = FOLDERS[stage]
    out = Path(name)
    if obstacle == "file":
        out.write_text("mine")
    elif obstacle == "link":
        Path("victim").mkdir()
        out.symlink_to(Path("victim").absolute())
    else:
        out.mkdir()
        (out / "letter").write_text("dear")
    assert str(out) in refused(stage, arguments, capsys)
    assert str(out) in refused(stage, f"{arguments} --overwrite", capsys)


INPUTS = {
    "generate": "--in {in} --out {out}",
    "score": "--in {in} --out {out}",
    "prepare realism": "{in} --out prepared",
    "prepare ranked": "{in} --out prepared",
}


@pytest.mark.parametrize("way", ["itself", "hard link", "link"])
@pytest.mark.parametrize("stage", INPUTS)
def test_a_stage_does_not_replace_its_input(stage: str, way: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(FILES[stage][0])
    out.parent.mkdir(exist_ok=True)
    out.write_text("comment_id,comment,reply\nt1_a,Hi,Ho\n")
    source = out
    if way != "itself":
        source = Path("source.csv")
        plant(source, way, out.absolute())
    for more in ("", " --overwrite"):
        line = refused(stage, INPUTS[stage].format_map({"in": source, "out": out}) + more, capsys)
        assert f"{out}: writing it would destroy the input {source}" in line


def test_every_stage_is_covered() -> None:
    """A new stage must be added to one of these tables."""
    assert {*(name.partition(" (")[0] for name in (*FILES, *FOLDERS)), *NO_OUTPUT_OPTION} == STAGES.keys()


@pytest.mark.parametrize("stage", [stage for stage, (_, arguments) in FILES.items() if "--run" in arguments])
def test_a_stage_fails_if_a_run_has_locked_its_folder(stage: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = stage.partition(" (")[0]
    with files.run_folder(Path("run")), pytest.raises(SystemExit) as ended:
        cli.run_command(command_of(name), f"run_bot.py {name}", FILES[stage][1].split())
    out, error = capsys.readouterr()
    assert ended.value.code == 75 and out == "" and error.count("\n") == 1 and "another run is using this folder" in error


# --- standard input and output --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "stream"), [("score --in - --out o.csv <&-", "input"), ("check --in in.csv --out - >&-", "output")])
@pytest.mark.usefixtures("cold")
def test_a_closed_stream_is_one_line(tmp_path: Path, call: str, stream: str) -> None:
    (tmp_path / "in.csv").write_text("comment\nWhy?\n")
    program = f"{sys.executable} {ROOT / 'run_bot.py'} {call}"
    plain = {**os.environ, "BOT_CONDUCT__COMMENT_CLASSIFIER": "", "BOT_CONDUCT__REPLY_CLASSIFIER": ""}
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, env=plain, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and f"standard {stream} is closed" in done.stderr and done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config with tiny models of back end ctranslate2, which starts in a fraction of the time of PyTorch."""
    folder = tmp_path_factory.mktemp("models")
    lm, ranker = tiny.language_model(folder / "lm"), tiny.encoder(folder / "ranker")
    for source in (lm, ranker):
        to_ctranslate2.export(source, "float32")
    path = folder / "config.toml"
    path.write_text(
        f'[generate]\nbackend = "ctranslate2"\nprecision = "float32"\nmodel = "{lm}"\nnum_candidates = 2\nmax_new_tokens = 6\n'
        f'[rank]\nbackend = "ctranslate2"\nprecision = "float32"\nrealism = "{ranker}"\nupvote = ""\nrelevance = ""\nchoice = ""\n'
        "[rank.weights]\nchoice = 0\nrelevance = 0\n"
    )
    return path


def command(*arguments: str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, str(ROOT / "run_bot.py"), *arguments], input=stdin, capture_output=True, check=False, cwd=cwd)


def test_generate_and_score_in_a_pipe(tmp_path: Path, models: Path) -> None:
    """The output is the same as with files, messages go to standard error, and no file is written."""
    rows = [{"comment_id": f"t1_{n}", "comment": f"Comment {n}, «ü»\r\n"} for n in range(3)] + [
        {"comment_id": "t1_d", "comment": "[deleted]"}
    ]
    schema.write_table(tmp_path / "in.csv", ["comment_id", "comment"], rows)
    config = ["--config", str(models)]
    assert command("generate", "--in", "in.csv", "--out", "made.csv", *config, cwd=tmp_path).returncode == 0
    assert command("score", "--in", "made.csv", "--out", "scored.csv", *config, cwd=tmp_path).returncode == 0
    before = tree(tmp_path)
    made = command("generate", "--in", "-", "--out", "-", *config, cwd=tmp_path, stdin=(tmp_path / "in.csv").read_bytes())
    assert made.stdout == (tmp_path / "made.csv").read_bytes() and b"1 comments left out: deleted" in made.stderr
    scored = command("score", "--in", "-", "--out", "-", *config, cwd=tmp_path, stdin=made.stdout)
    assert scored.stdout == (tmp_path / "scored.csv").read_bytes() and b"6 rows scored" in scored.stderr
    assert (made.returncode, scored.returncode) == (0, 0) and tree(tmp_path) == before
    done = command("score", "--in", "-", "--out", "again.csv", *config, cwd=tmp_path, stdin=made.stdout)
    assert done.returncode == 0 and (tmp_path / "again.csv").read_bytes() == scored.stdout
    one, other = (json.loads(files.manifest_path(tmp_path / name).read_text()) for name in ("again.csv", "scored.csv"))
    assert one["made_from"] == other["made_from"]
    bad = command("score", "--in", "-", "--out", "-", *config, cwd=tmp_path, stdin=b"comment,answer\n")
    assert bad.returncode == 1 and bad.stdout == b"" and bad.stderr.count(b"\n") == 1 and b"standard input" in bad.stderr


def test_generate_ignores_invalid_lines_in_its_part(tmp_path: Path, models: Path) -> None:
    from bot import config

    settings: GenerateSettings = config.load(models).generate
    schema.write_table(
        tmp_path / "in.csv", ["comment_id", "comment"], [{"comment_id": f"t1_{n}", "comment": f"Comment {n}"} for n in range(3)]
    )
    generate.generate([tmp_path / "in.csv"], tmp_path / "whole.csv", settings, 1)
    made_from = (files.read_manifest(tmp_path / "whole.csv") or {})["made_from"]
    for garbage in ("\0", "\0\n", "[]\n", '[{"comment_id": "t1_0"}]\n', '{"a": 1}\n', "[7]\n", "null\n"):
        (tmp_path / "out.csv.part").write_text(json.dumps(made_from, sort_keys=True) + "\n" + garbage)
        generate.generate([tmp_path / "in.csv"], tmp_path / "out.csv", settings, 1)
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        (tmp_path / "out.csv").unlink()
        files.manifest_path(tmp_path / "out.csv").unlink()


def test_only_a_foreign_file_needs_overwrite(tmp_path: Path, models: Path) -> None:
    schema.write_table(tmp_path / "in.csv", ["comment", "reply"], [{"comment": "Hi", "reply": "Ho"}])
    call = ["score", "--in", "in.csv", "--out", "out.csv", "--config", str(models)]
    (tmp_path / "out.csv").write_text("mine")
    failed = command(*call, cwd=tmp_path)
    assert failed.returncode == 1 and b"out.csv: already exists" in failed.stderr and (tmp_path / "out.csv").read_text() == "mine"
    assert command(*call, "--overwrite", cwd=tmp_path).returncode == 0
    assert command(*call, cwd=tmp_path).returncode == 0
    killed = f"import os; os.replace = lambda *_: os.kill(os.getpid(), {int(signal.SIGKILL)})\n"  # killed before the renames
    program = f"import sys; sys.argv = ['run_bot.py', *{call!r}]\n{killed}from bot.__main__ import main; main('run_bot.py')"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "out.csv.manifest.json").exists()
    assert command(*call, cwd=tmp_path).returncode == 0
    assert files.has_manifest(tmp_path / "out.csv") and not list(tmp_path.glob(".*.tmp")) and not list(tmp_path.glob("*.part"))
