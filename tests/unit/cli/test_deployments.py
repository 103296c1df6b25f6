from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from penstock.deployment import (
    RouteEdit,
    change_routes,
    changes_of,
    deploy,
    point_alias,
    split_put,
)
from penstock.registry import aliases, get_version
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Call = Callable[..., Said]

pytestmark = pytest.mark.slow


def test_a_file_brings_versions_and_routes_back(
    served: ServedProject, call: Call, tmp_path: Path
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
        edit = RouteEdit(shares={"@2": 0.1}, headers={"x-a=b": "@2"}, rules={"symbol == 'S'": "@2"})
        change_routes(services, "split", edit, wait_s=0)
    assert call("deployments", "export", file, *home).code == 0
    written = file.read_text()
    with open_services(served.home) as services:
        deploy(services, "btc", version=2)
        edit = RouteEdit(
            shares={"@2": 0.3}, headers={"x-a=b": "off"}, rules={"symbol == 'T'": "@1"}
        )
        change_routes(services, "split", edit, wait_s=0)
        edit = RouteEdit(pins={"previous": 2}, ages={"cached": "1m"})
        change_routes(services, "btc", edit, wait_s=0)

    shown = call("deployments", "apply", file, "--dry-run", *home)
    with open_services(served.home) as services:
        untouched = aliases(services.metadata, "direction").champion
    applied = call("deployments", "apply", file, *home)
    again = call("deployments", "apply", file, "--json", *home).value

    assert call("deployments", "export", *home).out == written
    assert json.loads(written)["deployments"]["btc"]["version"] == 1
    assert "direction@2 -> direction@1, through its checks" in shown.out
    planned = " ".join(shown.out.split())
    assert "-> share of @2 is 0.1; header x-a=b leads to @2; rule (symbol == 'S')" in planned
    assert "previous is pinned to 2; cached scores answer for 1m -> as declared" in planned
    assert untouched == 2
    assert applied.code == 0, applied
    assert again == {"changes": [], "applied": False}
    with open_services(served.home) as services:
        assert aliases(services.metadata, "direction").champion == 1
        assert changes_of(services.metadata, "btc").is_empty
        asked = [one.action for one in services.metadata.audit()]
    assert asked.count("begin rollout") == 1


def test_what_an_experiment_shares_is_its_own(
    served: ServedProject, call: Call, tmp_path: Path
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
        call("deployments", "export", file, *home)
        split = split_put(services, "btc", {"@2": 0.3}, salt="experiment trial", reason="trial")
        services.metadata.write(split)

    applied = call("deployments", "apply", file, *home)

    assert "Everything is as the file says." in applied.out
    assert call("deployments", "export", *home).out == file.read_text()
    with open_services(served.home) as services:
        change_routes(services, "btc", RouteEdit(pins={"previous": 2}), wait_s=0)
    back = call("deployments", "apply", file, *home)
    assert back.code == 0, back
    with open_services(served.home) as services:
        assert changes_of(services.metadata, "btc").shares == {"@2": 0.3}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 9}, "error not_found"),
        ({"package": "0" * 64}, "it is not the same version"),
        ({"declaration": "0" * 64}, "is declared otherwise here"),
        ({"model": "other"}, "is declared otherwise here"),
        ({"versoin": 1}, "does not say what is deployed"),
    ],
)
def test_what_does_not_exist_here_is_refused(
    served: ServedProject, call: Call, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
    content = json.loads(call("deployments", "export", *home).out)
    content["deployments"]["btc"] |= change
    file.write_text(json.dumps(content))

    answer = call("deployments", "apply", file, *home)

    assert answer.code == 1
    assert said in " ".join(answer.err.split())
    with open_services(served.home) as services:
        assert aliases(services.metadata, "direction").champion == 1


def test_versions_of_one_model_that_differ_are_refused(
    served: ServedProject, call: Call, tmp_path: Path
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
    content = json.loads(call("deployments", "export", *home).out)
    content["deployments"]["split"] |= {"version": 0, "package": ""}
    file.write_text(json.dumps(content))

    assert "share one champion" in " ".join(call("deployments", "apply", file, *home).err.split())
    assert call("deployments", "apply", tmp_path / "none.json", *home).code == 1


def test_aliases_that_routes_lead_to_are_in_the_file(
    served: ServedProject, call: Call, tmp_path: Path
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
        point_alias(services, "direction", "challenger", 2)
        change_routes(services, "split", RouteEdit(shadows={"candidate": True}), wait_s=0)
        package = get_version(services.metadata, "direction", 2).package
    assert call("deployments", "export", file, *home).code == 0
    written = json.loads(file.read_text())["deployments"]
    with open_services(served.home) as services:
        deploy(services, "btc", version=2)  # the challenger becomes champion
        point_alias(services, "direction", "candidate", 1)
        change_routes(services, "split", RouteEdit(shadows={"candidate": None}), wait_s=0)

    shown = call("deployments", "apply", file, "--dry-run", *home)
    with open_services(served.home) as services:
        untouched = aliases(services.metadata, "direction")
    applied = call("deployments", "apply", file, *home)
    again = call("deployments", "apply", file, "--json", *home).value

    pointed = {"version": 2, "package": package}
    assert written["split"]["aliases"] == {"challenger": pointed, "candidate": pointed}
    assert written["btc"]["aliases"] == {}
    assert "challenger: none -> direction@2, through its checks" in shown.out
    assert "candidate: direction@1 -> direction@2, through its checks" in shown.out
    assert (untouched.challenger, untouched.candidate) == (0, 1)
    assert applied.code == 0, applied
    assert again == {"changes": [], "applied": False}
    assert call("deployments", "export", *home).out == file.read_text()
    with open_services(served.home) as services:
        after = aliases(services.metadata, "direction")
        reasons = [one.difference.get("reason") for one in services.metadata.audit()]
    assert (after.champion, after.challenger, after.candidate) == (1, 2, 2)
    assert reasons.count("as the file says") == 3


def test_a_challenger_that_the_rollout_takes_away_is_named_again(
    served: ServedProject, call: Call, tmp_path: Path
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=2)
        point_alias(services, "direction", "challenger", 2)
        call("deployments", "export", file, *home)
        deploy(services, "btc", version=1)

    assert call("deployments", "apply", file, *home).code == 0

    assert call("deployments", "export", *home).out == file.read_text()
    with open_services(served.home) as services:
        now = aliases(services.metadata, "direction")
    assert (now.champion, now.challenger) == (2, 2)


def test_a_file_without_aliases_leaves_them_alone(
    served: ServedProject, call: Call, tmp_path: Path
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
    none = json.loads(call("deployments", "export", *home).out)
    older = json.loads(json.dumps(none))
    for one in older["deployments"].values():
        del one["aliases"]
    with open_services(served.home) as services:
        point_alias(services, "direction", "challenger", 2)

    file.write_text(json.dumps(older))
    left = call("deployments", "apply", file, *home)
    with open_services(served.home) as services:
        kept = aliases(services.metadata, "direction").challenger
    file.write_text(json.dumps(none))
    emptied = call("deployments", "apply", file, *home)

    assert "Everything is as the file says." in left.out
    assert kept == 2
    assert "challenger: direction@2 -> none" in " ".join((emptied.out + emptied.err).split())
    with open_services(served.home) as services:
        assert aliases(services.metadata, "direction").challenger == 0


@pytest.mark.parametrize(
    ("pointed", "said"),
    [
        ({"challenger": {"version": 9, "package": ""}}, "direction@9"),
        ({"challenger": {"version": 2, "package": "0" * 64}}, "it is not the same version"),
        ({"champion": {"version": 1, "package": ""}}, "does not say what is deployed"),
    ],
)
def test_an_alias_of_what_does_not_exist_here_is_refused(
    served: ServedProject, call: Call, tmp_path: Path, pointed: dict[str, object], said: str
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
    content = json.loads(call("deployments", "export", *home).out)
    content["deployments"]["btc"]["routes"]["pins"] = {"previous": 2}
    content["deployments"]["split"]["aliases"] = pointed
    file.write_text(json.dumps(content))

    answer = call("deployments", "apply", file, *home)

    assert answer.code == 1
    assert said in " ".join(answer.err.split())
    with open_services(served.home) as services:
        assert aliases(services.metadata, "direction").challenger == 0
        assert changes_of(services.metadata, "btc").is_empty


def test_an_alias_at_two_versions_is_refused(
    served: ServedProject, call: Call, tmp_path: Path
) -> None:
    home, file = ("--home", served.home), tmp_path / "deployed.json"
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
        point_alias(services, "direction", "challenger", 2)
    content = json.loads(call("deployments", "export", *home).out)
    none = {"challenger": {"version": 0, "package": ""}}
    content["deployments"]["btc"]["aliases"] = none
    file.write_text(json.dumps(content))

    said = " ".join(call("deployments", "apply", file, *home).err.split())

    assert "at none for 'btc' and at direction@2 for 'split'; they share it" in said
