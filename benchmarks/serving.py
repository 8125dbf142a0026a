"""Serving side by side: gpt-2-simple, transformers and the worker on CTranslate2; GPT-2 of 124M size (random weights) and MiniLM rankers.

Writes FOLDER/124M and what is made of it (2 GB, kept for the next run), FOLDER/serving.json and FOLDER/serving.png; prints a table.

    python benchmarks/serving.py --folder /tmp/bench                       all parts, about a quarter of an hour on two quiet cores
    python benchmarks/serving.py --folder /tmp/bench --only generation --only rankers --repeat 1

Same machine, same prompts, same lengths: 8 comments, 10 candidates, 60 tokens, none ends early. Each side is a process of its own, the
sides take turns, medians are over the rounds. «whole process» counts from its start to its end; the others are warm: loaded, one comment
answered. Parts:
- generation: gpt_2_simple.generate with nsamples=10, as its users call it, once with the checkpoint loaded again for each comment, as
  the original bot does (timed on RELOADED comments, times 8 / RELOADED), once warm; transformers' generate; the worker; the worker's
  decoding and the raw engine;
- rankers: 200 pairs of 96 tokens; one ranker of random weights, warm (the median of six times), and 3 scores for 200 candidates as a whole
  process, with the rankers that the config names, whose encoders we share where they are the same (transformers, the reference, runs each
  by itself);
- growth: the worker over 1, 10, 100, 1,000 comments, 2 candidates of 20 tokens;
- dry-run: `run_bot.py run --sandbox --limit 20` with the models that the config names.
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
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
# the project, instead of this folder, where a file hides the package of its name
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
Part = Literal["generation", "rankers", "growth", "dry-run"]
Result = dict[str, Any]  # seconds and peak_mib, in some parts more


# --- what is timed --------------------------------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """FOLDER/124M as gpt-2-simple reads it."""
    from tests import tiny

    tiny.gpt2_checkpoint(folder / "124M", n_embd=768, n_layer=12, n_head=12, n_ctx=1024, n_vocab=50257)


def make_ranker(folder: Path) -> None:
    """FOLDER/ranker: the base encoder with a head of random weights."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from bot.weights import bases

    base = bases.base_path("minilm-l6")
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).save_pretrained(folder / "ranker")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "ranker")


def pairs() -> list[tuple[str, str]]:
    """With one token a word, and control tokens: PAIR_TOKENS."""
    words = ["the", "a", "book", "train", "light", "long", "read", "made", "you", "need", "out", "for", "on", "and", "it", "was", "good"]
    said = [[words[(number + place * (1 + number % 5)) % len(words)] for place in range(PAIR_TOKENS - 3)] for number in range(PAIRS)]
    return [(" ".join(each[:47]), " ".join(each[47:])) for each in said]


def timed(answer: Callable[[], object]) -> Result:
    began = time.monotonic()
    answer()
    return {"seconds": time.monotonic() - began}


def gpt_2_simple_reloaded(folder: Path) -> Result:
    """The original's way with each comment."""
    import gpt_2_simple

    session = gpt_2_simple.start_tf_sess()

    def answer(comment: str) -> None:
        fresh = gpt_2_simple.reset_session(session)
        gpt_2_simple.load_gpt2(fresh, model_name="124M", model_dir=str(folder))
        _their_generate(gpt_2_simple, fresh, folder, comment)

    result = timed(lambda: [answer(comment) for comment in COMMENTS[3 : 3 + RELOADED]])
    return {"seconds": result["seconds"] * len(COMMENTS) / RELOADED}


def gpt_2_simple_warm(folder: Path) -> Result:
    import gpt_2_simple

    session = gpt_2_simple.start_tf_sess()
    gpt_2_simple.load_gpt2(session, model_name="124M", model_dir=str(folder))
    _their_generate(gpt_2_simple, session, folder, COMMENTS[0])
    return timed(lambda: [_their_generate(gpt_2_simple, session, folder, each) for each in COMMENTS])


def _their_generate(package: Any, session: Any, folder: Path, comment: str) -> None:
    from bot import text

    package.generate(
        session, model_name="124M", model_dir=str(folder), prefix="<|startoftext|>" + text.format_prompt(comment), truncate="<|endoftext|>",
        nsamples=CANDIDATES, batch_size=CANDIDATES, length=TOKENS, temperature=0.8, top_k=200, return_as_list=True,
    )  # fmt: skip


