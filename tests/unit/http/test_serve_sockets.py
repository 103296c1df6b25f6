from __future__ import annotations

import asyncio
import socket
import stat
from typing import TYPE_CHECKING

import pytest
import uvloop

from penstock.errors import UnavailableError
from penstock.http.serve_app import ServeApp
from penstock.http.serve_keeper import Keeper
from penstock.http.serve_process import server_of
from penstock.http.serve_sockets import bind_port, unix_socket

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.runtime import LocalServices


def test_whoever_listens_first_has_the_port_and_the_other_says_so(services: LocalServices) -> None:
    async def serve(ours: socket.socket) -> None:
        keeper = Keeper(services, address="http://here", limit_bytes=1 << 20)
        server = server_of(ServeApp(keeper, services.clock))
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:\d+: another process"):
            await asyncio.wait_for(server.serve(sockets=[ours]), 20)
        assert not keeper.ready

    with (
        bind_port("127.0.0.1", 0) as ours,
        bind_port("127.0.0.1", ours.getsockname()[1]) as theirs,
    ):
        theirs.listen()
        uvloop.run(serve(ours))


def test_a_socket_is_there_while_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with unix_socket(path) as bound:
        bound.listen()
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with unix_socket(path) as bound:
        bound.listen()


def test_nobody_is_pushed_aside(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with unix_socket(path) as first:
        first.listen()
        with pytest.raises(UnavailableError, match="another process answers"), unix_socket(path):
            pass
        assert path.is_socket()
    path.write_text("mine")
    with pytest.raises(UnavailableError, match="serve_socket"), unix_socket(path):
        pass
    assert path.read_text() == "mine"


def test_a_path_that_cannot_be_bound_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "s", tmp_path / ("s" * 120)):
        with pytest.raises(UnavailableError, match="at most 107 bytes"), unix_socket(path):
            pass
