"""A certificate of one's own, for tests of TLS."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["self_signed"]

FOR = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of this machine that signs itself, and its key; skip where none can be.

    Args:
        folder: Where they are put.

    Returns:
        The files of both, in PEM.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", FOR, "-days", "2"]
    files = ["-keyout", str(key), "-out", str(cert)]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command
    return cert, key
