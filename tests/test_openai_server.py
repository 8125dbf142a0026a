"""Back end openai-server: against a stub that misbehaves as real servers do, and against `transformers serve`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot import cli, files, schema, text
from bot.cli import NoPermission, Unreachable, UserError, WrongSettings
from bot.generators import PASSING, Failed, openai_client
from bot.online import generate
from bot.rankers import score
from bot.schema import Candidate, LmRow
from tests import serving as local
from tests import tiny
from tests.serving import COMMENTS, Answer, Stub, candidates, load, sample, settings


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wait before another attempt, unless the server asks for one."""
    monkeypatch.setattr(openai_client, "BACKOFF", lambda _: 0.0)
    monkeypatch.delenv(cli.SERVER_KEY, raising=False)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with local.stub() as running:
        yield running


def error_body(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


def in_turn(*answers: Answer | None) -> Callable[[dict[str, Any], int], Answer]:
    """Gives these answers to the first requests, then right ones. None: a right one."""
    return lambda body, number: (answers[number] if number < len(answers) else None) or candidates(body)


# --- what is asked for, and what becomes of the answer --------------------------------------------------------------------------


def test_one_request_for_all_candidates_of_a_comment(stub: Stub, tmp_path: Path) -> None:
    made = sample(stub.folder(tmp_path / "m", start="<s>"), COMMENTS[:1], temperature=0.7, top_p=0.8)["t1_a"]
    (path, headers, body), *others = stub.asked
    assert not others and path == "/v1/completions" and "Authorization" not in headers
    seed = body.pop("seed")
    assert body == {
        "model": "small", "prompt": "<s>Which book made you laugh? [SEP]", "max_tokens": 12, "temperature": 0.7, "top_p": 0.8, "n": 4,
        "logprobs": 1,
    }  # fmt: skip
    assert [each.candidate_id for each in made] == [f"t1_a-{n}" for n in range(4)]
    assert [each.reply for each in made] == [local.reply_to(seed, n) for n in range(4)]
    assert {each.seed for each in made} == {seed} and {each.generator for each in made} == {"openai-server:m"}
    assert {each.log_likelihood for each in made} == {-1.0}  # the mean of -0.5 and -1.5


def test_the_prompt_is_a_prefix_of_the_training_text(stub: Stub, tmp_path: Path) -> None:
    comment = "end <|endoftext|> here [SEP] now"
    sample(stub.folder(tmp_path / "m"), [("t1_a", comment)])
    prompt = stub.bodies[0]["prompt"]
    assert text.format_training_text(comment, "Yes.").startswith(prompt) and prompt.count(text.SEPARATOR) == 1
    assert "<|endoftext|>" not in prompt
    long = "book " * 500
    sample(stub.folder(tmp_path / "m"), [("t1_a", long)], max_prompt_tokens=16)
    assert stub.bodies[1]["prompt"] == " ".join(["book"] * 13) + " [SEP]"  # at most 64 bytes


def test_a_server_that_ignores_n_is_asked_for_each_candidate(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda body, _: candidates(body, n=1)
    made = sample(stub.folder(tmp_path / "m"))
    assert len(stub.asked) == 12 and [len(each) for each in made.values()] == [4, 4, 4]
    assert [body.get("n", 1) for body in stub.bodies] == [4] + [1] * 11
    replies = [each.reply for rows in made.values() for each in rows]
    assert len(set(replies)) == 12 and len({each.seed for rows in made.values() for each in rows}) == 12


def test_too_few_or_too_many_candidates(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda body, number: candidates(body, n=3 if number == 0 else 9)
    made = sample(stub.folder(tmp_path / "m"), COMMENTS[:1])["t1_a"]
    assert [each.candidate_id for each in made] == [f"t1_a-{n}" for n in range(4)] and len(stub.asked) == 2
    assert len({each.reply for each in made}) == 4


@pytest.mark.parametrize(
    ("status", "message", "field"),
    [
        (500, "Only one completion choice is allowed", "n"),  # llama.cpp
        (400, "n_cmpl cannot be greater than the number of slots, please increase -np", "n"),
        (422, "Unexpected fields in the request: {'logprobs'}", "logprobs"),
        (400, "logprobs are not supported", "logprobs"),
        (400, "This engine does not know seed", "seed"),
    ],
)
def test_an_optional_field_that_the_server_refuses_is_left_out(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, message: str, field: str
) -> None:
    stub.answer = lambda body, _: (status, {}, error_body(message)) if field in body else candidates(body)
    made = sample(stub.folder(tmp_path / "m"))
    assert [len(each) for each in made.values()] == [4, 4, 4]
    expected = 1 + (12 if field == "n" else 3)  # it is refused once
    assert len(stub.asked) == expected and sum(field in body for body in stub.bodies) == 1
    assert all(name in body for body in stub.bodies[1:] for name in {"logprobs", "seed"} - {field})
    assert (made["t1_a"][0].log_likelihood is None) == (field == "logprobs")
    assert f"the server refuses {field}" in capsys.readouterr().err


def test_the_seed_decides_and_the_order_does_not(stub: Stub, tmp_path: Path) -> None:
    folder = stub.folder(tmp_path / "m")
    for n in (None, 1):
        stub.answer = lambda body, _, n=n: candidates(body, n=n)  # type: ignore[misc]
        once, again, other = sample(folder), sample(folder, COMMENTS[::-1], batch_size=4), sample(folder, seed=2)
        assert once == again and all(once[name][0].reply != other[name][0].reply for name in once)


def test_a_stream_has_the_candidates_of_sample(stub: Stub, tmp_path: Path) -> None:
    folder = stub.folder(tmp_path / "m")
    for n in (None, 1):
        stub.answer = lambda body, _, n=n: candidates(body, n=n)  # type: ignore[misc]
        assert list(load(folder).stream(*COMMENTS[0], settings(), 1)) == sample(folder)["t1_a"]
    stub.asked.clear()
    stream = load(folder).stream(*COMMENTS[0], settings(), 1)
    next(stream)
    stream.close()
    assert len(stub.asked) == 1  # the others were not asked for


@pytest.mark.parametrize(("n", "batch_size", "most"), [(None, 8, 2), (None, 1, 1), (1, 3, 3)])
def test_the_limit_of_candidates_at_a_time(stub: Stub, tmp_path: Path, n: int | None, batch_size: int, most: int) -> None:
    def slow(body: dict[str, Any], _: int) -> Answer:
        time.sleep(0.03)
        return candidates(body, n=n)

    stub.answer = slow
    sample(stub.folder(tmp_path / "m"), [(f"t1_{n}", f"Comment {n}") for n in range(9)], batch_size=batch_size)
    assert stub.most == most and all(body.get("n", 1) <= batch_size for body in stub.bodies)


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        ({"token_logprobs": [-1, -2.0], "tokens": ["a", "b"]}, -1.5),
        ({"content": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -3.0}]}, -2.0),  # some servers, also for completions
        ({"token_logprobs": []}, None),
        ({"token_logprobs": [None, -2.0]}, None),
        ({"content": None}, None),
        ({"content": 5}, None),
        ({"token_logprobs": 5}, None),
        ({"token_logprobs": [1e308, 1e308]}, None),
        ({"token_logprobs": [-(10**400)]}, None),
        ({"token_logprobs": [True, True]}, None),
        ({"token_logprobs": [-0.5, -9999.0]}, None),  # OpenAI: not among the most likely tokens
        (None, None),
        ([], None),
    ],
)
def test_log_likelihood(stub: Stub, tmp_path: Path, logprobs: Any, expected: float | None) -> None:
    stub.answer = lambda body, _: (200, {}, {"choices": [{"text": " It is.", "logprobs": logprobs}] * 4})
    assert {each.log_likelihood for each in sample(stub.folder(tmp_path / "m"), COMMENTS[:1])["t1_a"]} == {expected}


