"""The certificate of a server, taken again when its files change: a renewal needs no restart."""

from __future__ import annotations

import os
import ssl
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
import uvicorn

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from penstock.runtime import Settings

__all__ = ["Certificates", "Pem", "RenewingServer", "certificates_of"]

TICKS_PER_S = 10


class Pem(NamedTuple):
    """What the files say.

    Attributes:
        cert: The chain of certificates.
        key: The private key.
        client_ca: By whom the certificates of clients have to be signed; empty for no such demand.
    """

    cert: bytes
    key: bytes
    client_ca: bytes


class Certificates:
    """The files of a certificate as they were when they last fitted together.

    Args:
        cert: The chain of certificates.
        key: The private key.
        client_ca: By whom the certificates of clients have to be signed; none for no such demand.

    Attributes:
        pem: What they say; replaced as a whole, so that any thread may read it.
        client_ca: See above.

    Raises:
        OSError: A file cannot be read.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self.client_ca = client_ca
        self._files = [one for one in (cert, key, client_ca) if one is not None]
        self._seen = self._stamps()
        self.pem = self._read()
        self._log = structlog.get_logger("penstock.serve")

    def for_uvicorn(self) -> dict[str, Any]:
        """What uvicorn is told of them."""
        told: dict[str, Any] = {"ssl_certfile": self._files[0], "ssl_keyfile": self._files[1]}
        if self.client_ca is not None:
            told |= {"ssl_ca_certs": self.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return told

    def look(self, context: ssl.SSLContext) -> None:
        """Have new connections get what the files say now, where they have changed and fit.

        Files that do not fit together, as while only one of them is replaced yet, change nothing.

        Args:
            context: By which connections are made.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            pem = self._read()
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem)
            _load(context, pem)
        except (OSError, ValueError) as error:
            self._log.warning("the certificate was not renewed", error=str(error))
            return
        self.pem = pem
        self._log.info("the certificate was renewed")

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(one) for one in self._files]

    def _read(self) -> Pem:
        cert, key, *more = (one.read_bytes() for one in self._files)
        return Pem(cert, key, *(more or [b""]))


class RenewingServer(uvicorn.Server):
    """uvicorn's server, whose certificate is taken again when its files change.

    Attributes:
        certificates: The files; none without TLS.
    """

    certificates: Certificates | None = None

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end; once a second, look at the files."""
        context = self.config.ssl
        if counter % TICKS_PER_S == 0 and self.certificates is not None and context is not None:
            self.certificates.look(context)
        return await super().on_tick(counter)


def certificates_of(settings: Settings, home: Path) -> Certificates | None:
    """The certificate that the settings name; none where there is no TLS.

    Args:
        settings: The settings.
        home: The project folder.
    """
    if not (settings.tls_cert and settings.tls_key):
        return None
    ca = home / settings.tls_client_ca if settings.tls_client_ca else None
    return Certificates(home / settings.tls_cert, home / settings.tls_key, ca)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What differs once a file has changed, or who may read it; none where it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    # Not when it was written last: copies keep that, and a change of its owner does not change it.
    return found.st_ctime_ns, found.st_size, found.st_ino


def _load(context: ssl.SSLContext, pem: Pem) -> None:
    """Take a certificate; what was read before, and not what a file says a moment later."""
    with ExitStack() as stack:
        cert, key = (stack.enter_context(_as_file(one)) for one in (pem.cert, pem.key))
        context.load_cert_chain(cert, key)
    if pem.client_ca:
        context.load_verify_locations(cadata=pem.client_ca.decode("ascii"))


@contextmanager
def _as_file(data: bytes) -> Generator[str]:
    """A file of data that is on no disk, for what reads files alone."""
    handle = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(handle, data)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)
