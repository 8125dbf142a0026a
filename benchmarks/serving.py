"""Speed and memory of serving: gpt-2-simple, transformers and the bot's worker on CTranslate2; GPT-2 124M (random weights), MiniLM rankers.

Writes FOLDER/124M and its conversions (2 GB, kept for the next run), FOLDER/serving.json and FOLDER/serving.png; prints tables.

    python benchmarks/serving.py --folder /tmp/bench                       all parts, about 15 minutes on two idle cores
    python benchmarks/serving.py --folder /tmp/bench --only generation --only rankers --repeat 1

All sides get the same prompts and lengths: 8 comments, 10 candidates, 60 tokens; none ends early. Each side runs in a separate process, the
sides alternate, and the table shows medians over the rounds. "whole process" is the time from start to exit; the others are warm: the model
is loaded and one comment has been answered. Parts:
- generation: gpt_2_simple.generate with nsamples=10, as its users call it, with the checkpoint reloaded for each comment, as in the
  original bot (timed on RELOADED comments, scaled to 8), and warm; transformers' generate; the worker; the worker's decoding alone; the
  CTranslate2 engine without the worker;
- rankers: 200 pairs of 96 tokens: one ranker with random weights, warm (median of six), and the three scores of the config's rankers as a
  whole process;
- growth: the worker on 1, 10, 100, 1,000 comments, with 2 candidates of 20 tokens;
- dry-run: `run_bot.py run --sandbox --limit 20` with the config's models.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
# the project instead of this folder, in which a file shadows the package gpt_2_simple
sys.path = [str(ROOT), *(each for each in sys.path if Path(each).resolve() != ROOT / "benchmarks")]
COMMENTS = [
    ("Which book made you laugh out loud on the train? " * repeat + "I need something light for a long journey.")[: 60 + 25 * repeat]
    for repeat in range(1, 9)
]
CANDIDATES, TOKENS, SEED = 10, 60, 1
RELOADED = 2
NATURAL = 40  # comments
PAIRS, PAIR_TOKENS = 200, 96
GROWTH, GROWTH_CANDIDATES, GROWTH_TOKENS = (1, 10, 100, 1000), 2, 20
PARTS = ["generation", "rankers", "growth", "dry-run"]
Result = dict[str, Any]  # seconds and peak_mib; some parts have further keys


# --- sides --------------------------------------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """Write FOLDER/124M, a gpt-2-simple checkpoint with random weights."""
    from tests import tiny

    tiny.gpt2_checkpoint(folder / "124M", n_embd=768, n_layer=12, n_head=12, n_ctx=1024, n_vocab=50257)


def make_ranker(folder: Path) -> None:
    """Write FOLDER/ranker, the base encoder with a head of random weights."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from bot.weights import bases

    base = bases.base_path("minilm-l6")
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).save_pretrained(folder / "ranker")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "ranker")


def pairs() -> list[tuple[str, str]]:
    """Pairs of PAIR_TOKENS tokens: words of one token each, and three control tokens."""
    words = ["the", "a", "book", "train", "light", "long", "read", "made", "you", "need", "out", "for", "on", "and", "it", "was", "good"]
    texts = [[words[(number + index * (1 + number % 5)) % len(words)] for index in range(PAIR_TOKENS - 3)] for number in range(PAIRS)]
    return [(" ".join(each[:47]), " ".join(each[47:])) for each in texts]


def timed(function: Callable[[], object]) -> Result:
    start = time.monotonic()
    function()
    return {"seconds": time.monotonic() - start}


def gpt_2_simple_reloaded(folder: Path) -> Result:
    """Reload the checkpoint for each comment, like the original bot."""
    import gpt_2_simple

    session = gpt_2_simple.start_tf_sess()

    def answer(comment: str) -> None:
        fresh = gpt_2_simple.reset_session(session)
        gpt_2_simple.load_gpt2(fresh, model_name="124M", model_dir=str(folder))
        _generate(gpt_2_simple, fresh, folder, comment)

    result = timed(lambda: [answer(comment) for comment in COMMENTS[3 : 3 + RELOADED]])
    return {"seconds": result["seconds"] * len(COMMENTS) / RELOADED}


def gpt_2_simple_warm(folder: Path) -> Result:
    import gpt_2_simple

    session = gpt_2_simple.start_tf_sess()
    gpt_2_simple.load_gpt2(session, model_name="124M", model_dir=str(folder))
    _generate(gpt_2_simple, session, folder, COMMENTS[0])
    return timed(lambda: [_generate(gpt_2_simple, session, folder, each) for each in COMMENTS])


