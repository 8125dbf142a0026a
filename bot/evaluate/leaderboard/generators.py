"""How the leaderboard measures generators, from one reply per comment and the likelihoods of people's replies. Mostly pure functions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot import files, metrics, schema, text
from bot.cli import UserError
from bot.corpus import prepare
from bot.evaluate import baselines, judge
from bot.evaluate.judges import Judge
from bot.evaluate.leaderboard.sample import Asked
from bot.metrics import Array, Interval
from bot.schema import Candidate, Judgement

FOLDS = 5  # of the detector's cross-validation


@dataclass(frozen=True)
class Answers:
    """replies: comment_id -> the first candidate, cleaned. label: the generator's name in the cards of realism rankers."""

    replies: dict[str, str]
    label: str
    manifest: Mapping[str, Any]

    def of(self, asked: Sequence[Asked]) -> list[str]:
        """The replies to these comments. Raises UserError if one has none."""
        if missing := [each.comment_id for each in asked if each.comment_id not in self.replies]:
            raise UserError(f"no candidate for {len(missing)} of {len(asked)} comments, such as {missing[0]}")
        return [self.replies[each.comment_id] for each in asked]


def read_answers(path: Path) -> Answers:
    """Read a file of `generate`. Raises FileError."""
    replies: dict[str, str] = {}
    candidates = schema.read_rows(path, Candidate)
    for candidate in candidates:
        replies.setdefault(candidate.comment_id, text.clean(candidate.reply))
    label = candidates[0].generator + prepare.setting_of(path) if candidates else ""
    return Answers(replies, label, files.read_manifest(path) or {})


def speed(manifest: Mapping[str, Any]) -> dict[str, float]:
    """words_per_second and memory_mb of a manifest; empty if it does not have them."""
    facts = manifest.get("speed", {})
    if not (facts.get("words") and facts.get("seconds")):
        return {}
    return {"words_per_second": round(facts["words"] / facts["seconds"], 1), "memory_mb": facts["peak_mb"]}


def of_texts(asked: Sequence[Asked], replies: Sequence[str]) -> dict[str, Any]:
    """The measures that need the replies alone: distinct_1, distinct_2, median_words and echo.

    distinct-n has no interval, because a resample contains texts twice; it falls with the number of texts, which is the same in each row.

    >>> asked = [Asked("t3_a", "t1_a", "why is it so", ("no",)), Asked("t3_b", "t1_b", "hm", ("no",))]
    >>> of_texts(asked, ["so is it so", "so"])["median_words"]
    2.5
    """
    lower = [reply.lower() for reply in replies]
    echoes = [metrics.repeats_ngram(each.comment, reply) for each, reply in zip(asked, replies, strict=True)]
    return {
        "distinct_1": round(metrics.distinct_n(lower, 1), 4),
        "distinct_2": round(metrics.distinct_n(lower, 2), 4),
        "median_words": float(np.median([len(reply.split()) for reply in replies])),
        "echo": metrics.mean_with_interval(np.array(echoes, float), [each.thread_id for each in asked]),
    }