def transformers_generate(folder: Path) -> Result:
    """10 sequences a comment, a comment at a time."""
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
    """The back end as the worker calls it, without start, files and table."""
    from bot import generators
    from bot.config import GenerateSettings

    generator = generators.load("ctranslate2", folder / "124M-transformers")
    one = GenerateSettings(num_candidates=CANDIDATES, max_new_tokens=TOKENS, max_prompt_tokens=900)
    list(generator.sample([("warm", COMMENTS[0])], one, SEED))
    return timed(lambda: list(generator.sample([(str(n), comment) for n, comment in enumerate(COMMENTS)], one, SEED)))


def natural(_: Path) -> Result:
    """The same with the generator that the config names, over comments of the sandbox: its replies end by themselves."""
    from bot import config, generators
    from bot.sandbox import seed

    def bodies(comments: list[seed.Comment]) -> list[str]:
        return [body for each in comments for body in (each.body, *bodies([*each.replies]))]

    settings = config.load(None).generate
    asked = [(str(n), body) for n, body in enumerate(bodies([each for one in seed.SUBMISSIONS for each in one.comments])[:NATURAL])]
    generator = generators.load("ctranslate2", settings.model)
    list(generator.sample(asked[:1], settings, SEED))
    return timed(lambda: list(generator.sample(asked, settings, SEED)))


