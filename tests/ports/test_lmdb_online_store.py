from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import lmdb
import pytest

from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.errors import InputError, StateError, UnavailableError
from penstock.testing.online_store_suite import OnlineStoreSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import OnlineStore


class TestLmdbOnlineStore(OnlineStoreSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], OnlineStore]:
        return partial(LmdbOnlineStore, tmp_path / "state" / "online")


def test_full_store_keeps_what_it_had(tmp_path: Path) -> None:
    with closing(LmdbOnlineStore(tmp_path / "online", map_size_bytes=1 << 20)) as store:
        store.write("a", {b"k": b"1"}, progress=1)
        with pytest.raises(StateError, match="is full"):
            store.write("a", {b"%d" % n: b"v" * 2000 for n in range(1000)}, progress=2)
        assert dict(store.items("a")) == {b"k": b"1"}
        assert store.progress("a") == 1
        store.write("a", {b"k": b"2"}, progress=2)


def test_too_long_keys_are_refused(tmp_path: Path) -> None:
    with closing(LmdbOnlineStore(tmp_path / "online")) as store:
        for space, key in (("a", b"k" * 508), ("s" * 508, b"k"), ("", b"k")):
            with pytest.raises(InputError, match="expected"):
                store.write(space, {key: b"v", b"other": b"v"}, progress=1)
        assert store.spaces() == []
        store.write("a", {b"k" * 507: b"v"}, progress=1)


def test_a_process_opens_it_once(tmp_path: Path) -> None:
    with (
        closing(LmdbOnlineStore(tmp_path / "online")),
        pytest.raises(UnavailableError, match="open in this process"),
    ):
        LmdbOnlineStore(tmp_path / "online")
    LmdbOnlineStore(tmp_path / "online").close()


def test_file_that_is_no_store(tmp_path: Path) -> None:
    LmdbOnlineStore(tmp_path / "online").close()
    (tmp_path / "online" / "data.mdb").write_bytes(b"junk" * 4096)
    with pytest.raises(StateError, match="is damaged"):
        LmdbOnlineStore(tmp_path / "online")


@pytest.mark.parametrize("share", [0.99, 0.5, 0.06, 0.04, 0.001])
def test_file_cut_short(tmp_path: Path, share: float) -> None:
    file = tmp_path / "online" / "data.mdb"
    with closing(LmdbOnlineStore(file.parent)) as store:
        store.write("a", {b"%d" % n: b"v" * 1000 for n in range(100)}, progress=1)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StateError, match="is damaged"):
        LmdbOnlineStore(file.parent)
    file.write_bytes(content)
    with closing(LmdbOnlineStore(file.parent)) as store:
        assert len(list(store.items("a"))) == 100


def test_lost_file_begins_anew(tmp_path: Path) -> None:
    with closing(LmdbOnlineStore(tmp_path / "online")) as store:
        store.write("a", {b"k": b"1"}, progress=1)
    (tmp_path / "online" / "data.mdb").write_bytes(b"")
    with closing(LmdbOnlineStore(tmp_path / "online")) as store:
        assert store.progress("a") is None


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        LmdbOnlineStore(tmp_path / "file" / "online")


def test_what_was_written_before_there_were_claims_is_read_and_claimed(tmp_path: Path) -> None:
    with closing(LmdbOnlineStore(tmp_path / "online")) as store:
        store.write("a", {b"k": b"1"}, progress=4)
    with closing(lmdb.open(str(tmp_path / "online"), map_size=1 << 30)) as bare, bare.begin(
        write=True
    ) as transaction:  # fmt: skip
        name = b"\0\0\0\0a"
        entry = transaction.get(name) or b""
        transaction.put(name, entry[:12])  # number and progress, no token
    with closing(LmdbOnlineStore(tmp_path / "online")) as store:
        assert store.progress("a") == 4
        assert store.look([("a", [b"k"])]) == [(4, [b"1"])]
        assert store.claim("a", 1) == 4
        store.write("a", {b"k": b"2"}, progress=5, token=1)
        assert list(store.items("a")) == [(b"k", b"2")]
