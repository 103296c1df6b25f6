"""A certificate is taken again when its files change."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from penstock.http.tls import Certificates
from penstock.testing.certificates import self_signed

if TYPE_CHECKING:
    from pathlib import Path

LONG = 4_096


def _put(folder: Path, made: Path) -> None:
    """Write what was made over what is there: as long as that, and with its date."""
    for name in ("cert.pem", "key.pem"):
        path = folder / name
        path.write_bytes((made / name).read_bytes().ljust(LONG, b"\n"))
        os.utime(path, (0, 0))


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    self_signed(folder)
    return folder


def test_files_of_the_same_length_and_date_are_others(tmp_path: Path) -> None:
    first, second = (_folder(tmp_path, name) for name in ("first", "second"))
    shown = tmp_path / "shown"
    shown.mkdir()
    _put(shown, first)
    certificates = Certificates(shown / "cert.pem", shown / "key.pem")
    before = certificates.pem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.look(context)
    assert certificates.pem is before
    _put(shown, second)
    certificates.look(context)
    assert certificates.pem.cert.strip() == (second / "cert.pem").read_bytes().strip()


def test_a_file_that_is_not_there_is_missed_once_and_taken_when_it_is(tmp_path: Path) -> None:
    first, second = (_folder(tmp_path, name) for name in ("first", "second"))
    certificates = Certificates(first / "cert.pem", first / "key.pem")
    before, context = certificates.pem, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (first / "key.pem").unlink()
    with capture_logs() as said:
        for _ in range(3):
            certificates.look(context)
    assert [one["event"] for one in said] == ["the certificate was not renewed"]
    assert certificates.pem is before
    _put(first, second)
    certificates.look(context)
    assert certificates.pem is not before
