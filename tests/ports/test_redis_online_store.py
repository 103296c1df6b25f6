from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

redis = pytest.importorskip("redis", reason="the extra 'redis' is not installed")

from penstock.adapters.redis import RedisOnlineStore  # noqa: E402
from penstock.errors import InputError, StateError, UnavailableError  # noqa: E402
from penstock.testing.online_store_suite import OnlineStoreSuite  # noqa: E402
from penstock.testing.ports import free_port  # noqa: E402
from penstock.testing.redis_server import need_redis, redis_server  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from penstock.ports import OnlineStore


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis of our own; skips where there is none to start."""
    need_redis()
    port = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), port, "--save", ""):
        yield port


class TestRedisOnlineStore(OnlineStoreSuite):
    @pytest.fixture
    def opener(self, running: int, request: pytest.FixtureRequest) -> Callable[[], OnlineStore]:
        with closing(redis.Redis(port=running)) as client:
            client.flushall()
        return partial(RedisOnlineStore, f"redis://127.0.0.1:{running}/0#{request.node.name}")


@pytest.fixture
def store(running: int) -> Iterator[RedisOnlineStore]:
    with closing(redis.Redis(port=running)) as client:
        client.flushall()
    with closing(RedisOnlineStore(f"redis://127.0.0.1:{running}/1")) as opened:
        yield opened


def test_projects_in_one_database_are_apart(running: int, store: RedisOnlineStore) -> None:
    store.write("a", {b"k": b"mine"}, progress=1)
    with closing(RedisOnlineStore(f"redis://127.0.0.1:{running}/1#o*[t]her")) as other:
        assert other.spaces() == []
        other.write("a", {b"k": b"theirs"}, progress=7)
        assert other.spaces() == ["a"]
        assert other.get("a", [b"k"]) == [b"theirs"]
    assert store.get("a", [b"k"]) == [b"mine"]
    assert store.progress("a") == 1


def test_what_is_lost_is_lost_with_its_progress(running: int, store: RedisOnlineStore) -> None:
    store.write("a", {b"k": b"v"}, progress=3)
    with closing(redis.Redis(port=running)) as client:
        client.flushall()
    assert store.get("a", [b"k"]) == [None]
    assert store.progress("a") is None


def test_a_large_write_is_one(store: RedisOnlineStore) -> None:
    values = {b"%d" % number: b"v" * 3_000 for number in range(20_000)}
    store.write("a", values, progress=1)
    keys = list(values)[::100]
    assert store.get("a", keys) == [values[key] for key in keys]


def test_addresses_that_are_none(running: int) -> None:
    with pytest.raises(InputError, match="is no address of a Redis"):
        RedisOnlineStore("http://127.0.0.1")
    with pytest.raises(UnavailableError, match=r"cannot be reached.*online_url"):
        RedisOnlineStore("redis://127.0.0.1:1/0")
    with pytest.raises(StateError, match="does not do what is asked") as caught:
        RedisOnlineStore(f"redis://:hunter2@127.0.0.1:{running}/9999")
    assert "hunter2" not in str(caught.value)


def test_a_server_that_drops_keys_or_wants_a_password(tmp_path: Path) -> None:
    need_redis()
    port = free_port()
    options = ("--save", "", "--requirepass", "secret", "--maxmemory-policy", "allkeys-lru")
    with redis_server(tmp_path / "r", port, *options):
        for address in (f"redis://127.0.0.1:{port}", f"redis://:wrong@127.0.0.1:{port}"):
            with pytest.raises(StateError, match="refuses the login") as caught:
                RedisOnlineStore(address)
            assert "wrong@" not in str(caught.value)
        with pytest.raises(StateError, match=r"allkeys-lru.*Set noeviction"):
            RedisOnlineStore(f"redis://:secret@127.0.0.1:{port}")


def test_a_full_server_keeps_what_it_had(running: int, store: RedisOnlineStore) -> None:
    values = {b"%d" % n: b"v" * 3_000 for n in range(5_000)}
    store.write("a", values, progress=1)
    with closing(redis.Redis(port=running)) as client:
        client.config_set("maxmemory", "3mb")
        try:
            with pytest.raises(StateError, match="is full"):
                store.write("a", dict.fromkeys(values, b"new"), progress=2)
        finally:
            client.config_set("maxmemory", "0")
    assert dict(store.items("a")) == values
    assert store.progress("a") == 1


def test_connections_that_the_server_has_closed_are_made_anew(
    running: int, store: RedisOnlineStore
) -> None:
    store.write("a", {b"k": b"1"}, progress=1)
    store.write("b", {b"k": b"2"}, progress=2)
    for _ in range(3):
        with closing(redis.Redis(port=running)) as client:
            assert client.client_kill_filter(_type="normal", skipme=True)
        assert store.get("a", [b"k"]) == [b"1"]
        assert [found.progress for found in store.look([("a", []), ("b", [])])] == [1, 2]


def test_after_a_refusal_no_answer_is_taken_for_another_s(
    running: int, store: RedisOnlineStore
) -> None:
    store.write("a", {b"k": b"1"}, progress=1)
    with closing(redis.Redis(port=running, db=1)) as client:
        client.set("penstock:online:broken", "text")
    for asks in ([("broken", [b"k"])], [("a", [b"k"]), ("broken", [b"k"]), ("a", [b"l"])]):
        with pytest.raises(StateError, match="does not do what is asked"):
            store.look(asks)
        assert store.get("a", [b"l", b"k"]) == [None, b"1"]
        assert store.look([("a", [b"k"]), ("none", [])]) == [(1, [b"1"]), (None, [])]


def test_what_a_user_may_not_read_is_refused_and_the_rest_is_read_on(
    running: int, store: RedisOnlineStore
) -> None:
    store.write("a", {b"k": b"1"}, progress=1)
    with closing(redis.Redis(port=running)) as client:
        client.acl_setuser(
            "u", enabled=True, passwords=["+pw"], keys=["penstock:online:a"], commands=["+@all"]
        )
        try:
            with closing(RedisOnlineStore(f"redis://u:pw@127.0.0.1:{running}/1")) as narrow:
                for asks in ([("b", [b"k"]), ("a", [b"k"])], [("a", [b"k"]), ("b", [b"k"])]):
                    with pytest.raises(StateError, match="does not do what is asked"):
                        narrow.look(asks)
                    assert narrow.get("a", [b"k"]) == [b"1"]
        finally:
            client.acl_deluser("u")


FORKED = """
import os, sys
from penstock.adapters.redis import RedisOnlineStore

