from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from penstock.deployment import RouteEdit, change_routes, changes_of, deploy, split_put
from penstock.registry import aliases
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
        change_routes(services, "split", RouteEdit(shares={"@2": 0.1}), wait_s=0)
    assert call("deployments", "export", file, *home).code == 0
    written = file.read_text()
    with open_services(served.home) as services:
        deploy(services, "btc", version=2)
        change_routes(services, "split", RouteEdit(shares={"@2": 0.3}), wait_s=0)
        change_routes(services, "btc", RouteEdit(pins={"previous": 2}), wait_s=0)

    shown = call("deployments", "apply", file, "--dry-run", *home)
    with open_services(served.home) as services:
        untouched = aliases(services.metadata, "direction").champion
    applied = call("deployments", "apply", file, *home)
    again = call("deployments", "apply", file, "--json", *home).value

    assert call("deployments", "export", *home).out == written
    assert json.loads(written)["deployments"]["btc"]["version"] == 1
    assert "direction@2 -> direction@1, through its checks" in shown.out
    assert "share of @2 is 0.3 -> share of @2 is 0.1" in shown.out
    assert "previous is pinned to 2 -> as declared" in shown.out
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
