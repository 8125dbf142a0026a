"""Every entry of the back-end tables satisfies the contract of its table (generators.Generator, rankers.Ranker).

Each back end runs a tiny model in separate processes, as the stages do; tests/test_isolation.py checks which framework they load. A new
back end needs a function in MAKERS that creates its tiny model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, GPT2LMHeadModel

from bot import cli, generators, rankers, schema
from bot.config import Precision
from bot.export import to_ctranslate2, to_tfhub
from bot.schema import Candidate
from bot.train import TRAINERS
from bot.weights import bases, cards, pull
from tests import serving, tiny
from tests.test_gpt_2_simple import edited_checkpoint

pytestmark = pytest.mark.usefixtures("eager_again")

CONTROL_TOKENS = ("<|endoftext|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>", "[SEP]", "[CLS]", "[PAD]")
TEXTS = [
    "Which book made you laugh?",
    "My kettle takes ten minutes to boil, is that normal?",
    "Which book made you laugh out loud on the train? " * 180,  # far beyond the context of every tiny model
    "\N{GRINNING FACE} \N{FAMILY}\u200d\N{WOMAN}\ufe0f \N{REGIONAL INDICATOR SYMBOL LETTER N}\N{REGIONAL INDICATOR SYMBOL LETTER P}",
    "أي كتاب أضحكك؟ \u202eשלום\u202c!",
    *CONTROL_TOKENS,
    "a <|endoftext|> b [SEP] <|startoftext|> c",
    "x",
]
EMPTY = ["", " \n ", "\u200b"]
NUM_CANDIDATES = 3
# float32: with weights as large as those of tiny models, products of 8-bit numbers overflow on processors without VNNI
PRECISION: Precision = "float32"
ENGINE_SETTINGS = {"MAX_NEW_TOKENS": 16, "MAX_PROMPT_TOKENS": 900, "NUM_CANDIDATES": NUM_CANDIDATES, "PRECISION": PRECISION}

# Both load each model once, because a process builds one graph. A refusal must be a UserError; any other exception ends the program.
# At the end both write STAGE_BEGINS to standard error and run the stage itself with a missing model.
STAGE_BEGINS = "the stage begins"
GENERATES = """
import dataclasses, functools, json, os, sys
from pathlib import Path
from bot import cli, config, generators
from bot.online import generate
folder, settings = Path(sys.argv[1]), config.load(None).generate
generators.load = functools.cache(generators.load)
for seed in (1, 2):
    generate.generate([folder / "comments.csv"], folder / f"seed-{seed}.csv", settings, seed)
generator = generators.load(settings.backend, settings.model, settings.precision)
comment = ("t1_one", "Which book made you laugh out loud?")
for penalty in (1.0, 1.3):
    own = settings.model_copy(update={"repetition_penalty": penalty})
    try:
        pair = list(generator.sample([comment], own, 3))[0], list(generator.stream(*comment, own, 3))
    except cli.UserError:
        continue
    print(json.dumps({"streamed": [[dataclasses.asdict(each) for each in rows] for rows in pair]}))
stopped = generator.stream(*comment, settings, 3)
next(stopped)
stopped.close()
if generators.back_end(settings.backend).likelihoods == generators.back_end(settings.backend).module:
    given = [(comment[1], reply) for reply in ("This one did.", "This one did, and so did the other one.")]
    print(json.dumps({"counted": generator.token_counts(given), "means": generator.log_likelihoods(given, settings)}))
for wrong in sys.argv[2:]:
    try:
        generators.load(settings.backend, Path(wrong), settings.precision)
    except cli.UserError as error:
        print(json.dumps({"refused": str(error)}))
os.environ["BOT_GENERATE__MODEL"] = sys.argv[2]
print("the stage begins", file=sys.stderr, flush=True)
cli.run_command(generate.main, "generate", ["--in", str(folder / "comments.csv"), "--out", str(folder / "none.csv")])
"""
RANKS = """
import functools, json, os, sys
from pathlib import Path
from bot import cli, config, rankers
from bot.rankers import scoring
folder, settings = Path(sys.argv[1]), config.load(None).rank
rankers.load = functools.cache(rankers.load)
for name, batch_size in (("forwards", 32), ("backwards", 3), ("forwards", 1)):
    how = scoring.by_all(settings.model_copy(update={"batch_size": batch_size}))
    scoring.score_file(folder / f"{name}.csv", folder / f"{name}-{batch_size}.csv", how)