store = RedisOnlineStore(sys.argv[1])
store.write("a", {b"%d" % n: b"value of %d" % n for n in range(2_000)}, progress=1)
assert store.get("a", [b"1"]) == [b"value of 1"]
child = os.fork()
own = range(0 if child else 1, 2_000, 2)
right = all(store.get("a", [b"%d" % n]) == [b"value of %d" % n] for n in own)
if child == 0:
    os._exit(0 if right else 1)
_, status = os.waitpid(child, 0)
assert right and status == 0
"""


def test_a_forked_process_talks_on_connections_of_its_own(running: int) -> None:
    url = f"redis://127.0.0.1:{running}/2"
    subprocess.run([sys.executable, "-c", FORKED, url], check=True, timeout=60)


@pytest.mark.slow
def test_an_answer_that_comes_too_late_is_nobody_s(tmp_path: Path) -> None:
    need_redis()
    port = free_port()
    with (
        redis_server(tmp_path / "r", port, "--save", "") as child,
        closing(RedisOnlineStore(f"redis://127.0.0.1:{port}")) as store,
    ):
        store.write("a", {b"k": b"1", b"l": b"2"}, progress=1)
        assert store.get("a", [b"k"]) == [b"1"]
        child.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(UnavailableError, match="cannot be reached"):
                store.get("a", [b"k"])
        finally:
            child.send_signal(signal.SIGCONT)
        assert store.get("a", [b"l"]) == [b"2"]
        assert store.get("a", [b"none"]) == [None]


@pytest.mark.slow
def test_a_restart_in_the_middle(tmp_path: Path) -> None:
    need_redis()
    """Reads and writes fail while the server is away, and go on when it is back."""
    port = free_port()
    folder, kept = tmp_path / "r", ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(folder, port, *kept) as child:
        store = RedisOnlineStore(f"redis://127.0.0.1:{port}")
        store.write("a", {b"k": b"1"}, progress=1)
        child.kill()
        child.wait()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            store.get("a", [b"k"])
        with pytest.raises(UnavailableError, match="cannot be reached"):
            store.write("a", {b"k": b"2"}, progress=2)
    with redis_server(folder, port, *kept), closing(store):
        assert store.get("a", [b"k"]) == [b"1"]
        assert store.progress("a") == 1
        store.write("a", {b"k": b"2"}, progress=2)
        assert store.get("a", [b"k"]) == [b"2"]
