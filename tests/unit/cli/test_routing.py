"""The commands about routes, and a rollback that names its version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.deployment import deploy
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.served_project import ServedProject

    from .conftest import Said


@pytest.fixture
def run(served: ServedProject, call: Callable[..., Said]) -> Callable[..., Said]:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
        deploy(services, "btc", version=2)
    return lambda *words: call(*words, "--home", served.home)


def test_routes_are_shown_set_and_reset(run: Callable[..., Said]) -> None:
    words = ["--share", "@1=0.05", "--share", "challenger=0", "--shadow", "candidate=off"]
    words += ["--pin", "champion=1", "--deadline", "30ms", "--value", "0.5", "--reason", "try"]

    first, absent = run("routes", "show", "split"), run("status", "--json")
    done = run("routes", "set", "split", *words)
    status, named = run("status"), run("status", "--json")
    back = run("routes", "reset", "split", "--expect", "1")

    assert "All is as declared (revision 0)." in first.out
    assert "Nothing falls back." in first.out
    for text in (
        "The routes of split are changed.",
        "95 %",
        "5 %",
        "pinned, changed at run time",
        "After 30ms: previous version, constant 0.5.",
        "Changed at run time (revision 1) by",
        ": try.",
    ):
        assert text in done.out, text
    assert "share of @1 is 0.05" in " ".join(status.out.split())
    before, after = [
        {one["deployment"]: one["routes"] for one in said.value["deployments"]}["split"]
        for said in (absent, named)
    ]
    assert before == "champion 100 %; challenger without a version; shadow candidate"
    assert after.startswith("champion 95 %; challenger @1 5 %; changed at run time: ")
    assert "All is as declared (revision 2)." in back.out


def test_headers_rules_and_ages_are_set_and_shown(run: Callable[..., Said]) -> None:
    words = ["--header", "X-Group=beta=@1", "--rule", "symbol == 'BTC' and True = candidate"]
    words += ["--cached", "30s"]

    done = run("routes", "set", "split", *words)
    back = run("routes", "set", "split", "--header", "x-group=beta=off", "--cached", "declared",
               "--rule", "(symbol == 'BTC') & True=declared")  # fmt: skip

    said = " ".join(done.out.split())
    for text in (
        "header x-group=beta",
        "rule ((symbol == 'BTC') & True)",
        "Otherwise than declared: header x-group=beta leads to @1; rule",
        "& True) leads to candidate; cached scores answer for 30s.",
    ):
        assert text in said, text
    assert "All is as declared (revision 2)." in back.out


def test_a_fallback_is_changed_in_part(run: Callable[..., Said]) -> None:
    done = run("routes", "set", "btc", "--deadline", "40ms", "--json")
    chain = run("routes", "set", "btc", "--to", "previous,cached", "--value", "0.5")
    back = run("routes", "set", "btc", "--fallback", "declared", "--json")

    assert "After 40ms: previous version, last score, constant 0.5." in chain.out
    assert done.value["fallback"] == {
        "deadline": "40ms",
        "to": "previous",
        "value": None,
        "max_age": "",
        "slow_after": "",
    }
    assert back.value["fallback"]["deadline"] == "250ms"


def test_a_limit_alone_makes_a_fallback(run: Callable[..., Said]) -> None:
    done = run("routes", "set", "split", "--slow-after", "50ms")
    off = run("routes", "set", "split", "--slow-after", "off", "--json")

    assert "After 10s: previous version." in done.out
    assert "Slow after 50ms: counts against the version." in done.out
    assert (off.value["fallback"]["deadline"], off.value["fallback"]["slow_after"]) == ("10s", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--share", "0.1"], "write challenger=0.1"),
        (["--share", "challenger=much"], "write challenger=0.1"),
        (["--shadow", "candidate=maybe"], "write candidate=on"),
        (["--pin", "champion=new"], "write champion=3"),
        (["--header", "x-group=beta"], "write x-group=beta=@3, or champion, challenger"),
        (["--header", "@2"], "leads nowhere"),
        (["--rule", "symbol == 'BTC'"], "write 'amount > 1000=@3'"),
        (["--rule", "symbol === 'BTC'=@2"], "is no condition"),
        (["--cached", "later"], "max_age"),
        (["--to", "nowhere"], "write previous, cached, constant"),
        (["--value", "0.5"], "give --deadline too"),
        (["--fallback", "none"], "'declared'"),
        (["--slow-after", "off"], "give --deadline too"),
        (["--slow-after", "1m"], "below the deadline of 10s"),
        ([], "Nothing is to be changed"),
        (["--share", "@2=0.1", "--expect", "4"], "at revision 0, not 4"),
    ],
)
def test_words_that_are_wrong_are_explained(
    run: Callable[..., Said], words: list[str], said: str
) -> None:
    refused = run("routes", "set", "split", *words)

    assert refused.code != 0
    assert said in " ".join(refused.err.split())
    assert run("routes", "show", "split", "--json").value["revision"] == 0


def test_a_rollback_that_names_its_version_may_be_repeated(run: Callable[..., Said]) -> None:
    first = run("rollback", "btc", "--to", "direction@1")
    again = run("rollback", "btc", "--to", "1")

    assert "direction@1 answers on btc" in first.out
    assert "direction@1 answers as before on btc" in again.out
    assert "--to 'x' is no version" in run("rollback", "btc", "--to", "x").err


def test_the_challenger_is_named_and_taken_away(run: Callable[..., Said]) -> None:
    named = run("models", "alias", "direction@1", "challenger", "--reason", "try")
    listed = run("models", "list", "--json")
    wrong = run("models", "alias", "direction@1", "challenger", "--remove")
    gone = run("models", "alias", "direction", "challenger", "--remove", "--json")

    assert "direction@1 is challenger." in named.out
    assert listed.value[0]["aliases"]["challenger"] == 1
    assert (wrong.code, "--remove takes the model alone" in wrong.err) == (2, True)
    assert gone.value["challenger"] == 0