def _generate(package: Any, session: Any, folder: Path, comment: str) -> None:
    from bot import text

    package.generate(
        session, model_name="124M", model_dir=str(folder), prefix="<|startoftext|>" + text.format_prompt(comment), truncate="<|endoftext|>",
        nsamples=CANDIDATES, batch_size=CANDIDATES, length=TOKENS, temperature=0.8, top_k=200, return_as_list=True,
    )  # fmt: skip


def transformers_generate(folder: Path) -> Result:
    """10 sequences per comment, one comment at a time."""
    import torch

    from bot.generators import transformers

    model, tokenizer = transformers.load_model(folder / "124M-transformers")
    prompts = [transformers.encode_prompt(tokenizer, comment, 900) for comment in COMMENTS]

    def answer(prompt: list[int]) -> None:
        with torch.inference_mode():
            model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=True, top_k=200, top_p=0.9,
                temperature=0.8, num_return_sequences=CANDIDATES, min_new_tokens=TOKENS, max_new_tokens=TOKENS, pad_token_id=0,
            )  # fmt: skip

    answer(prompts[0])
    return timed(lambda: [answer(prompt) for prompt in prompts])


def decoding(folder: Path) -> Result:
    """The back end alone, without process start and file access."""
    from bot import generators
    from bot.config import GenerateSettings

    generator = generators.load("ctranslate2", folder / "124M-transformers")
    settings = GenerateSettings(num_candidates=CANDIDATES, max_new_tokens=TOKENS, max_prompt_tokens=900)
    list(generator.sample([("warm", COMMENTS[0])], settings, SEED))
    return timed(lambda: list(generator.sample([(str(n), comment) for n, comment in enumerate(COMMENTS)], settings, SEED)))


def natural(_: Path) -> Result:
    """Decoding with the config's generator, for comments of the sandbox and replies of natural length."""
    from bot import config, generators
    from bot.sandbox import seed

    def bodies(comments: list[seed.Comment]) -> list[str]:
        return [body for each in comments for body in (each.body, *bodies([*each.replies]))]

    settings = config.load(None).generate
    comments = [(str(n), body) for n, body in enumerate(bodies([each for one in seed.SUBMISSIONS for each in one.comments])[:NATURAL])]
    generator = generators.load("ctranslate2", settings.model)
    list(generator.sample(comments[:1], settings, SEED))
    return timed(lambda: list(generator.sample(comments, settings, SEED)))


