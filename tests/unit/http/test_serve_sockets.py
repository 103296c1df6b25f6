from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

import pytest

from penstock.errors import UnavailableError
from penstock.http.serve_sockets import unix_socket

if TYPE_CHECKING:
    from pathlib import Path


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
