from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from penstock.errors import SettingsError
from penstock.runtime import Settings, check_port, url_of

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture
def taken() -> Generator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


def test_a_port_in_use_names_port_setting_and_holder(taken: int) -> None:
    with pytest.raises(SettingsError) as caught:
        check_port("127.0.0.1", taken, setting="serve_port")

    for part in (str(taken), "serve_port", "PENSTOCK_SERVE_PORT", f"process {os.getpid()}"):
        assert part in caught.value.message


def test_a_free_port_stays_free(taken: int) -> None:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        free = int(trial.getsockname()[1])
    for _ in range(2):
        check_port("127.0.0.1", free, setting="api_port")
    assert free != taken


def test_an_address_of_another_machine() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        check_port("192.0.2.1", 8001, setting="serve_port")


@pytest.mark.parametrize(
    ("settings", "host", "expected"),
    [
        (Settings(), "127.0.0.1", "http://127.0.0.1:80"),
        (Settings(tls_cert="c", tls_key="k"), "localhost", "https://localhost:80"),
        (Settings(), "0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104 - compared only
        (Settings(), "::", "http://[::1]:80"),
    ],
)
def test_how_clients_call_an_address(settings: Settings, host: str, expected: str) -> None:
    assert url_of(settings, host, 80) == expected