def raw(folder: Path, workers: int, tuned: bool = False) -> Result:
    """A single call of the CTranslate2 engine for all prompts, with one worker on all cores or several workers with two prompts at a time.

    tuned: with the worker's process settings (AVX-512 on AMD processors, freed memory is kept) instead of the engine's defaults.
    """
    import ctranslate2

    from bot.generators.ctranslate2 import CTranslate2
    from bot.weights import loading, serving

    if not tuned:
        serving.prefer_avx512 = loading.keep_freed_memory = lambda **_: None
    serving_folder = serving.ensure_exported(folder / "124M-transformers", "int8")
    back_end = CTranslate2(serving_folder)
    prompts = [[str(token) for token in back_end.encode_prompt(comment, 900)] for comment in COMMENTS]
    cores = len(os.sched_getaffinity(0))
    engine = ctranslate2.Generator(str(serving_folder), inter_threads=workers, intra_threads=cores // workers)
    options: dict[str, Any] = {
        "num_hypotheses": CANDIDATES, "include_prompt_in_result": False, "min_length": TOKENS, "max_length": TOKENS, "sampling_topk": 200,
        "sampling_topp": 0.9, "sampling_temperature": 0.8, "return_scores": True, "max_batch_size": 2 if workers > 1 else 0,
    }  # fmt: skip
    engine.generate_batch(prompts[:1], **options)
    return timed(lambda: engine.generate_batch(prompts, **options))


def ranking(folder: Path, backend: str) -> Result:
    from bot import rankers

    ranker = rankers.load(backend, folder / "ranker")
    swapped = [(reply, comment) for comment, reply in pairs()]  # alternate, so that no cache helps
    ranker.score(swapped)
    return {"seconds": statistics.median(timed(partial(ranker.score, each))["seconds"] for each in [pairs(), swapped] * 3)}


# --- processes ----------------------------------------------------------------------------------------------------------


def run(command: list[Any], settings: dict[str, Any] | None = None) -> tuple[Result, str]:
    """Run a command. Returns its seconds and peak memory (the largest process of it and its children), and its output."""
    variables = {f"BOT_{name.upper()}": str(value) for name, value in (settings or {}).items()}
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.monotonic()
    process = subprocess.Popen([str(each) for each in command], stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed with status {process.returncode}")
    return {"seconds": time.monotonic() - start, "peak_mib": usage.ru_maxrss / 1024}, output


def side(name: str, folder: Path) -> Result:
    """Run one of SIDES in a separate process."""
    measured, output = run([sys.executable, __file__, "--folder", folder, "--side", name])
    return {**measured, **json.loads(output.strip().splitlines()[-1])}


def generate_worker(folder: Path, comments: list[str], candidates: int, tokens: int) -> Result:
    """The stage `generate`, from process start to exit."""
    from bot import files, schema

    source, out = folder / "comments.csv", folder / "candidates.csv"
    rows = [{"comment_id": f"t1_{n}", "comment": comment} for n, comment in enumerate(comments)]
    schema.write_table(source, ["comment_id", "comment"], rows)
    for path in (out, files.manifest_path(out)):
        path.unlink(missing_ok=True)
    settings = {
        "generate__model": folder / "124M-transformers", "generate__num_candidates": candidates, "generate__max_new_tokens": tokens,
        "generate__max_prompt_tokens": 900,
    }  # fmt: skip
    return run([sys.executable, "-m", "bot", "generate", "--in", source, "--out", out, "--seed", SEED], settings)[0]


def score_worker(folder: Path, backend: str) -> Result:
    """The stage `score` with the config's rankers, from process start to exit."""
    from bot import schema

    source, out = folder / "pairs.csv", folder / "scored.csv"
    schema.write_table(source, ["comment", "reply"], [{"comment": comment, "reply": reply} for comment, reply in pairs()])
    return run([sys.executable, "-m", "bot", "score", "--in", source, "--out", out, "--overwrite"], {"rank__backend": backend})[0]


SIDES: dict[str, Callable[[Path], Result]] = {
    "make": lambda folder: timed(lambda: make(folder)),
    "make-ranker": lambda folder: timed(lambda: make_ranker(folder)),
    "gpt-2-simple, reloaded": gpt_2_simple_reloaded,
    "gpt-2-simple, warm": gpt_2_simple_warm,
    "transformers generate": transformers_generate,
    "worker, decoding only": decoding,
    "worker, natural lengths": natural,
    "engine, one worker": lambda folder: raw(folder, 1),
    "engine, one worker per core": lambda folder: raw(folder, len(os.sched_getaffinity(0))),
    "engine, with the worker's settings": lambda folder: raw(folder, len(os.sched_getaffinity(0)), tuned=True),
    "one ranker, transformers": lambda folder: ranking(folder, "transformers"),
    "one ranker, ctranslate2": lambda folder: ranking(folder, "ctranslate2"),
}
WORKERS: dict[str, Callable[[Path], Result]] = {
    "worker, whole process": lambda folder: generate_worker(folder, COMMENTS, CANDIDATES, TOKENS),
    "3 scores, whole process, transformers": lambda folder: score_worker(folder, "transformers"),
    "3 scores, whole process, ctranslate2": lambda folder: score_worker(folder, "ctranslate2"),
}
GENERATION = [
    "gpt-2-simple, reloaded", "gpt-2-simple, warm", "transformers generate", "worker, whole process", "worker, decoding only",
    "engine, one worker", "engine, one worker per core", "engine, with the worker's settings",
]  # fmt: skip
RANKING = ["one ranker, transformers", "one ranker, ctranslate2", *list(WORKERS)[1:]]


# --- the tables ---------------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Create missing models and exports, which are not part of the measurements."""
    if not (folder / "124M" / "checkpoint").exists():  # written last
        side("make", folder)
    if not (folder / "124M-transformers").exists():
        run([sys.executable, "-m", "bot", "models", "convert", folder / "124M", "--out", folder / "124M-transformers"])
    if not (folder / "ranker" / "tokenizer.json").exists():
        side("make-ranker", folder)
    run([sys.executable, "-m", "bot", "models", "export", folder / "124M-transformers", folder / "ranker"])
    run([sys.executable, "-m", "bot", "models", "export"], {"rank__backend": "ctranslate2"})


def measure(names: list[str], folder: Path, repeat: int) -> dict[str, Result]:
    """Medians over `repeat` rounds, each of which runs all sides once."""
    rounds = [{name: WORKERS[name](folder) if name in WORKERS else side(name, folder) for name in names} for _ in range(repeat)]
    return {name: {key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]} for name in names}


def table(title: str, rows: dict[str, Result], per_second: tuple[str, int], baselines: dict[str, str]) -> Table:
    """per_second: (unit, number of units). baselines: column title -> the row to which the speed of the others is compared."""
    result = Table("", "seconds", f"{per_second[0]}/s", "peak MiB", *baselines, title=title)
    for name, row in rows.items():
        ratios = [f"{rows[other]['seconds'] / row['seconds']:.1f}" if other in rows else "" for other in baselines.values()]
        result.add_row(name, f"{row['seconds']:.2f}", f"{per_second[1] / row['seconds']:,.0f}", f"{row['peak_mib']:,.0f}", *ratios)
    return result


def report(results: dict[str, Any], console: Console) -> None:
    """Print the tables of all parts that have results."""
    if generation := results.get("generation"):
        baselines = {"× reloaded": GENERATION[0], "× warm": GENERATION[1], "× transformers": GENERATION[2]}
        title = f"{len(COMMENTS)} comments × {CANDIDATES} candidates × {TOKENS} tokens, 124M"
        console.print(table(title, generation, ("tokens", len(COMMENTS) * CANDIDATES * TOKENS), baselines))
        plain, tuned = (
            min(generation[name]["seconds"] for name in names) / generation["worker, decoding only"]["seconds"]
            for names in (GENERATION[-3:-1], GENERATION[-1:])
        )
        console.print(f"the worker's decoding has {plain:.0%} of the engine's speed, {tuned:.0%} of it with the worker's settings")
    if ranking_rows := results.get("rankers"):
        for names, part in ((RANKING[:2], "one ranker"), (RANKING[2:], "3 scores, whole process")):
            title = f"{part}: {PAIRS} pairs of {PAIR_TOKENS} tokens, MiniLM-L6"
            console.print(table(title, {name: ranking_rows[name] for name in names}, ("pairs", PAIRS), {"× transformers": names[0]}))
    if growth := results.get("growth"):
        rows = Table("comments", "seconds", "peak MiB", title=f"growth: {GROWTH_CANDIDATES} candidates of {GROWTH_TOKENS} tokens")
        for count, row in growth.items():
            rows.add_row(f"{int(count):,}", f"{row['seconds']:.1f}", f"{row['peak_mib']:,.0f}")
        console.print(rows)
    if dry := results.get("dry-run"):
        console.print(f"dry run, 20 comments × {CANDIDATES} candidates: {dry['seconds']:.1f} s, largest process {dry['peak_mib']:,.0f} MiB")


def draw(results: dict[str, Any], target: Path) -> None:
    """Write a figure with the generation speeds and the growth curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    generation = results.get("generation", {})
    left.barh(list(generation)[::-1], [len(COMMENTS) * CANDIDATES * TOKENS / row["seconds"] for row in generation.values()][::-1])
    left.set(xlabel="tokens/s", title="Generation, 124M")
    growth = results.get("growth", {})
    counts = [int(count) for count in growth]
    right.plot(counts, [row["seconds"] for row in growth.values()], marker="o", label="seconds")
    right.plot(counts, [row["peak_mib"] for row in growth.values()], marker="s", label="peak MiB")
    right.set(xscale="log", yscale="log", xlabel="comments", title="Cost of the worker by number of comments")
    right.legend()
    figure.savefig(target, dpi=120)


def main(
    folder: Annotated[Path, typer.Option(help="folder for models and results: 2 GB")] = Path("data/bench"),
    only: Annotated[list[str] | None, typer.Option(help=f"part to run: {', '.join(PARTS)} [default: all]; repeatable")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="number of rounds")] = 3,
    side_name: Annotated[str | None, typer.Option("--side", hidden=True)] = None,
) -> None:
    """Compare the serving speed of gpt-2-simple, transformers and the bot."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if side_name is not None:
        print(json.dumps(SIDES[side_name](folder)))
        return
    parts = only or PARTS
    if unknown := set(parts) - set(PARTS):
        raise typer.BadParameter(f"--only {', '.join(sorted(unknown))}: unknown; choose from {', '.join(PARTS)}")
    prepare(folder)
    target = folder / "serving.json"
    results: dict[str, Any] = json.loads(target.read_text("utf-8")) if target.exists() else {}
    results["machine"] = {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor() or platform.machine(), "repeat": repeat}
    results["load_before"] = os.getloadavg()[0]
    if "generation" in parts:
        results["generation"] = measure(GENERATION, folder, repeat)
    if "rankers" in parts:
        results["rankers"] = measure(RANKING, folder, repeat)
    if "growth" in parts:
        results["growth"] = {
            str(count): generate_worker(folder, [f"{COMMENTS[n % 8]} {n}" for n in range(count)], GROWTH_CANDIDATES, GROWTH_TOKENS)
            for count in GROWTH
        }
    if "dry-run" in parts:
        out = folder / f"run-{time.time_ns()}"
        results["dry-run"] = run([sys.executable, ROOT / "run_bot.py", "run", "--sandbox", "--limit", 20, "--out", out])[0]
    target.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    draw(results, folder / "serving.png")
    report(results, Console(width=140))
    print(target)


if __name__ == "__main__":
    typer.run(main)
