"""A certificate is renewed while the server answers, and clients have to show one of their own."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest

from penstock.testing.certificates import self_signed
from penstock.testing.ports import free_port
from penstock.testing.serving import running
from penstock.testing.working import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

LIVE = "/inference.GRPCInferenceService/ServerLive"
READY = "/v2/health/ready"


def _shown(port: int, name: Path) -> str:
    """The certificate that a port shows to a client who knows both and has one himself."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(name / "cert.pem", name / "key.pem")
    context.set_alpn_protocols(["h2"])
    with (
        closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as raw,
        context.wrap_socket(raw) as wrapped,
    ):
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"").strip()


def test_a_renewed_certificate_is_shown_and_a_client_without_one_refused(
    served: ServedProject, tmp_path: Path
) -> None:
    for name in ("server", "client", "next"):
        (tmp_path / name).mkdir()
        self_signed(tmp_path / name)
    home, mine = served.home, tmp_path / "client"
    for name in ("cert.pem", "key.pem"):
        (home / name).write_bytes((tmp_path / "server" / name).read_bytes())
    (home / "ca.pem").write_bytes((mine / "cert.pem").read_bytes())
    port, grpc_port = free_port(), free_port()
    with (home / "penstock.toml").open("a") as settings:
        settings.write('\ntls_cert = "cert.pem"\ntls_key = "key.pem"\ntls_client_ca = "ca.pem"\n')
        settings.write(f"serve_grpc_port = {grpc_port}\n")
    words = ["serve", "--home", str(home), "--port", str(port)]
    command = [sys.executable, "-m", "penstock.cli", *words]
    cert, following = home / "cert.pem", tmp_path / "next"
    with running(served, command, str(port), cert=cert, shows=mine) as http:
        before, after = (
            (tmp_path / name / "cert.pem").read_text().strip() for name in ("server", "next")
        )
        assert [_shown(one, mine) for one in (port, grpc_port)] == [before] * 2
        trusted = ssl.create_default_context(cafile=cert)
        with (
            httpx.Client(verify=trusted) as without,
            pytest.raises(httpx.TransportError),
        ):
            without.get(f"https://127.0.0.1:{port}{READY}")
        assert not _answers_grpc(grpc_port, cert, None)
        assert _answers_grpc(grpc_port, cert, mine)

        cert.write_bytes((following / "cert.pem").read_bytes())  # and the key is still the old one
        time.sleep(2.5)
        assert [_shown(one, mine) for one in (port, grpc_port)] == [before] * 2
        assert http.get(READY).is_success
        (home / "key.pem").write_bytes((following / "key.pem").read_bytes())
        until(lambda: {_shown(one, mine) for one in (port, grpc_port)} == {after})
        assert http.get(READY).is_success  # over the connection of before
        assert _answers_grpc(grpc_port, cert, mine)


def _answers_grpc(port: int, trusted: Path, shows: Path | None) -> bool:
    key, chain = ((shows / name).read_bytes() for name in ("key.pem", "cert.pem")) if shows else (
        None, None,
    )  # fmt: skip
    credentials = grpc.ssl_channel_credentials(trusted.read_bytes(), key, chain)
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        live: Callable[..., bytes] = channel.unary_unary(LIVE)
        try:
            return live(b"", timeout=5) == b"\x08\x01"
        except grpc.RpcError:
            return False