assert rankers.load(settings.backend, settings.realism, settings.precision).score([]) == []
for wrong in sys.argv[2:]:
    try:
        rankers.load(settings.backend, Path(wrong), settings.precision)
    except cli.UserError as error:
        print(json.dumps({"refused": str(error)}))
os.environ["BOT_RANK__REALISM"] = sys.argv[2]
print("the stage begins", file=sys.stderr, flush=True)
cli.run_command(scoring.main, "score", ["--in", str(folder / "forwards.csv"), "--out", str(folder / "none.csv")])
"""


# --- tiny models ----------------------------------------------------------------------------------------------------------


def soon_ending(folder: Path) -> Path:
    """tiny.language_model, but with a probability of about 15 % for its end token at each step."""
    tiny.language_model(folder)
    model = GPT2LMHeadModel.from_pretrained(folder)
    with torch.no_grad():
        words = model.transformer.wte.weight
        words -= words.mean(dim=1, keepdim=True)  # so that the bias has no effect on other tokens
        words[model.config.eos_token_id] = 0.14
        model.transformer.ln_f.bias += 1
    model.save_pretrained(folder)
    return folder


def soon_ending_checkpoint(folder: Path) -> Path:
    """tiny.gpt2_checkpoint with the same change."""

    def edit(weights: dict[str, Any]) -> None:
        weights["model/ln_f/b"] += 1
        weights["model/wte"] -= weights["model/wte"].mean(axis=1, keepdims=True)
        weights["model/wte"][0] = 0.14

    return edited_checkpoint(tiny.gpt2_checkpoint(folder.with_name("plain")), folder, edit)


def served(folder: Path) -> Path:
    """A folder for `transformers serve` with the model of soon_ending, which is started."""
    model = soon_ending(folder / "served")
    settings = GenerationConfig.from_pretrained(model)
    settings.do_sample = True
    settings.save_pretrained(model)
    url = serving.transformers_serve(model, folder / "log.txt")
    return serving.Stub().folder(folder / "lm", url=url, model=str(model), start="<|endoftext|>")


def exported(folder: Path) -> Path:
    to_ctranslate2.export(folder, PRECISION)
    return folder


def two_rankers(folder: Path) -> dict[str, Path]:
    """A classifier and a dual encoder."""
    dual = tiny.encoder(folder / "dual", head=False)
    fitted = {"architecture": "dual encoder", "scale": 9.0, "offset": -8.0}
    cards.write_card(dual, cards.ModelCard("relevance", "tiny", "0" * 64, "full", settings=fitted))
    return {"realism": tiny.encoder(folder / "classifier"), "relevance": dual}


def tfhub_ranker(folder: Path) -> dict[str, Path]:
    tiny.eager_again()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "BASE_DIR", folder / "bases")
        pull.pull("tiny", tiny.encoder(folder / "source", head=False))
        return {"realism": tiny.tfhub_ranker(to_tfhub.export("tiny"), folder / "classifier")}


def glove_ranker(folder: Path) -> dict[str, Path]:
    tiny.eager_again()
    return {"realism": tiny.glove_ranker(folder / "classifier")}


GENERATORS: dict[str, Callable[[Path], Path]] = {
    "ctranslate2": lambda folder: exported(soon_ending(folder / "lm")),
    "transformers": lambda folder: soon_ending(folder / "lm"),
    "gpt-2-simple": lambda folder: soon_ending_checkpoint(folder / "lm"),
    "keras-seq2seq": lambda folder: folder / "keras" / "keras-seq2seq",
    "keras-transformer": lambda folder: folder / "keras" / "keras-transformer",
    "openai-server": served,
}
# The server cuts no prompt, and has one random stream for all requests and processes.
OWN_SETTINGS = {"openai-server": {"MAX_PROMPT_TOKENS": 40, "BATCH_SIZE": 1}}
RANKERS: dict[str, Callable[[Path], dict[str, Path]]] = {
    "ctranslate2": lambda folder: {kind: exported(path) for kind, path in two_rankers(folder).items()},
    "transformers": two_rankers,
    "tfhub-bert": tfhub_ranker,
    "glove-bilstm": glove_ranker,
}


# --- processes ------------------------------------------------------------------------------------------------------------


def run(arguments: list[Any], settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run python with these arguments. settings: environment variables without the prefix BOT_."""
    environment = cli.with_root(os.environ) | {f"BOT_{name}": str(value) for name, value in settings.items()}
    return subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)


