"""The columns of the leaderboard, which value of each is best, and how values are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bot.evaluate.judges import JUDGES
from bot.evaluate.leaderboard.sample import MEASURED_REPLY

Rows = Mapping[str, Mapping[str, Any]]  # model -> column -> value, or (value, low, high)


class Column(NamedTuple):
    label: str
    meaning: str
    best: int = 0  # 1: the highest value is best, -1: the lowest, 0: neither
    digits: int = 3


FACTS = {
    "family": Column("family", "model type, or back end"),
    "base": Column("base", "the weights that training started from"),
    "parameters": Column("parameters", "with those of the base"),
    "rows": Column("training rows", ""),
    "hours": Column("training hours", "", 0, 2),
    "licence": Column("licence", "of the base"),
}
GENERATOR_COLUMNS = FACTS | {
    "bits": Column(
        "bits per character",
        f"of people's replies of at most {MEASURED_REPLY} characters, given the comment: how well the model predicts them, whatever its"
        " tokenizer; lower is better",
        -1,
    ),
    "bleu_2": Column("BLEU-2", "word pairs shared with people's other replies to the comment, 0 to 100, by sacrebleu", 1, 2),
    "distinct_1": Column("distinct-1", "share of distinct words in all words", 1),
    "distinct_2": Column("distinct-2", "the same for word pairs", 1),
    "median_words": Column("median words", "", 0, 1),
    "echo": Column("echo", "share that repeats three consecutive words of the comment; lower is better", -1),
    "detector": Column(
        "detector",
        "ROC-AUC of separating the replies from people's, by one logistic regression on groups of 2 to 5 characters, trained to tell"
        " people's replies from those of all generators, on other threads; lower is better; 0.5 is no better than guessing",
        -1,
    ),
    **{
        name: Column(name, f"share of replies that the judge of “{question}?” scores above the person's; 0.5 is as good as a person", 1)
        for name, (_, question) in JUDGES.items()
    },
    "acceptable": Column("acceptable", "share of candidates that readers found worth posting (`judge`)", 1),
    "words_per_second": Column("words/s", "of generating, one reply per comment; words, as tokens differ between models", 1, 1),
    "memory_mb": Column("memory, MB", "peak of the process", -1, 0),
}  # fmt: skip
RANKER_COLUMNS = FACTS | {
    "dialogrpt": Column("DialogRPT's pairs", "pairwise accuracy: karma gap of at least 20, ranks half apart", 1),
    "shp": Column("SHP's pairs", "pairwise accuracy: the later reply has twice the karma", 1),
    "unseen": Column("unseen subreddits", "pairwise accuracy on those left out of its training, karma gap of at least 5, from its card", 1),
    "auc_known": Column("known generators", "ROC-AUC of people's replies against those of generators in its training", 1),
    "auc_unseen": Column("unseen generators", "ROC-AUC of people's replies against those of generators not in its training", 1),
    "hits_at_1": Column("hits@1", "share of comments whose own reply scores highest among 100 of the subreddit", 1),
    "auc_accepted": Column("accepted", "ROC-AUC of candidates that readers accept against others", 1),
    "calibration": Column("calibration error", "mean gap between predicted probability and observed share, ten bins; lower is better", -1),
    "pairs_per_second": Column("pairs/s", "", 1, 0),
    "mb": Column("MB", "on disk, with the base", -1, 1),
}
TASK_COLUMNS = {
    "upvote": ("dialogrpt", "shp", "unseen", "calibration"),
    "realism": ("auc_known", "auc_unseen", "calibration"),
    "relevance": ("hits_at_1", "calibration"),
    "choice": ("auc_accepted", "calibration"),
}  # of a ranker's kind
NOT_BEST = ("person", "random")  # rows of replies by people, which the others are measured against


def middle(value: Any) -> Any:
    """The value without its interval."""
    return value[0] if isinstance(value, list | tuple) else value


def best(rows: Rows, columns: Mapping[str, Column]) -> dict[str, set[str]]:
    """column -> the models with its best value, as shown; none if fewer than two models have a value.

    >>> columns = {"a": Column("a", "", 1, 1), "b": Column("b", "", -1)}
    >>> rows = {"x": {"a": (0.51, 0, 1), "b": 2.0}, "y": {"a": (0.54, 0, 1), "b": 1.0}, "person": {"b": 0.0}}
    >>> {name: sorted(models) for name, models in best(rows, columns).items()}
    {'a': ['x', 'y'], 'b': ['y']}
    """
    result: dict[str, set[str]] = {}
    for name, column in columns.items():
        values = {
            model: round(column.best * middle(cells[name]), column.digits)
            for model, cells in rows.items()
            if column.best and name in cells and model not in NOT_BEST
        }
        if len(values) > 1:
            result[name] = {model for model, value in values.items() if value == max(values.values())}
    return result


def shown(value: Any, column: Column) -> tuple[str, str]:
    """A value and its interval as text; both are empty without a value.

    >>> [shown(value, Column("", "")) for value in ((0.5, 0.41, 0.6), 134515008, None, "bert")]
    [('0.500', '0.410 – 0.600'), ('134,515,008', ''), ('', ''), ('bert', '')]
    """
    if value is None or isinstance(value, str):
        return value or "", ""
    if isinstance(value, int):
        return f"{value:,}", ""
    number, *interval = value if isinstance(value, list | tuple) else [value]
    return f"{number:,.{column.digits}f}", " – ".join(f"{bound:,.{column.digits}f}" for bound in interval)