@pytest.mark.parametrize(
    ("content", "expected"),
    [("It is.", -1.5), ("  It\nis. ", -1.5), ("<think>\nHm.\n</think>It is.", None), ("It is.<|im_end|>\nNo.", None)],
)
def test_no_log_likelihood_of_more_than_the_reply(stub: Stub, tmp_path: Path, content: str, expected: float | None) -> None:
    choice = {"message": {"role": "assistant", "content": content}, "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -2.0}]}}
    stub.answer = lambda body, _: (200, {}, {"choices": [choice] * body["n"]})
    rows = sample(stub.folder(tmp_path / "m", prompt="chat"), COMMENTS[:1])["t1_a"]
    assert {(each.reply, each.log_likelihood) for each in rows} == {("It is.", expected)}


def test_without_log_likelihood_the_length_alone_counts() -> None:
    weights = {"intercept": 0.0, "relevance": 0.0, "choice": 0.0, "likelihood": 0.1}
    ranks = [
        score.rank_score({}, score.Ranked("why", reply, value), generate.config.RankWeights(**weights))
        for reply, value in (("so it is", None), ("so it is", score.TYPICAL_LOG_LIKELIHOOD), ("so it is and will be", None))
    ]
    assert ranks[0] == ranks[1] > ranks[2] > 0  # type: ignore[operator]


def test_a_server_that_does_not_sample_is_noticed(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub.answer = lambda body, _: (200, {}, {"choices": [{"text": " Always this."}] * body.get("n", 1)})
    sample(stub.folder(tmp_path / "m"))
    assert capsys.readouterr().err.count("does the server sample?") == 1


@pytest.mark.parametrize(("name", "value"), [("beam_width", 4), ("repetition_penalty", 1.2), ("min_new_tokens", 2)])
def test_settings_that_the_interface_lacks_are_refused(stub: Stub, tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"generate\.{name}: not part of the OpenAI interface; set it to [01]"):
        sample(stub.folder(tmp_path / "m"), **{name: value})


# --- overload and faults --------------------------------------------------------------------------------------------------------


def test_the_server_is_left_alone_for_as_long_as_it_asks(stub: Stub, tmp_path: Path) -> None:
    stub.answer = in_turn(None, (429, {"Retry-After": "0.5"}, error_body("slow down")))
    made = sample(stub.folder(tmp_path / "m"), batch_size=4)
    assert len(made) == 3 and len(stub.asked) == 4
    assert stub.times[2] - stub.times[1] >= 0.5


@pytest.mark.parametrize(
    "fault",
    [
        (503, {}, error_body("Loading model")),
        (503, {}, error_body("The model is not loaded yet")),
        (500, {}, b"Internal Server Error"),
        (502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"),
        (408, {}, error_body("your request timed out")),
        (504, {}, error_body("The request took too long to process your prompt")),
        (503, {}, error_body("The input queue has too many pending requests")),
        (200, {}, {"error": {"code": 502, "message": "the provider failed"}}),
        (0, {}, b""),
    ],
)
def test_a_passing_fault_is_tried_again(stub: Stub, tmp_path: Path, fault: Answer) -> None:
    stub.answer = in_turn(fault, fault)
    made = sample(stub.folder(tmp_path / "m"))
    assert len(made) == 3 and len(stub.asked) == 5
    assert all(each.log_likelihood is not None for rows in made.values() for each in rows)  # no field was taken to be refused


def test_a_request_that_takes_too_long_is_that_comments_failure(stub: Stub, tmp_path: Path) -> None:
    def slow(body: dict[str, Any], _: int) -> Answer:
        if "kettle" in body["prompt"]:
            time.sleep(1)
        return candidates(body)

    stub.answer = slow
    rows = list(load(stub.folder(tmp_path / "m", timeout_seconds=0.2)).sample(COMMENTS, settings(), 1))
    (failed,) = [each for each in rows if isinstance(each, Failed)]
    assert (failed.comment_id, failed.reason) == ("t1_b", "timed_out") and "0.2 seconds" in failed.detail and len(rows) == 3


def test_an_answer_that_never_ends_is_that_comments_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A space every 50 ms is no time-out of a read, and an answer without end would fill the memory."""
    for endless, pause, reason in ((b" ", 0.05, "timed_out"), (b" " * 2**16, 0.0, "refused_by_server")):
        monkeypatch.setattr(openai_client, "ATTEMPTS", 1)
        monkeypatch.setattr(openai_client, "MAXIMUM_ANSWER_BYTES", 2**20)
        with local.dripping(endless, pause) as url:
            folder = local.Stub(url=url).folder(tmp_path / reason, timeout_seconds=0.5)
            started = time.monotonic()
            (failed,) = load(folder).sample(COMMENTS[:1], settings(), 1)
        assert isinstance(failed, Failed) and failed.reason == reason and time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ((200, {}, b'{"choices": [{"text": "a\nb"'), "bad_answer"),
        ((200, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"), "bad_answer"),
        ((200, {}, {"choices": None}), "bad_answer"),
        ((403, {}, error_body("your input was flagged by moderation")), "refused_by_server"),
        ((504, {}, error_body("The request took too long")), "server_error"),
    ],
)
def test_a_fault_with_one_comment_is_its_own(stub: Stub, tmp_path: Path, fault: Answer, reason: str) -> None:
    """The comment is asked for again by the same command only if its reason may pass."""
    stub.answer = lambda body, _: fault if "kettle" in body["prompt"] else candidates(body)
    folder, source, out = stub.folder(tmp_path / "m"), tmp_path / "in.csv", tmp_path / "out.csv"
    schema.write_table(source, ["comment_id", "comment"], [{"comment_id": i, "comment": c} for i, c in COMMENTS])

    def made() -> tuple[int, int]:
        stub.asked.clear()
        return generate.generate([source], out, settings(folder), 1), len(stub.asked)

    attempts = 1 if reason == "refused_by_server" else openai_client.ATTEMPTS
    assert made() == (8, 2 + attempts)
    assert (files.read_manifest(out) or {})["left_out"] == {reason: 1}
    again = {"refused_by_server": 0, "bad_answer": 1}  # a garbled answer to the first request is not tried again
    assert made() == (8, again.get(reason, attempts))
    stub.answer = lambda body, _: candidates(body)
    assert made() == ((12, 1) if reason in PASSING else (8, 0))
    rows = schema.read_rows(out, Candidate)
    assert [row.comment_id for row in rows] == [i for i, _ in COMMENTS if reason in PASSING or i != "t1_b" for _ in range(4)]
    assert made() == (len(rows), 0)


def test_a_flagged_first_comment_does_not_end_the_stage(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda body, _: (403, {}, error_body("content policy")) if "kettle" in body["prompt"] else candidates(body)
    rows = list(load(stub.folder(tmp_path / "m")).sample(COMMENTS[1:], settings(), 1))
    assert [each.reason if isinstance(each, Failed) else len(each) for each in rows] == ["refused_by_server", 4]


def test_nothing_is_sent_after_the_end(stub: Stub, tmp_path: Path) -> None:
    client = load(stub.folder(tmp_path / "m")).client
    client.stop.set()
    with pytest.raises(openai_client.Refused, match="the command ended"):
        client.post("/completions", {})
    assert not stub.asked


def test_a_server_with_the_newer_name_of_the_token_limit(stub: Stub, tmp_path: Path) -> None:
    refusal = error_body("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
    stub.answer = lambda body, _: (400, {}, refusal) if "max_tokens" in body else candidates(body)
    made = sample(stub.folder(tmp_path / "m", prompt="chat"))
    assert len(made) == 3 and len(stub.asked) == 4
    assert [body.get("max_completion_tokens") for body in stub.bodies] == [None, 12, 12, 12]
    assert all("logprobs" in body and "seed" in body for body in stub.bodies)


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "socks5://me:hunter2@127.0.0.1:1"), ("HTTP_PROXY", "foo://hunter2"), ("SSL_CERT_FILE", "/hunter2")]
)
def test_a_wrong_proxy_or_certificate_is_one_line(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettings, match="a proxy or certificate in the environment cannot be used") as caught:
        load(stub.folder(tmp_path / "m"))
    assert name in str(caught.value) and "hunter2" not in str(caught.value)


def test_an_address_that_no_server_can_have(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"http://:80/v1: .*; correct url in server\.toml"):
        sample(stub.folder(tmp_path / "m", url="http://:80/v1"))

    def look_up(host: str, *_: Any, **__: Any) -> Any:
        return host.encode("idna")  # what the real one does first

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for host in ("a..b", "a" * 70):
        with pytest.raises(UserError, match=r"correct url in server\.toml"):
            sample(stub.folder(tmp_path / "m", url=f"http://{host}/v1"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (413, error_body("Payload Too Large")),
        (400, error_body("This model's maximum context length is 2048 tokens. However, you requested 3000 tokens", code=400)),  # vLLM
        (400, {"object": "error", "message": "The decoder prompt (length 5) is longer than the maximum model length of 4", "code": 400}),
        (400, error_body("the request exceeds the available context size, try increasing it", type="exceed_context_size_error")),
        (500, error_body("the request exceeds the available context size. try increasing the context size or enable context shift")),
        (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096", "error_type": "validation"}),  # TGI
        (400, error_body("prompt too long", code="context_length_exceeded")),
        (200, error_body("max_tokens must be at least 1, got -186.")),
    ],
)
def test_a_comment_that_is_too_long_for_the_server(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, body: dict[str, Any]
) -> None:
    stub.answer = lambda asked, _: (status, {}, body) if "kettle" in asked["prompt"] else candidates(asked)
    folder, out = stub.folder(tmp_path / "m"), tmp_path / "out.csv"
    for order in (COMMENTS, COMMENTS[1:]):  # in the second file it is the first comment that is asked
        source = tmp_path / "in.csv"
        schema.write_table(source, ["comment_id", "comment"], [{"comment_id": i, "comment": c} for i, c in order])
        assert generate.generate([source], out, settings(folder), 1) == 4 * (len(order) - 1)
        assert (files.read_manifest(out) or {})["left_out"] == {"context_too_long": 1}
        assert "t1_b left out: context_too_long (" in capsys.readouterr().out
    assert len(stub.asked) == 5  # it is asked once each time: neither tried again nor taken for a refused field


def test_if_all_comments_fail_the_stage_fails(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda *_: (400, {}, error_body("context length exceeded"))
    folder, source = stub.folder(tmp_path / "m"), tmp_path / "in.csv"
    schema.write_table(source, ["comment_id", "comment"], [{"comment_id": i, "comment": c} for i, c in COMMENTS])
    with pytest.raises(UserError, match=r"m: no comment could be answered \(3 context_too_long\)"):
        generate.generate([source], tmp_path / "out.csv", settings(folder), 1)
    assert not (tmp_path / "out.csv").exists()


def test_a_server_that_is_out_of_order_ends_the_stage_and_nothing_is_lost(stub: Stub, tmp_path: Path) -> None:
    folder, source, out = stub.folder(tmp_path / "m"), tmp_path / "in.csv", tmp_path / "out.csv"
    many = [{"comment_id": f"t1_{n:02}", "comment": f"Comment number {n:02}"} for n in range(30)]
    schema.write_table(source, ["comment_id", "comment"], many)
    broken = (400, {}, error_body("no idea what is wrong"))
    stub.answer = lambda body, number: candidates(body) if number < 5 else broken
    with pytest.raises(Unreachable, match="10 comments in a row failed, the last one because of refused_by_server: status 400: no idea"):
        generate.generate([source], out, settings(folder, batch_size=4), 1)
    assert len(stub.asked) < 20 and not out.exists()
    stub.answer = lambda body, _: candidates(body)
    stub.asked.clear()
    assert generate.generate([source], out, settings(folder, batch_size=4), 1) == 120
    assert len(stub.asked) == 25
    (out.parent / "whole.csv").unlink(missing_ok=True)
    generate.generate([source], tmp_path / "whole.csv", settings(folder, batch_size=4), 1)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


# --- errors -------------------------------------------------------------------------------------------------------------------


def refusal(folder: Path, kind: type[UserError]) -> str:
    with pytest.raises(UserError) as caught:
        sample(folder)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((404, {}, error_body("The model `small` does not exist.")), UserError, "no model small"),  # vLLM
        ((404, {}, error_body("model 'small' not found", code=None)), UserError, "it offers small, large; correct model"),  # Ollama
        ((400, {}, {"detail": "Server is pinned to 'other'; requested 'small'."}), UserError, "pinned to 'other'"),  # transformers serve
        ((401, {}, {"error": "Unauthorized"}), NoPermission, "set OPENAI_API_KEY in the environment"),
        ((403, {}, b""), NoPermission, "rejects the key (status 403: Forbidden)"),
        ((402, {}, error_body("no credit left")), Unreachable, "status 402: no credit left; pay, then repeat the command, it resumes"),
        ((404, {}, {"detail": "Not Found"}), UserError, "correct url in server.toml, which often ends in /v1"),
        (
            (200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"),
            UserError,
            "not an answer of the OpenAI interface (status 200, text/html)",
        ),
        ((200, {}, {"response": "Hi"}), UserError, "not an answer of the OpenAI interface"),
        ((200, {}, ["Hi"]), UserError, "not an answer of the OpenAI interface"),
        ((200, {}, b"[" * 200_000), UserError, "not an answer of the OpenAI interface"),
        (
            (307, {"Location": "http://127.0.0.1:9/v1"}, b""),
            UserError,
            "not an answer of the OpenAI interface (status 307, to http://127.0.0.1:9/v1)",
        ),
        ((429, {"Retry-After": "4000"}, error_body("quota")), Unreachable, "it asks to wait 4000 seconds"),
        ((429, {}, error_body("busy\nbusy")), Unreachable, "status 429: busy busy (5 attempts); repeat the command later, it resumes"),
    ],
)
def test_an_error_that_concerns_all_requests_ends_the_stage(
    stub: Stub, tmp_path: Path, answer: Answer, kind: type[UserError], words: str
) -> None:
    stub.answer = lambda *_: answer
    message = refusal(stub.folder(tmp_path / "m"), kind)
    assert words in message and message.startswith(f"{stub.url}/v1: ")


def test_no_server(stub: Stub, tmp_path: Path) -> None:
    folder = stub.folder(tmp_path / "m", url=f"http://127.0.0.1:{local.free_port()}/v1")
    started = time.monotonic()
    assert "no connection (" in refusal(folder, Unreachable) and time.monotonic() - started < 5
    assert "no connection (" in refusal(stub.folder(tmp_path / "m", url="http://localhost:1/v1"), Unreachable)


@pytest.mark.parametrize("choices", [[{"message": {"content": "chat"}}], [{"text": 3}], ["text"], [{}], [], [{"text": None, "delta": {}}]])
def test_choices_of_another_form(stub: Stub, tmp_path: Path, choices: list[Any]) -> None:
    stub.answer = lambda *_: (200, {}, {"choices": choices})
    rows = list(load(stub.folder(tmp_path / "m")).sample(COMMENTS, settings(), 1))
    assert [each.reason for each in rows] == ["no_candidates"] * 3
    with pytest.raises(UserError, match="without text|has no choices|of another form"):
        list(load(stub.folder(tmp_path / "m")).stream(*COMMENTS[0], settings(), 1))


def test_the_key_is_sent_and_never_shown(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.SERVER_KEY, "sk-hunter2")
    folder = stub.folder(tmp_path / "m")
    sample(folder)
    assert stub.asked[0][1]["Authorization"] == "Bearer sk-hunter2"
    for answer in (
        (401, {}, error_body("Incorrect key sk-hunter2")),
        (400, {}, error_body("sk-hunter2 is odd")),
        (500, {}, {"error": "sk-hunter2"}),
        (200, {}, {"choices": [{"text": None, "debug": {"authorization": "Bearer sk-hunter2"}}]}),
        (400, {}, error_body("red \x1b[31m text")),
    ):
        stub.answer = lambda *_, answer=answer: answer  # type: ignore[misc]
        try:
            rows = list(load(folder).sample(COMMENTS, settings(), 1))
            assert all("hunter2" not in each.detail and "\x1b" not in each.detail and each.detail for each in rows)
        except NoPermission as error:
            assert "hunter2" not in str(error) and "correct OPENAI_API_KEY" in str(error)
    for wrong in ("sk hunter2", "sk-hunter2\n", "„hunter2“"):
        monkeypatch.setenv(cli.SERVER_KEY, wrong)
        with pytest.raises(NoPermission, match="OPENAI_API_KEY: contains") as caught:
            load(folder)
        assert "hunter2" not in str(caught.value)
    assert "hunter2" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("url = 'http://a/v1'\nmodel = 'x'\n", "prompt: Field required"),
        ("url = 'ftp://a'\nmodel = 'x'\nprompt = 'chat'\n", "line 1 url: "),
        ("url = 'http://a/v1'\nmodel = 'x'\nprompt = 'chatty'\n", "line 3 prompt: "),
        ("url = 'http://a/v1'\nmodel = 'x'\nprompt = 'chat'\nstart = '<s>'\n", "start: only for prompt"),
        ("url = 'http://a/v1'\nmodel = 'x'\nprompt = 'training-text'\nexamples = 'e.csv'\n", "examples: only for prompt"),
        ("url = 'http://a/v1'\nmodel = 'x'\nprompt = 'chat'\ntemperature = 1\n", "line 4 temperature: "),
        ("url = 'http://a/v1'\nmodel = 'x'\nprompt = 'chat'\napi_key = 'hunter2'\n", "line 4: api_key is or contains a credential"),
        ("url = 'http://me:hunter2@a/v1'\nmodel = 'x'\nprompt = 'chat'\n", "line 1: url is or contains a credential"),
        ("url = \n", "not readable as TOML"),
    ],
)
def test_a_wrong_server_file_is_reported_without_its_values(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "server.toml").write_text(content, encoding="utf-8")
    with pytest.raises(WrongSettings) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert words in message and "server.toml" in message and "\n" not in message and "hunter2" not in message


def test_examples_that_cannot_be_used(stub: Stub, tmp_path: Path) -> None:
    folder = stub.folder(tmp_path / "m", prompt="chat", examples=str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        load(folder)
    schema.write_rows(tmp_path / "none.csv", LmRow, [LmRow("t", "c", "r", "books", "Why?", "Visit http://a.example now please")])
    with pytest.raises(UserError, match="no pair is fit to be an example"):
        load(folder)


# --- a real server --------------------------------------------------------------------------------------------------------------

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}reply:{% endif %}"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of `transformers serve`, and the name of its model."""
    folder = tiny.served_model(tmp_path_factory.mktemp("served") / "lm", CHAT_TEMPLATE, context=2048)
    try:
        yield local.transformers_serve(folder, folder.with_name("log.txt")), str(folder)
    finally:
        local.stop_all()


@pytest.mark.parametrize("prompt", ["training-text", "chat"])
def test_a_real_server(real: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], prompt: str) -> None:
    """It ignores n and logprobs, and has one random stream for all requests."""
    url, model = real
    folder = Stub().folder(tmp_path / "m", url=url, model=model, prompt=prompt)
    source = tmp_path / "in.csv"
    schema.write_table(source, ["comment_id", "comment"], [{"comment_id": i, "comment": c} for i, c in COMMENTS])
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert generate.generate([source], tmp_path / f"{name}.csv", settings(folder, batch_size=1, temperature=1.0), seed) == 12
        texts.append([row.reply for row in schema.read_rows(tmp_path / f"{name}.csv", Candidate)])
        assert all(row.log_likelihood is None for row in schema.read_rows(tmp_path / f"{name}.csv", Candidate))
    assert texts[0] == texts[1] and len(set(texts[0])) > 9 and len(set(texts[0]) & set(texts[2])) < 4
    assert max(map(len, texts[0])) > 10
    assert len(sample(folder, batch_size=12)) == 3  # several requests at a time


def test_a_real_server_without_the_model(real: tuple[str, str], tmp_path: Path) -> None:
    message = refusal(Stub().folder(tmp_path / "m", url=real[0], model="other"), UserError)
    assert "no model other (Server is pinned to " in message and message.endswith("correct model in server.toml")
    assert "often ends in /v1" in refusal(Stub().folder(tmp_path / "m", url=real[0].removesuffix("/v1"), model=real[1]), UserError)
