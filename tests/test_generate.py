from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bot import files, schema, text
from bot.cli import UserError
from bot.config import GenerateSettings
from bot.corpus import rules
from bot.generators import Place, load
from bot.generators.transformers import encode_prompt, encode_training_row, start_and_end
from bot.online import generate
from bot.schema import Candidate, Context, Pair
from tests import tiny
from tests.test_text import GONE, NOT_GONE, UNCLOSED_PIECES

COMMENTS = [("t1_a", "Which book made you laugh?"), ("t1_b", "My kettle takes ten minutes to boil, is that normal?"), ("t1_c", "Hm.")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.language_model(tmp_path_factory.mktemp("lm"))


def settings(model: Path, **changes: object) -> GenerateSettings:
    return GenerateSettings(backend="transformers", model=model, num_candidates=4, max_new_tokens=12, max_prompt_tokens=40, **changes)


def sample(model: Path, comments: list[tuple[str, str]], seed: int = 1, **changes: object) -> list[Candidate]:
    rows = load("transformers", model).sample(comments, settings(model, **changes), seed)
    return [candidate for candidates in rows for candidate in candidates]


def test_number_and_order_of_candidates(model: Path) -> None:
    rows = sample(model, COMMENTS)
    assert [row.comment_id for row in rows] == ["t1_a"] * 4 + ["t1_b"] * 4 + ["t1_c"] * 4
    assert [row.candidate_id for row in rows][:5] == ["t1_a-0", "t1_a-1", "t1_a-2", "t1_a-3", "t1_b-0"]
    assert len({row.reply for row in rows}) > 6
    assert all(row.log_likelihood is not None and row.log_likelihood < 0 for row in rows)


def test_the_text_depends_only_on_the_seed_and_the_comment(model: Path) -> None:
    """The candidates of a comment do not depend on the batch size and the order of comments. Another seed gives other candidates."""
    together = {row.candidate_id: row.reply for row in sample(model, COMMENTS, batch_size=40)}
    alone = {row.candidate_id: row.reply for row in sample(model, COMMENTS[::-1], batch_size=1)}
    assert together == alone
    assert {row.candidate_id: row.reply for row in sample(model, COMMENTS, seed=2)} != together


def test_log_likelihood_is_that_of_the_unmodified_model(model: Path) -> None:
    """Compared with a forward pass over prompt and reply, token by token."""
    one = settings(model, temperature=0.7, top_p=0.8, top_k=50)
    row = next(iter(load("transformers", model).sample(COMMENTS[:1], one, 3)))[0]
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    prompt = encode_prompt(tokenizer, COMMENTS[0][1], 40)
    drawn = redraw(lm, tokenizer, prompt, one, row.seed)
    assert text.parse_reply(tokenizer.decode(drawn)) == row.reply
    logp = torch.log_softmax(lm(torch.tensor([prompt + drawn])).logits[0].float(), -1).detach()
    expected = sum(float(logp[len(prompt) - 1 + i, token]) for i, token in enumerate(drawn)) / len(drawn)
    assert row.log_likelihood == pytest.approx(expected, abs=tiny.rounding(largest=10))  # of logits


def redraw(lm: torch.nn.Module, tokenizer: object, prompt: list[int], one: GenerateSettings, seed: int) -> list[int]:
    """A simple implementation of nucleus sampling with the candidate's random stream."""
    stream, drawn = torch.Generator().manual_seed(seed), []
    _, end = start_and_end(tokenizer)  # type: ignore[arg-type]
    while len(drawn) < one.max_new_tokens and end not in drawn:
        with torch.inference_mode():
            top, tokens = lm(torch.tensor([prompt + drawn])).logits[0, -1].float().sort(descending=True)
        p = torch.softmax(top[: one.top_k] / one.temperature, -1)
        inside = int((p.cumsum(0) < one.top_p).sum()) + 1  # the smallest set of most likely tokens with total probability top_p
        waits = torch.empty(len(p)).exponential_(generator=stream)
        drawn.append(int(tokens[(p / waits)[:inside].argmax()]))
    return drawn


@pytest.fixture(scope="module")
def taught(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, overfitted to three replies including their ends."""
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    replies = ["It is short and funny.", "Vinegar works!", "Try the one about the lighthouse keeper, it is kind."]
    rows = [encode_training_row(tokenizer, comment, reply, 40)[0] for _, comment in COMMENTS for reply in replies]
    optimizer = torch.optim.AdamW(lm.parameters(), lr=5e-3)
    for step in range(240):
        ids = torch.tensor([rows[step % len(rows)]])
        lm(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("taught")
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_log_likelihoods_of_given_replies_equal_those_of_sampling(taught: Path) -> None:
    """For candidates with an end token whose tokens equal those of the tokenizer."""
    generator, one = load("transformers", taught), settings(taught).model_copy(update={"max_new_tokens": 40})
    tokenizer = AutoTokenizer.from_pretrained(taught)
    comments, seen = dict(COMMENTS), {}
    for row in (row for rows in generator.sample(COMMENTS, one, 1) for row in rows):
        tail, prompt = encode_training_row(tokenizer, comments[row.comment_id], row.reply, 40)
        if len(tail) - prompt < 40 and row.reply.endswith((".", "!")):
            seen[comments[row.comment_id], row.reply] = row.log_likelihood
    assert len(seen) >= 4 and len({reply for _, reply in seen}) >= 2
    result = generator.log_likelihoods(list(seen), one)  # type: ignore[attr-defined]
    assert result == pytest.approx(list(seen.values()), abs=tiny.rounding(largest=10))
    backwards = generator.log_likelihoods([*list(seen)[::-1], ("Hm.", "long " * 60)], one)  # type: ignore[attr-defined]
    assert backwards[:-1] == pytest.approx(result[::-1], abs=tiny.rounding(largest=10)) and backwards[-1] < min(result)
    other = generator.log_likelihoods([(comment, "Vinegar works! Try the kettle.") for comment, _ in seen], one)  # type: ignore[attr-defined]
    assert max(other) < min(result)


def test_a_reply_is_truncated_at_the_context(model: Path) -> None:
    generator = load("transformers", model)
    one, reply = settings(model), "funny light kettle " * 200
    tokens, prompt = encode_training_row(AutoTokenizer.from_pretrained(model), "Hm.", reply, one.max_prompt_tokens)
    assert len(tokens) > 256
    ids = torch.tensor([tokens[:256]])
    with torch.inference_mode():
        logp = AutoModelForCausalLM.from_pretrained(model)(ids).logits[0, prompt - 1 : 255].log_softmax(-1)
    expected = logp.gather(1, ids[0, prompt:, None]).mean().item()
    assert generator.log_likelihoods([("Hm.", reply)], one) == [pytest.approx(expected, abs=tiny.rounding(largest=10))]  # type: ignore[attr-defined]


def test_low_temperature_is_greedy(model: Path) -> None:
    rows = sample(model, COMMENTS[:1], temperature=1e-4)
    assert len({row.reply for row in rows}) == 1


def test_prompt_is_a_token_prefix_and_a_long_comment_keeps_its_separator(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids, prompt_length = encode_training_row(tokenizer, "Any good books?", "Yes, two.", 40)
    assert ids[:prompt_length] == encode_prompt(tokenizer, "Any good books?", 40)
    assert ids[-1] == tokenizer.eos_token_id and tokenizer.decode(ids[prompt_length:-1]) == " Yes, two."
    long = encode_prompt(tokenizer, "book " * 500, 40)
    assert len(long) == 40 and tokenizer.decode(long).endswith(" [SEP]") and long[0] == tokenizer.bos_token_id
    ids, prompt_length = encode_training_row(tokenizer, "book " * 500, "Yes.", 40)
    assert ids[:prompt_length] == long and tokenizer.decode(ids[prompt_length:-1]) == " Yes."


def write_comments(path: Path, comments: list[tuple[str, str]]) -> Path:
    schema.write_table(path, ["note", "comment_id", "comment"], [{"note": "", "comment_id": i, "comment": c} for i, c in comments])
    return path


def test_unanswerable_comments_are_skipped(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [*COMMENTS, ("t1_d", "[deleted]"), ("t1_e", ""), ("t1_f", "x" * 10_000), ("t1_a", "again"), ("t1_g", "> quote only")]
    out = tmp_path / "candidates.csv"
    assert generate.generate([write_comments(tmp_path / "in.csv", more)], out, settings(model), 1) == 12
    printed = capsys.readouterr().out
    for reason, count in (("deleted", 1), ("empty", 2), ("too_long", 1), ("same_id", 1)):
        assert f"{count} comments left out: {reason}" in printed
    rows = schema.read_rows(out, Candidate)
    assert [row.candidate_id for row in rows] == [f"t1_{c}-{n}" for c in "abc" for n in range(4)]
    assert not (tmp_path / "candidates.csv.part").exists()


def test_comments_are_cleaned_as_in_training() -> None:
    bodies = [
        '&gt; what\n\n**No** `a_b_` ^(not [this](http://a.b "t")) &amp;amp; &#x200B;>!so!<',
        "# One\n* [ref][1]\n\n[1]: http://a.b",
        *(f"well {piece} so" for piece in UNCLOSED_PIECES),
    ]
    rows = [{"comment_id": f"t1_{number}", "comment": body} for number, body in enumerate(bodies)]
    cleaned = dict(generate.answerable(rows)[0])
    assert len(cleaned) > 20
    for row in rows:
        if row["comment_id"] in cleaned:
            pair = Pair("books", "t3_a", "", None, row["comment_id"], row["comment"], None, None, "t1_r", "A reply.", None, None, None)
            assert rules.clean_pair(pair).comment == cleaned[row["comment_id"]]


def test_notices_are_left_out_and_brackets_of_people_are_answered() -> None:
    bodies = [*GONE, *NOT_GONE]
    comments, left_out = generate.answerable({"comment_id": str(n), "comment": body} for n, body in enumerate(bodies))
    assert left_out == {"deleted": len(GONE)}
    assert [bodies[int(name)] for name, _ in comments] == NOT_GONE


def test_a_notice_around_a_comment_is_no_text() -> None:
    above = [Context("t3_s", "t1_a", "t3_s", "[ Removed by Reddit ]"), Context("t3_s", "t1_b", "t1_a", "[Removed by mods](/r/tea/rules)")]
    row = {"comment_id": "t1_d", "comment": "Why?", "parent_id": "t1_c", "title": "[ Removed by moderator ]"}
    places = generate.places_of([row], [*above, Context("t3_s", "t1_c", "t1_b", "What did it *say*?")])
    assert places == {"t1_d": Place(above=("What did it say?",))}


def test_no_answerable_comment_is_an_error(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no comment can be answered"):
        generate.generate([write_comments(tmp_path / "in.csv", [("t1_d", "[removed]")])], tmp_path / "out.csv", settings(model), 1)
    assert not (tmp_path / "out.csv").exists()


def test_resuming_after_a_kill_gives_the_same_result(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_comments(tmp_path / "in.csv", COMMENTS), tmp_path / "out.csv"
    one = settings(model, batch_size=1)
    generate.generate([source], tmp_path / "whole.csv", one, 1)
    answered: list[str] = []

    class Interrupted:
        def sample(self, comments: list[tuple[str, str]], *rest: object) -> object:
            for comment in comments:
                if len(answered) == 2:
                    raise KeyboardInterrupt
                answered.append(comment[0])
                yield from load("transformers", model).sample([comment], one, 1)

    monkeypatch.setattr(generate.generators, "load", lambda *_: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        generate.generate([source], out, one, 1)
    assert not out.exists()
    part = tmp_path / "out.csv.part"
    part.write_text(part.read_text() + '[{"comment_id": "t1_c", "cand')  # a truncated line
    monkeypatch.undo()
    assert generate.generate([source], out, one, 1) == 12
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_part_with_other_settings_is_ignored(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.csv.part"
    for seed, done in ((9, [[]]), (1, [])):
        path.write_text(json.dumps({"seed": 9}) + "\n[]\n")
        with files.part(tmp_path / "out.csv", {"seed": seed}, list) as part:
            assert part.done == done


def test_a_repeated_command_does_nothing_unless_the_seed_changes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_comments(tmp_path / "in.csv", COMMENTS), tmp_path / "out.csv"
    generate.generate([source], out, settings(model), 1)
    first = out.read_bytes()
    generate.generate([source], out, settings(model), 1)
    assert "exists and is current" in capsys.readouterr().out
    generate.generate([source], out, settings(model), 2)
    assert out.read_bytes() != first


def test_sample_draws_at_random(model: Path, tmp_path: Path) -> None:
    many = [(f"t1_{n}", f"Comment number {n}") for n in range(40)]
    generate.generate([write_comments(tmp_path / "in.csv", many)], tmp_path / "out.csv", settings(model), 1, sample=5)
    drawn = list(dict.fromkeys(row.comment_id for row in schema.read_rows(tmp_path / "out.csv", Candidate)))
    assert len(drawn) == 5 and drawn != [f"t1_{n}" for n in range(5)]


def test_error_messages(model: Path, tmp_path: Path) -> None:
    source = write_comments(tmp_path / "in.csv", COMMENTS)
    with pytest.raises(UserError, match="no model here"):
        generate.generate([source], tmp_path / "o.csv", settings(tmp_path / "nothing"), 1)
    with pytest.raises(UserError, match="generate.backend is unknown; choose one of ctranslate2, transformers"):
        load("magic", model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no model here"):
        load("transformers", tmp_path / "empty")
    schema.write_table(tmp_path / "wrong.csv", ["id", "body"], [])
    with pytest.raises(UserError, match=r"expected columns comment_id, comment, found id, body"):
        generate.generate([tmp_path / "wrong.csv"], tmp_path / "o.csv", settings(model), 1)
    for content, remedy in (
        ("Comment_ID,Comment\na,b\n", 'rename "Comment_ID" to comment_id and "Comment" to comment'),
        ("comment_id;comment\na;b, c\n", 'its columns are separated by ";"; save it as CSV with commas'),
        ("comment_id\tcomment\n", "its columns are separated by tabs"),
        ("", "empty file, expected a header row with the columns comment_id, comment"),
    ):
        (tmp_path / "wrong.csv").write_text(content)
        with pytest.raises(UserError, match=re.escape(remedy)):
            generate.generate([tmp_path / "wrong.csv"], tmp_path / "o.csv", settings(model), 1)
    damaged = tiny.language_model(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(UserError, match="cannot be loaded"):
        load("transformers", damaged)


def test_control_tokens_in_a_comment_are_escaped(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = encode_prompt(tokenizer, "end <|endoftext|> here [SEP] now", 100)
    assert ids.count(tokenizer.eos_token_id) == 1  # only the start token
    assert tokenizer.decode(ids[1:]).count(text.SEPARATOR) == 1


def test_several_input_files(tmp_path: Path, model: Path) -> None:
    """Comments are answered in the order of the files. A comment in two files is answered once."""
    first, second = write_comments(tmp_path / "a.csv", COMMENTS[:2]), write_comments(tmp_path / "b.csv", COMMENTS[1:])
    assert generate.generate([first, second], tmp_path / "out.csv", settings(model), 1) == 4 * len(COMMENTS)
    whole = write_comments(tmp_path / "whole.csv", COMMENTS)
    generate.generate([whole], tmp_path / "whole_out.csv", settings(model), 1)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole_out.csv").read_bytes()