def bleu_2(replies: Sequence[str], references: Sequence[Sequence[str]], threads: Sequence[str]) -> Interval:
    """BLEU over words and word pairs, 0 to 100 (Papineni et al. 2002), by sacrebleu: lower case, tokenizer 13a, smoothing "exp".

    references: of each reply, at least one. The precisions are sums over all replies, not means.

    >>> bleu_2(["The cat sat here"], [["the cat sat down", "a cat"]], ["t3_a"])[0]
    70.7107
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(max_ngram_order=2, lowercase=True, effective_order=True)
    scores = [metric.sentence_score(reply, list(own)) for reply, own in zip(replies, references, strict=True)]
    sums = np.array([[*each.counts, *each.totals, each.sys_len, each.ref_len] for each in scores], int)

    def corpus(rows: Array) -> dict[str, float]:
        total = [int(value) for value in sums[rows].sum(axis=0)]
        return {"bleu": BLEU.compute_bleu(total[:2], total[2:4], total[4], total[5], smooth_method="exp", max_ngram_order=2).score}

    return metrics.with_intervals(corpus, threads)["bleu"]


def bits_per_character(nats: Array, replies: Sequence[str], threads: Sequence[str]) -> Interval:
    """The sum of -log2 p(reply | comment) over all replies, divided by the sum of their characters. nats: log-likelihood of each reply.

    It does not depend on the tokenizer. Raises UserError if a likelihood is not known.

    >>> bits_per_character(np.log([0.25, 0.5]), ["ab", "c"], ["t3_a", "t3_a"])[0]
    1.0
    """
    if np.isnan(nats).any():
        raise UserError("its back end cannot count the tokens of a reply (token_counts)")
    characters = np.array([len(reply) for reply in replies])
    measured = metrics.with_intervals(lambda i: {"bits": float(-nats[i].sum() / math.log(2) / characters[i].sum())}, threads)
    return measured["bits"]


def detector_aucs(
    people: Sequence[str], generated: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]], threads: Sequence[str]
) -> dict[str, Interval]:
    """How well one detector distinguishes the replies of each generator and of others from people's: ROC-AUC. 0.5: not at all.

    The detector is a logistic regression on TF-IDF of 2 to 5 characters. It learns people's replies from those of all generators, half and
    half by weight, but not from the others, and it scores the replies to the comments of threads that it did not learn from (five folds).
    people, each of generated and of others: replies to the same comments. threads: of the comments.

    Raises TooFew if there are too few threads or texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline

    detector = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True),
        LogisticRegression(C=1.0, max_iter=500, class_weight="balanced"),
    )
    sides = {"": people, **generated, **others}
    scores = {name: np.zeros(len(people)) for name in sides}
    with baselines.fitting():
        for train, test in GroupKFold(FOLDS).split(people, groups=threads):
            learnt = [people, *generated.values()]
            detector.fit([texts[row] for texts in learnt for row in train], np.repeat([1, *[0] * len(generated)], len(train)))
            for name, texts in sides.items():
                scores[name][test] = detector.decision_function([texts[row] for row in test])
    labels, groups = np.repeat([1, 0], len(people)), [*threads, *threads]
    result = {}
    for name in [*generated, *others]:
        both = np.concatenate([scores[""], scores[name]])
        result[name] = metrics.with_intervals(lambda rows, both=both: {"auc": metrics.roc_auc(labels[rows], both[rows])}, groups)["auc"]  # type: ignore[misc]
    return result


def beats_person(judged: Judge, asked: Sequence[Asked], replies: Sequence[str]) -> Interval:
    """How often a judge scores the reply above the person's reply to the same comment, a tie counting half. 0.5: as good as a person."""
    own, person = (
        judged.score([(each.comment, reply) for each, reply in zip(asked, side, strict=True)])
        for side in (replies, [each.replies[0] for each in asked])
    )
    return metrics.mean_with_interval(metrics.wins(own, person), [each.thread_id for each in asked])


def acceptable(judgements: Sequence[Judgement], model: str) -> Interval | None:
    """The share of this model's random candidates that readers found worth posting (see judge.summarize); None if nobody read any.

    model: its fingerprint, which the manifest of the candidates.csv beside a judged file has. Readings of a file that was changed since
    are left out: its candidates may be those of another model.
    """
    by_source: dict[str, list[Judgement]] = defaultdict(list)
    for row in judgements:
        by_source[row.source].append(row)
    own = []
    for source, rows in by_source.items():
        path = Path(source)
        manifest = files.read_manifest(path.with_name("candidates.csv")) or {}
        if manifest.get("made_from", {}).get("model") == model and path.exists():
            current = files.sha256_of(path)
            own += [row for row in rows if row.source_sha256 == current]
    share: Interval | None = judge.summarize(own)["random candidate acceptable"] if own else None
    return share
