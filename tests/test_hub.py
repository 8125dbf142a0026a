"""Channels of events: both kinds, with a real Redis, and what survives kills and restarts."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bot.cli import Unreachable, UserError
from bot.web import hub as hubs
from bot.web.hub import Hub, LocalHub, RedisHub, order
from tests import lively

Opening = Callable[[], Hub]


@pytest.fixture(params=["local", "redis"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    """A function that opens the same hub again, as after a restart of the server."""
    if request.param == "local":
        yield lambda: LocalHub(tmp_path / "chat.jsonl")
    else:
        with lively.redis_server() as redis:
            yield lambda: RedisHub(redis.url)


def follow(hub: Hub, channel: str, count: int, last: str = "") -> tuple[threading.Thread, list[hubs.Entry]]:
    """Follow a channel in a thread until `count` events came."""
    seen: list[hubs.Entry] = []

    def run() -> None:
        with suppress(Unreachable):
            for entry in hub.follow(channel, last, pulse=0.2):
                if entry is not None:
                    seen.append(entry)
                if len(seen) == count:
                    return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, seen


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def numbers(entries: list[hubs.Entry]) -> list[int]:
    return [event["n"] for _, event in entries]


def test_every_follower_gets_every_event_once_and_in_order(opening: Opening) -> None:
    hub = opening()
    hub.append("chat", {"n": 0})
    followers = [follow(hub, "chat", 60) for _ in range(3)]
    writers = [threading.Thread(target=lambda: [hub.append("chat", {"n": 1}) for _ in range(20)]) for _ in range(3)]
    for each in writers:
        each.start()
    for each in [*writers, *(thread for thread, _ in followers)]:
        each.join(timeout=20)
    logs = [seen for _, seen in followers]
    assert [len(seen) for seen in logs] == [60, 60, 60] and logs[0] == logs[1] == logs[2]
    ids = [order(event_id) for event_id, _ in logs[0]]
    assert ids == sorted(set(ids)) and min(ids) > (0, 0)


def test_who_comes_back_gets_what_was_missed_also_after_a_restart(opening: Opening) -> None:
    hub = opening()
    ids = [hub.append("chat", {"n": n}) for n in range(5)]
    assert numbers(hub.after("chat", ids[2])) == [3, 4] and hub.after("chat", ids[4]) == []
    assert numbers(hub.after("chat")) == numbers(hub.after("chat", "nonsense")) == [0, 1, 2, 3, 4]
    assert hub.after("try:x") == []
    again = opening()
    ids.append(again.append("chat", {"n": 5}))
    assert numbers(again.after("chat", ids[2])) == [3, 4, 5]
    assert [order(each) for each in ids] == sorted(order(each) for each in ids)
    thread, seen = follow(again, "chat", 3, ids[2])
    thread.join(timeout=10)
    assert numbers(seen) == [3, 4, 5]


def test_a_channel_keeps_its_last_events(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "EVENTS", 10)
    hub = opening()
    for n in range(25):
        hub.append("chat", {"n": n})
    assert numbers(hub.after("chat")) == list(range(15, 25)) == numbers(opening().after("chat"))


def test_a_channel_that_is_forgotten_is_empty_and_can_be_used_again(opening: Opening) -> None:
    hub = opening()
    hub.append("try:a", {"n": 1})
    hub.append("try:b", {"n": 2})
    hub.forget("try:a")
    assert hub.after("try:a") == [] and numbers(hub.after("try:b")) == [2]
    hub.append("try:a", {"n": 3})
    assert numbers(hub.after("try:a")) == [3]


def test_followers_hear_nothing_of_other_channels_and_get_a_pulse(opening: Opening) -> None:
    hub = opening()
    events = hub.follow("try:a", pulse=0.05)
    hub.append("try:b", {"n": 1})
    assert next(events) is None
    hub.append("try:a", {"n": 2})
    assert [each[1] for each in (next(events), next(events)) if each is not None] == [{"n": 2}]


def test_a_cancellation_reaches_the_one_who_works(opening: Opening) -> None:
    hub, cancelled = opening(), []
    hub.on_cancel = cancelled.append
    wait_for(lambda: hub.cancel("job") or cancelled)  # the first one may come before the hub listens
    assert set(cancelled) == {"job"}


def test_a_lease_in_redis_belongs_to_one_process_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with lively.redis_server() as redis:
        one, two = RedisHub(redis.url), RedisHub(redis.url)
        assert not two.is_leased("job")
        assert one.lease("job") and not two.lease("job") and one.lease("job") and two.lease("other") and two.is_leased("job")
        with monkeypatch.context() as patch:
            patch.setattr(hubs, "LEASE_SECONDS", 1)
            one.lease("job")
        wait_for(lambda: not one.is_leased("job"))
        assert two.lease("job") and not one.lease("job")


def test_two_server_processes_share_a_channel_while_redis_is_killed_and_restarted() -> None:
    with lively.redis_server() as redis:
        one, two = RedisHub(redis.url), RedisHub(redis.url)
        thread, seen = follow(two, "chat", 3)
        one.append("chat", {"n": 0})
        wait_for(lambda: numbers(seen) == [0])
        redis.kill()
        with pytest.raises(Unreachable, match="Redis cannot be reached"):
            one.append("chat", {"n": 99})
        thread.join(timeout=10)  # the stream ends with the error, and the browser comes back
        assert not thread.is_alive() and numbers(seen) == [0]
        redis.start()
        thread, seen = follow(two, "chat", 2, seen[-1][0])
        one.append("chat", {"n": 1})
        wait_for(lambda: numbers(seen) == [1])
        one.append("chat", {"n": 2})
        thread.join(timeout=10)
        assert numbers(seen) == [1, 2]


def test_no_redis_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"web.redis_url: Redis cannot be reached \(ConnectionError\); start it"):
        RedisHub(f"unix://{tmp_path / 'none.sock'}")


def test_the_file_of_the_room(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    hub = LocalHub(path)
    hub.append("chat", {"n": 1, "text": "line\u2028\nbreak \U0001f600"})
    hub.append("try:x", {"n": 2})
    with path.open("a") as file:
        file.write('["176')  # a crash while a line was written
    again = LocalHub(path)
    assert [event for _, event in again.after("chat")] == [{"n": 1, "text": "line\u2028\nbreak \U0001f600"}]
    again.append("chat", {"n": 3})
    assert numbers(LocalHub(path).after("chat")) == [1, 3] and path.stat().st_mode & 0o077 == 0
    path.write_text('["1-0", {"n": 1}]\n[2]\n')
    with pytest.raises(UserError, match="chat.jsonl:2: not a line of the chat's history"):
        LocalHub(path)


def test_the_file_of_the_room_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hubs, "EVENTS", 10)
    path = tmp_path / "chat.jsonl"
    hub, lengths = LocalHub(path), []
    for n in range(45):
        hub.append("chat", {"n": n})
        lengths.append(len(path.read_text().splitlines()))
    assert max(lengths) == 19 and lengths[18:21] == [19, 10, 11] and path.stat().st_mode & 0o077 == 0
    assert numbers(LocalHub(path).after("chat")) == list(range(35, 45))

    def fail(*_: object) -> int:
        raise OSError("no space")

    monkeypatch.setattr(hubs, "rewrite", fail)
    for n in range(45, 75):
        hub.append("chat", {"n": n})  # nothing is lost, and nobody gets an error
    assert "chat.jsonl grows, because it cannot be rewritten (OSError: no space)" in capsys.readouterr().err
    monkeypatch.undo()
    assert numbers(hubs.read_room(path))[-30:] == list(range(45, 75))


def test_a_full_disk_does_not_damage_the_file_of_the_room(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    hub = LocalHub(path)
    hub.append("chat", {"n": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            hub.append("chat", {"n": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    hub.append("chat", {"n": 3})
    assert numbers(hub.after("chat")) == numbers(LocalHub(path).after("chat")) == [1, 3]


def test_a_clock_that_goes_back_does_not_change_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = LocalHub()
    first = hub.append("chat", {"n": 0})
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert order(hub.append("chat", {"n": 1})) > order(first) and numbers(hub.after("chat", first)) == [1]


def test_old_channels_are_dropped_but_not_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = LocalHub()
    hub.append("try:a", {"n": 0})
    hub.append("chat", {"n": 1})
    later = time.time() + hubs.KEEP_SECONDS + 10
    monkeypatch.setattr(time, "time", lambda: later)
    hub.append("try:b", {"n": 2})
    assert hub.after("try:a") == [] and numbers(hub.after("chat")) == [1] and numbers(hub.after("try:b")) == [2]