def done(process: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert process.returncode == 0, process.stderr
    return process


def wrong_folders(folder: Path, other: Path) -> list[Path]:
    """A missing folder, an empty one, one without a model, and one with a model of another kind."""
    (folder / "empty").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "notes.txt").write_text("no model\n", encoding="utf-8")
    return [folder / "nothing", folder / "empty", folder / "notes", other]


def until_the_stage(worker: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert STAGE_BEGINS in worker.stderr, worker.stderr
    return worker


def check_refusals(wrong: list[Path], worker: subprocess.CompletedProcess[str]) -> None:
    """Each refusal must be one line that names the folder. worker: tried all folders, and ran the stage with the first."""
    refused = [json.loads(line)["refused"] for line in worker.stdout.splitlines() if line.startswith('{"refused"')]
    assert len(refused) == len(wrong), refused
    for path, message in zip(wrong, refused, strict=True):
        assert path.name in message and len(message.splitlines()) == 1
    error = worker.stderr.partition(f"{STAGE_BEGINS}\n")[2]
    assert worker.returncode == 1 and error.count("\n") == 1 and str(wrong[0]) in error, error


# --- generators -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=generators.BACK_ENDS)
def generated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, keras_models: Path) -> dict[str, Any]:
    """Output of a back end for TEXTS: from the stage with seed 1, and from a worker with seeds 1 and 2; and its refusals."""
    folder = tmp_path_factory.mktemp("generator")
    (folder / "keras").symlink_to(keras_models)
    request.addfinalizer(serving.stop_all)
    settings = {"BACKEND": request.param, "MODEL": GENERATORS[request.param](folder), **ENGINE_SETTINGS}
    settings |= OWN_SETTINGS.get(request.param, {})
    variables = {f"GENERATE__{name}": value for name, value in settings.items()}
    rows = [{"comment_id": f"t1_{n}", "comment": body} for n, body in enumerate([*TEXTS, *EMPTY])]
    schema.write_table(folder / "comments.csv", ["comment_id", "comment"], rows)
    wrong = wrong_folders(folder, exported(tiny.encoder(folder / "other")))
    stage = [cli.ROOT / "run_bot.py", "generate", "--in", folder / "comments.csv", "--out"]
    calls = [
        ([*stage, folder / "stage.csv", "--seed", 1], variables),
        (["-c", GENERATES, folder, *wrong], variables),
    ]
    with ThreadPoolExecutor(1 if request.param in OWN_SETTINGS else 2) as pool:
        first, worker = pool.map(lambda call: run(*call), calls)
    return {"folder": folder, "stage": done(first), "worker": until_the_stage(worker), "wrong": wrong}


def test_each_generator_has_a_maker() -> None:
    assert GENERATORS.keys() == generators.BACK_ENDS.keys()


def test_the_same_seed_gives_the_same_file_and_another_seed_a_different_one(generated: dict[str, Any]) -> None:
    one, again, other = ((generated["folder"] / f"{name}.csv").read_bytes() for name in ("stage", "seed-1", "seed-2"))
    assert one == again
    texts = [[row.reply for row in schema.read_rows(generated["folder"] / f"seed-{seed}.csv", Candidate)] for seed in (1, 2)]
    assert one != other and np.mean([mine == its for mine, its in zip(*texts, strict=True)]) < 0.5


def test_number_and_order_of_candidates(generated: dict[str, Any]) -> None:
    rows = schema.read_rows(generated["folder"] / "stage.csv", Candidate)
    assert [row.candidate_id for row in rows] == [f"t1_{place}-{n}" for place in range(len(TEXTS)) for n in range(NUM_CANDIDATES)]
    assert [row.comment_id for row in rows] == [row.candidate_id.partition("-")[0] for row in rows]
    assert f"{len(EMPTY)} comments left out: empty" in generated["stage"].stdout
    assert len({row.reply for row in rows}) > len(rows) / 2


def test_control_tokens_are_read_as_text_and_never_written(generated: dict[str, Any]) -> None:
    """The models draw their end token at about every seventh step, and replies with an end token are shorter."""
    rows = schema.read_rows(generated["folder"] / "stage.csv", Candidate)
    assert not [row for row in rows if any(token in row.reply for token in CONTROL_TOKENS)]
    lengths = [len(row.reply) for row in rows]
    assert min(lengths) < max(lengths) / 3
    assert all(row.log_likelihood is None or -50 < row.log_likelihood < 0 for row in rows)


