"""The command that asks for a prediction, of a serving process and without any."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Run = Callable[..., Said]


@pytest.fixture(params=["over HTTP", "in this process"])
def run(
    served: ServedProject, call: Run, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Said]]:
    """``penstock predict btc``, with version 2 as champion and 1 for a header."""
    with open_services(served.home, actor="tester") as services:
        btc = Catalogue.load(services.metadata).deployment("btc")
        routes = [ps.champion(), ps.by_header("X-Group", "old", version=1)]
        changed = msgspec.structs.replace(btc, routes=routes, log=None)
        project = ps.Project("served", declarations=[changed])
        apply(services.metadata, project, actor="ann", now=services.clock.now())
        deploy(services, "btc", version=2)
    with ExitStack() as stack:
        if request.param == "over HTTP":
            stack.enter_context(serving(served))
        yield lambda *words: call("predict", "btc", *words, "--home", served.home, "--json")


@pytest.mark.timeout(300)
def test_everything_that_a_client_can_ask(run: Run, served: ServedProject) -> None:
    whole = [f"--feature={name}={value}" for name, value in
             zip(served.features, ["1.5", "0.1", "null", "2.5", "24"], strict=True)]  # fmt: skip
    plain = run("--key", "BTC").value
    header = run("--key", "BTC", "--header", "X-Group=old").value
    other = run("--key", "BTC", "--header", "x-group=new").value
    named = run("--key", "BTC", "--version", "1").value
    handed = run(*whole, "--features").value
    by_both = run(*whole, "--version", "2").value
    missing = run("--key", "BTC", "--version", "7")

    assert (plain["version"], plain["route"], "features" in plain) == (2, "champion", False)
    assert (header["version"], header["route"]) == (1, "header")
    assert (other["version"], other["probability"]) == (2, plain["probability"])
    assert (named["version"], named["probability"]) == (1, header["probability"])
    assert len({one["prediction_id"] for one in (plain, header, other, named)}) == 4
    assert handed["features"] == dict(zip(served.features, [1.5, 0.1, None, 2.5, 24], strict=True))
    assert (by_both["version"], by_both["probability"]) == (2, handed["probability"])
    assert missing.code == 1
    assert "only with 1, 2" in " ".join(missing.err.split())


def test_what_goes_with_nothing_is_refused(served: ServedProject, call: Run) -> None:
    for words, said in (
        (["--header", "x-group"], "write NAME=VALUE"),
        (["--version", "1", "--features"], "goes with neither"),
        (["--version", "1", "--at", "2026-01-05T00:00:00Z"], "goes with neither"),
    ):
        told = call("predict", "btc", "--key", "BTC", *words, "--home", served.home)
        assert (told.code, said in told.err) == (2, True), told.err
