"""A client that 'penstock client' writes is typed, stands alone, and asks a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from penstock.client.generated import client_files
from penstock.deployment import deploy
from penstock.errors import NotFoundError
from penstock.http.serve_openapi import openapi_document
from penstock.runtime import open_services
from penstock.testing.manifests import manifest_of
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType

    from penstock.testing.served_project import ServedProject

ODD = manifest_of(
    'v.a"b\\c', "v.a b", "v.class", "2d.x", "v.to json", task="classification",
    entity="at", entities={"class": "int64"},
    request={"is": "boolean", "an amount": "float64"},
    dtypes={"v.a b": "int64"},
)  # fmt: skip


def run(*words: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """A program of this environment."""
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **more}, capture_output=True, text=True, check=False
    )


def written(document: Any, deployment: str, folder: Path) -> Path:  # noqa: ANN401 - JSON
    for name, content in client_files(document, deployment, "http://here:1").items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


@contextmanager
def imported(source: Path, package: str) -> Generator[ModuleType]:
    sys.path.insert(0, str(source))
    try:
        yield __import__(package)
    finally:
        sys.path.remove(str(source))
        for name in [one for one in sys.modules if one.partition(".")[0] == package]:
            del sys.modules[name]


def check_types(source: Path) -> None:
    """Both checkers, strict, as a project of its own would run them."""
    strict = '{"typeCheckingMode": "strict", "pythonVersion": "3.11"}'
    (source / "pyrightconfig.json").write_text(strict, encoding="utf-8")
    checked = run("mypy", "--strict", "--config-file", os.devnull, ".", cwd=source, MYPYPATH="")
    assert checked.returncode == 0, checked.stdout
    read = run("pyright", "--pythonpath", sys.executable, cwd=source, PYTHONPATH="")
    assert read.returncode == 0, read.stdout


@pytest.mark.slow
def test_a_written_client_asks_a_real_server(served: ServedProject, tmp_path: Path) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=2)
    out = tmp_path / "client"
    with serving(served) as http:
        where = str(http.base_url)
        command = ("penstock", "client", "btc", "--out", str(out), "--home", str(served.home))
        assert run(*command).returncode == 0
        made = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        again = run(*command, "--url", where, "--json", PENSTOCK_TOKEN=served.token)
        assert json.loads(again.stdout)["package"] == "btc_client"
        assert {path: path.read_bytes() for path in made} == made
        readme = (out / "README.md").read_text("utf-8")
        assert f'with Client("{where.rstrip("/")}", token)' in readme
        for token, said in (("", "asks for a token"), ("nobody's", "does not know that token")):
            stranger = run(*command, "--url", where, PENSTOCK_TOKEN=token)
            assert (stranger.returncode, said in " ".join(stranger.stderr.split())) == (1, True)
        (out / "README.md").write_text("mine", encoding="utf-8")
        refused = run(*command)
        assert refused.returncode == 1
        assert "was not made by 'penstock client'" in refused.stderr + refused.stdout
        check_types(out / "src")

        with imported(out / "src", "btc_client") as package:
            _asks(package, where, served.token)
            asyncio.run(_asks_within_a_loop(package, where, served.token))


def _asks(package: Any, where: str, token: str) -> None:  # noqa: ANN401 - made by the test
    row = package.Row(symbol="BTC", at=datetime(2026, 1, 12, tzinfo=UTC))
    with package.Client(where, token) as client:
        told = client.predict(row, with_features=True)
        assert told.probability.true + told.probability.false == pytest.approx(1)
        assert told.prediction is (told.probability.true >= 0.5)
        assert (told.version, told.route, told.reason) == (2, "champion", None)
        assert told.as_of.tzinfo is not None
        assert isinstance(told.features.momentum_count_1d, int)
        same = client.predict(told.features)
        assert same.probability.true == pytest.approx(told.probability.true, abs=1e-6)
        assert same.features is None
        many = client.predict_many([row, told.features] * 501)
        assert len({one.prediction_id for one in many}) == 1_002
        likely = pytest.approx(told.probability.true, abs=1e-6)
        assert [one.probability.true for one in many] == [likely] * 1_002
    with (
        package.Client(where, "nobody's") as stranger,
        pytest.raises(package.errors.Unauthorized, match="Nobody has that token"),
    ):
        stranger.predict(row)


async def _asks_within_a_loop(package: Any, where: str, token: str) -> None:  # noqa: ANN401 - as above
    async with package.AsyncClient(where, token) as client:
        rows = [package.Row(symbol=name) for name in ("BTC", "ETH", "ADA")]
        together = await asyncio.gather(*map(client.predict, rows))
        in_one = await client.predict_many(rows)
        likely = [pytest.approx(one.probability.true, abs=1e-6) for one in together]
        assert [one.probability.true for one in in_one] == likely


class _Busy(BaseHTTPRequestHandler):
    """Answers 503 with a time to wait, as often as it is told to, then with an error's status."""

    statuses: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status = self.statuses.pop(0)
        body = b'{"error":{"kind":"some","message":"words"}}'
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 503:
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.mark.slow
def test_names_of_any_kind_and_errors_of_each(tmp_path: Path) -> None:
    document = openapi_document("1", {"my-odd.one": ODD}, {}, may_see=lambda _: True)
    source = written(document, "my-odd.one", tmp_path) / "src"
    check_types(source)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with (
            imported(source, "my_odd_one_client") as package,
            package.Client(address, "t", retries=2) as client,
        ):
            row = package.Row(at_="k", class_=1, is_=True, an_amount=None)
            assert row.to_json() == {
                "entity": {"at": "k", "class": 1}, "request": {"is": True, "an amount": None},
            }  # fmt: skip
            features = package.Features(
                v_a_b_c=1.0, v_a_b=2, v_class=None, n2d_x=4.0, v_to_json=5.0
            )
            values = dict(zip(ODD.features, [1.0, 2, None, 4.0, 5.0], strict=True))
            assert features.to_json() == {"features": values}
            errors = package.errors
            for statuses, expected in [
                ([422], errors.InvalidRequest), ([403], errors.Forbidden),
                ([404], errors.NotThere), ([500], errors.ServerFailed),
                ([503, 503, 403], errors.Forbidden), ([503] * 3, errors.Unavailable),
                ([200], errors.UnexpectedAnswer),
            ]:  # fmt: skip
                _Busy.statuses[:] = [*statuses]
                with pytest.raises(errors.PredictionError) as told:
                    client.predict(row)
                assert type(told.value) is expected
                assert not _Busy.statuses
                wanted = ("", 0) if statuses == [200] else ("some", told.value.status)
                assert (told.value.kind, told.value.status) == wanted
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(NotFoundError, match=r"my-odd\.one"):
        client_files(document, "odd", address)


def test_the_readme_says_where_the_server_answers_and_no_password() -> None:
    document = openapi_document("1", {"my-odd.one": ODD}, {}, may_see=lambda _: True)
    found = client_files(document, "my-odd.one", "https://me:secret@host:9000/behind")
    assert 'with Client("https://host:9000/behind", token)' in found["README.md"]
    assert not any("secret" in content for content in found.values())