def test_a_stream_has_the_candidates_of_the_file(generated: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in generated["worker"].stdout.splitlines() if line.startswith('{"streamed"')]
    assert lines
    for line in lines:
        rows, streamed = line["streamed"]
        streamed.sort(key=lambda each: each["candidate_id"])
        likelihoods = [[row.pop("log_likelihood") for row in each] for each in (rows, streamed)]
        assert rows == streamed and len(rows) == NUM_CANDIDATES and len({row["reply"] for row in rows}) > 1
        assert likelihoods[0] == pytest.approx(likelihoods[1], abs=tiny.rounding(largest=10))


def test_likelihoods_of_given_replies(request: pytest.FixtureRequest, generated: dict[str, Any]) -> None:
    name = request.node.callspec.params["generated"]
    lines = [json.loads(line) for line in generated["worker"].stdout.splitlines() if line.startswith('{"counted"')]
    assert len(lines) == (generators.BACK_ENDS[name].likelihoods == generators.BACK_ENDS[name].module)
    for line in lines:
        assert 2 <= line["counted"][0] < line["counted"][1] and all(-50 < mean < 0 for mean in line["means"])


def test_a_folder_without_a_generator_is_a_one_line_error(generated: dict[str, Any]) -> None:
    check_refusals(generated["wrong"], generated["worker"])


# --- rankers --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=rankers.BACK_ENDS)
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scores of a back end for pairs of TEXTS, in order and reversed, with several batch sizes; and its refusals."""
    folder = tmp_path_factory.mktemp("ranker")
    models = RANKERS[request.param](folder)
    settings = {"BACKEND": request.param, "REALISM": "", "UPVOTE": "", "RELEVANCE": "", "CHOICE": "", "PRECISION": PRECISION}
    settings |= {kind.upper(): path for kind, path in models.items()}
    settings |= {f"WEIGHTS__{name}": "0" for name in ("REALISM", "UPVOTE", "RELEVANCE", "CHOICE") if not settings[name]}
    variables = {f"RANK__{name}": value for name, value in settings.items()}
    texts = [*TEXTS, *EMPTY]
    pairs = [{"comment": comment, "reply": reply} for place, comment in enumerate(texts) for reply in (texts[place - 1], texts[place - 4])]
    schema.write_table(folder / "forwards.csv", ["comment", "reply"], pairs)
    schema.write_table(folder / "backwards.csv", ["comment", "reply"], pairs[::-1])
    wrong = wrong_folders(folder, exported(tiny.language_model(folder / "other")))
    worker = until_the_stage(run(["-c", RANKS, folder, *wrong], variables))
    scores = {}
    for name in ("forwards-32", "backwards-3", "forwards-1"):
        _, rows = schema.read_table(folder / f"{name}.csv")
        scores[name] = {kind: np.array([float(row[f"{kind}_score"]) for row in rows]) for kind in models}
    return {"scores": scores, "worker": worker, "wrong": wrong}


def test_each_ranker_has_a_maker() -> None:
    assert RANKERS.keys() == rankers.BACK_ENDS.keys()


def test_scores_are_probabilities_that_differ_between_pairs(scored: dict[str, Any]) -> None:
    for scores in scored["scores"]["forwards-32"].values():
        assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1
        assert len(set(scores)) > len(scores) / 2 and np.ptp(scores) > 0.01


def test_scores_depend_neither_on_order_nor_on_batch_size(scored: dict[str, Any]) -> None:
    for kind, scores in scored["scores"]["forwards-32"].items():
        bound = tiny.rounding(largest=9 if kind == "relevance" else 1)  # two float32 programs; 9: the dual encoder's scale
        assert np.abs(scored["scores"]["backwards-3"][kind][::-1] - scores).max() < bound
        assert np.abs(scored["scores"]["forwards-1"][kind] - scores).max() < bound
        assert np.abs(np.diff(scores)).max() > 10 * bound


def test_a_folder_without_a_ranker_is_a_one_line_error(scored: dict[str, Any]) -> None:
    check_refusals(scored["wrong"], scored["worker"])


# --- training -------------------------------------------------------------------------------------------------------------


def test_every_trainer_has_a_back_end_that_runs_its_models() -> None:
    for task, trainers in TRAINERS.items():
        assert trainers.keys() <= (generators if task == "lm" else rankers).BACK_ENDS.keys(), task