def raw(folder: Path, workers: int, tuned: bool = False) -> Result:
    """The engine's own call for all prompts: one worker with all cores, or a worker a core, each given two prompts at a time.

    tuned: with what the worker sets for its process, AVX-512 on AMD's processors and memory that is kept; else as the engine comes.
    """
    import ctranslate2

    from bot.generators import ctranslate2 as ours
    from bot.weights import loading, serving

    if not tuned:
        serving.prefer_avx512 = loading.keep_freed_memory = lambda **_: None
    serving = serving.ensure_exported(folder / "124M-transformers", "int8")
    back_end = ours.load(serving)
    prompts = [[str(token) for token in back_end.encode_prompt(comment, 900)] for comment in COMMENTS]
    cores = len(os.sched_getaffinity(0))
    engine = ctranslate2.Generator(str(serving), inter_threads=workers, intra_threads=cores // workers)
    options: dict[str, Any] = {
        "num_hypotheses": CANDIDATES, "include_prompt_in_result": False, "min_length": TOKENS, "max_length": TOKENS, "sampling_topk": 200,
        "sampling_topp": 0.9, "sampling_temperature": 0.8, "return_scores": True, "max_batch_size": 2 if workers > 1 else 0,
    }  # fmt: skip
    engine.generate_batch(prompts[:1], **options)
    return timed(lambda: engine.generate_batch(prompts, **options))


def ranking(folder: Path, backend: str) -> Result:
    from bot import rankers

    ranker = rankers.load(backend, folder / "ranker")
    turned = [(reply, comment) for comment, reply in pairs()]  # by turns, since ours keeps what it said last
    ranker.score(turned)
    return {"seconds": statistics.median(timed(partial(ranker.score, each))["seconds"] for each in [pairs(), turned] * 3)}


# --- processes ---------------------------------------------------------------------------------------------------------------


def run(command: list[Any], settings: dict[str, Any] | None = None) -> tuple[Result, str]:
    """Seconds and peak memory of a process of its own, the largest of it and those it started, and what it printed."""
    told = {f"BOT_{name.upper()}": str(value) for name, value in (settings or {}).items()}
    environment = {**os.environ, **told, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    began = time.monotonic()
    process = subprocess.Popen([str(each) for each in command], stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {process.returncode}")
    return {"seconds": time.monotonic() - began, "peak_mib": usage.ru_maxrss / 1024}, printed


def side(name: str, folder: Path) -> Result:
    """One of SIDES in a process of its own."""
    outer, printed = run([sys.executable, __file__, "--folder", folder, "--side", name])
    return {**outer, **json.loads(printed.strip().splitlines()[-1])}


def generate_worker(folder: Path, comments: list[str], candidates: int, tokens: int) -> Result:
    """`bot.online.generate` from start to end."""
    from bot import files, schema

    source, out = folder / "comments.csv", folder / "candidates.csv"
    rows = [{"comment_id": f"t1_{n}", "comment": comment} for n, comment in enumerate(comments)]
    schema.write_table(source, ["comment_id", "comment"], rows)
    for left in (out, files.manifest_path(out)):
        left.unlink(missing_ok=True)
    settings = {
        "generate__model": folder / "124M-transformers", "generate__num_candidates": candidates, "generate__max_new_tokens": tokens,
        "generate__max_prompt_tokens": 900,
    }  # fmt: skip
    return run([sys.executable, "-m", "bot", "generate", "--in", source, "--out", out, "--seed", SEED], settings)[0]


def rank_worker(folder: Path, backend: str) -> Result:
    """`bot.online.rank` with the config's rankers, from start to end."""
    from bot import schema

    source, out = folder / "pairs.csv", folder / "scored.csv"
    schema.write_table(source, ["comment", "reply"], [{"comment": comment, "reply": reply} for comment, reply in pairs()])
    return run([sys.executable, "-m", "bot", "rank", "--in", source, "--out", out], {"rank__backend": backend})[0]


SIDES: dict[str, Callable[[Path], Result]] = {
    "make": lambda folder: timed(lambda: make(folder)),
    "make-ranker": lambda folder: timed(lambda: make_ranker(folder)),
    "gpt-2-simple, reloaded": gpt_2_simple_reloaded,
    "gpt-2-simple, warm": gpt_2_simple_warm,
    "transformers generate": transformers_generate,
    "worker, decoding alone": decoding,
    "worker, natural lengths": natural,
    "raw engine, one call": lambda folder: raw(folder, 1),
    "raw engine, a worker a core": lambda folder: raw(folder, len(os.sched_getaffinity(0))),
    "the same, set as the worker": lambda folder: raw(folder, len(os.sched_getaffinity(0)), tuned=True),
    "one ranker, transformers": lambda folder: ranking(folder, "transformers"),
    "one ranker, ours": lambda folder: ranking(folder, "ctranslate2"),
}
WORKERS: dict[str, Callable[[Path], Result]] = {
    "worker, whole process": lambda folder: generate_worker(folder, COMMENTS, CANDIDATES, TOKENS),
    "3 scores, whole process, transformers": lambda folder: rank_worker(folder, "transformers"),
    "3 scores, whole process, ours": lambda folder: rank_worker(folder, "ctranslate2"),
}
GENERATION = [
    "gpt-2-simple, reloaded", "gpt-2-simple, warm", "transformers generate", "worker, whole process", "worker, decoding alone",
    "raw engine, one call", "raw engine, a worker a core", "the same, set as the worker",
]  # fmt: skip
RANKING = ["one ranker, transformers", "one ranker, ours", *list(WORKERS)[1:]]


# --- the table ------------------------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Makes what isn't there yet, exports included: that is no part of what is timed."""
    if not (folder / "124M" / "checkpoint").exists():  # the Saver writes it last
        side("make", folder)
    if not (folder / "124M-transformers").exists():
        run([sys.executable, "-m", "bot", "models", "convert", folder / "124M", "--out", folder / "124M-transformers"])
    if not (folder / "ranker" / "tokenizer.json").exists():
        side("make-ranker", folder)
    run([sys.executable, "-m", "bot", "models", "export", folder / "124M-transformers", folder / "ranker"])
    run([sys.executable, "-m", "bot", "models", "export"], {"rank__backend": "ctranslate2"})


def measure(names: list[str], folder: Path, repeat: int) -> dict[str, Result]:
    """Medians over rounds in which each side has its turn."""
    rounds = [{name: WORKERS[name](folder) if name in WORKERS else side(name, folder) for name in names} for _ in range(repeat)]
    return {name: {key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]} for name in names}


def table(title: str, rows: dict[str, Result], per_second: tuple[str, int], beside: dict[str, str]) -> Table:
    """`beside`: column title -> the row that others are so many times as fast as."""
    shown = Table("", "seconds", f"{per_second[0]}/s", "peak MiB", *beside, title=title)
    for name, row in rows.items():
        ratios = [f"{rows[other]['seconds'] / row['seconds']:.1f}" if other in rows else "" for other in beside.values()]
        shown.add_row(name, f"{row['seconds']:.2f}", f"{per_second[1] / row['seconds']:,.0f}", f"{row['peak_mib']:,.0f}", *ratios)
    return shown


def report(found: dict[str, Any], console: Console) -> None:
    if generation := found.get("generation"):
        beside = {"× reloaded": GENERATION[0], "× warm": GENERATION[1], "× transformers": GENERATION[2]}
        title = f"{len(COMMENTS)} comments × {CANDIDATES} candidates × {TOKENS} tokens, 124M"
        console.print(table(title, generation, ("tokens", len(COMMENTS) * CANDIDATES * TOKENS), beside))
        plain, tuned = (
            min(generation[name]["seconds"] for name in names) / generation["worker, decoding alone"]["seconds"]
            for names in (GENERATION[-3:-1], GENERATION[-1:])
        )
        console.print(
            f"the worker's decoding has {plain:.0%} of the faster raw engine's speed, {tuned:.0%} of the one set as the worker is"
        )
    if ranking_rows := found.get("rankers"):
        for names, how in ((RANKING[:2], "one ranker"), (RANKING[2:], "3 scores, whole process")):
            title = f"{how}: {PAIRS} pairs of {PAIR_TOKENS} tokens, MiniLM-L6"
            console.print(table(title, {name: ranking_rows[name] for name in names}, ("pairs", PAIRS), {"× transformers": names[0]}))
    if growth := found.get("growth"):
        shown = Table("comments", "seconds", "peak MiB", title=f"growth: {GROWTH_CANDIDATES} candidates of {GROWTH_TOKENS} tokens")
        for count, row in growth.items():
            shown.add_row(f"{int(count):,}", f"{row['seconds']:.1f}", f"{row['peak_mib']:,.0f}")
        console.print(shown)
    if dry := found.get("dry-run"):
        console.print(f"dry run over 20 comments × {CANDIDATES}: {dry['seconds']:.1f} s, largest worker {dry['peak_mib']:,.0f} MiB")


def draw(found: dict[str, Any], target: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    generation = found.get("generation", {})
    left.barh(list(generation)[::-1], [len(COMMENTS) * CANDIDATES * TOKENS / row["seconds"] for row in generation.values()][::-1])
    left.set(xlabel="tokens/s", title="Generation, 124M")
    growth = found.get("growth", {})
    counts = [int(count) for count in growth]
    right.plot(counts, [row["seconds"] for row in growth.values()], marker="o", label="seconds")
    right.plot(counts, [row["peak_mib"] for row in growth.values()], marker="s", label="peak MiB")
    right.set(xscale="log", yscale="log", xlabel="comments", title="How the worker's cost grows")
    right.legend()
    figure.savefig(target, dpi=120)


def main(
    folder: Annotated[Path, typer.Option(help="for models and results: 2 GB")] = Path("data/bench"),
    only: Annotated[list[str] | None, typer.Option(help="generation, rankers, growth or dry-run; may be given several times")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="rounds")] = 3,
    side_name: Annotated[str | None, typer.Option("--side", hidden=True)] = None,
) -> None:
    """Time serving side by side."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if side_name is not None:
        print(json.dumps(SIDES[side_name](folder)))
        return
    known = ("generation", "rankers", "growth", "dry-run")
    parts = only or list(known)
    if unknown := set(parts) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: --only takes {', '.join(known)}")
    prepare(folder)
    target = folder / "serving.json"
    found: dict[str, Any] = json.loads(target.read_text("utf-8")) if target.exists() else {}
    found["machine"] = {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor() or platform.machine(), "repeat": repeat}
    found["load_before"] = os.getloadavg()[0]
    if "generation" in parts:
        found["generation"] = measure(GENERATION, folder, repeat)
    if "rankers" in parts:
        found["rankers"] = measure(RANKING, folder, repeat)
    if "growth" in parts:
        found["growth"] = {
            str(count): generate_worker(folder, [f"{COMMENTS[n % 8]} {n}" for n in range(count)], GROWTH_CANDIDATES, GROWTH_TOKENS)
            for count in GROWTH
        }
    if "dry-run" in parts:
        out = folder / f"run-{time.time_ns()}"
        found["dry-run"] = run([sys.executable, ROOT / "run_bot.py", "run", "--sandbox", "--limit", 20, "--out", out])[0]
    target.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    draw(found, folder / "serving.png")
    report(found, Console(width=140))
    print(target)


if __name__ == "__main__":
    typer.run(main)
