"""The commands about users and grants, and what commands show of protected features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.access import add_user
from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.testing.protecting import protect

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.records import Role
    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Call = Callable[..., Said]

DENIED = "'ana' may not read 'momentum.last_close'"
WHY = "protected by the view 'momentum'. An admin grants it"


@pytest.fixture
def token(served: ServedProject) -> str:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
        return protect(services, "momentum", role="writer")


@pytest.fixture
def as_ana(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_TOKEN", token)


@pytest.fixture
def admin(served: ServedProject, call: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Commands of the administrator of the project, whoever the environment names."""

    def run(*words: object) -> Said:
        with monkeypatch.context() as without:
            without.delenv("PENSTOCK_TOKEN", raising=False)
            return call(*words, "--home", served.home)

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("features", "get", "momentum", "--key", "BTC"),
        ("features", "get", "momentum", "--key", "BTC", "--at", "2026-01-05T00:00Z"),
        ("features", "select", "hourly"),
        ("features", "profile", "momentum"),
        ("features", "profile", "momentum.last_close"),
        ("train", "direction"),
    ],
)
@pytest.mark.usefixtures("as_ana")
def test_commands_that_show_protected_features_are_refused(
    served: ServedProject, call: Call, words: tuple[str, ...]
) -> None:
    said = call(*words, "--home", served.home)
    assert (said.code, said.out) == (1, "")
    assert DENIED in said.err
    assert WHY in said.err
    assert "An admin grants it with 'penstock access grant ana --view momentum'." in said.err


@pytest.mark.usefixtures("as_ana")
def test_a_grant_opens_the_command(served: ServedProject, call: Call, admin: Call) -> None:
    get = ("features", "get", "momentum", "--key", "BTC", "--home", served.home)
    assert call(*get).code == 1
    assert admin("access", "grant", "ana", "--view", "momentum").code == 0
    assert "momentum.last_close" in call(*get).out
    assert admin("access", "revoke", "ana", "--view", "momentum").code == 0
    assert call(*get).code == 1
    (denial,) = admin("access", "list", "--json").value["denials"]
    assert (denial["user"], denial["subject"]) == ("ana", "feature_view/momentum")
    assert "ana   feature view momentum" in admin("access", "list").out
    assert call("access", "list", "--home", served.home, "--json").value["denials"] == [denial]


def test_a_user_whom_nobody_added_is_named_as_such(admin: Call) -> None:
    said = admin("access", "list", "nobody")
    assert (said.code, said.out) == (1, "")
    assert "There is no user 'nobody'." in said.err
    assert admin("users", "add", "bob", "--role", "reader").code == 0
    assert "bob was not granted anything" in admin("access", "list", "bob").out


@pytest.mark.usefixtures("as_ana")
def test_what_shows_no_value_is_open(served: ServedProject, call: Call) -> None:
    for words in (("features", "build"), ("features", "check", "momentum"), ("status",)):
        said = call(*words, "--home", served.home)
        assert said.code == 0, said.err
    said = call("features", "check", "momentum", "--home", served.home, "--json")
    assert {one["key"] for report in said.value for one in report["checks"]} == {None}


@pytest.mark.usefixtures("as_ana")
def test_applying_is_for_admins(served: ServedProject, call: Call, admin: Call) -> None:
    (served.home / "project.py").write_text("import penstock as ps\nuser = ps.Entity('user')\n")
    said = call("apply", "--home", served.home)
    assert said.code == 1
    assert "'ana' is writer, but this takes the role admin." in said.err
    assert "view momentum" in admin("access", "list", "--json").value["protected"]


@pytest.mark.usefixtures("as_ana")
def test_a_score_is_explained_without_protected_values(
    served: ServedProject, call: Call, admin: Call
) -> None:
    asked = call("predict", "btc", "--key", "BTC", "--home", served.home, "--json")
    assert asked.code == 0, asked.err
    assert "features" not in asked.value
    found = asked.value["prediction_id"]
    values = admin("lineage", found, "--json").value["detail"]["features"]
    assert any(isinstance(value, float) for value in values)
    shown = call("lineage", found, "--home", served.home, "--json")
    assert shown.value["detail"]["features"] == ["protected"] * len(served.features)
    (link,) = [one for one in shown.value["comes_from"] if one["kind"] == "features"]
    assert {link["detail"][name] for name in served.features} == {"protected"}
    told = [repr(value) for value in values if value is not None and value not in (0.0, 24.0)]
    assert told
    assert not [value for value in told if value in shown.out]
    for form in ((), ("--json",)):
        again = call("replay", found, "--home", served.home, *form)
        assert again.code == 0
        assert not [value for value in told if value in again.out]
    value = call("replay", found, "--home", served.home, "--json").value
    assert (value["features"], value["hidden"]) == ([], list(served.features))
    assert len(admin("replay", found, "--json").value["features"]) == len(served.features)
    said = call("replay", found, "--home", served.home)
    assert "protected from you and not shown: momentum.last_close, momentum" in said.out


def test_users_and_grants_from_the_command_line(token: str, admin: Call) -> None:
    added = admin("users", "add", "bob", "--role", "writer", "--json").value
    assert (added["name"], added["role"], len(added["token"])) == ("bob", "writer", 43)
    assert admin("users", "add", "eve", "--role", "reder").code == 2
    rows = [line.split()[:3] for line in admin("users", "list").out.splitlines()[1:]]
    assert rows[0] == ["*", "admin", "admin"]
    assert [row[:2] for row in rows[1:]] == [["ana", "writer"], ["bob", "writer"]]
    renewed = admin("users", "token", "bob", "--json").value["token"]
    assert renewed != added["token"]
    assert admin("access", "grant", "bob").code == 2
    assert (
        "Granted to bob: view momentum."
        in admin("access", "grant", "bob", "--view", "momentum").out
    )
    again = admin("access", "grant", "bob", "--view", "momentum")
    assert "bob had it already: view momentum." in again.out
    listed = admin("access", "list", "--json").value
    assert listed["protected"]["view momentum"][0] == "momentum.last_close"
    (grant,) = listed["grants"]
    assert (grant["user"], grant["what"], grant["name"]) == ("bob", "view", "momentum")
    shown = admin("access", "list").out
    assert "view momentum" in shown
    assert admin("access", "list", "ana", "--json").value["grants"] == []
    removed = admin("users", "remove", "bob")
    assert "bob is removed, and 1 grant with them" in removed.out
    assert token not in admin("users", "list", "--json").out


@pytest.mark.usefixtures("as_ana")
def test_who_is_no_admin_grants_nothing(served: ServedProject, call: Call) -> None:
    for words in (
        ("access", "grant", "ana", "--view", "momentum"),
        ("access", "revoke", "ana", "--view", "momentum"),
        ("access", "list", "admin"),
        ("users", "add", "eve", "--role", "admin"),
        ("users", "token", "ana"),
        ("users", "remove", "ana"),
    ):
        said = call(*words, "--home", served.home)
        assert said.code == 1, words
        assert "takes the role admin" in said.err
    assert call("access", "list", "--home", served.home, "--json").value["grants"] == []


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("writer", ("ingest", "candles")),
        ("writer", ("train", "direction")),
        ("admin", ("train", "direction", "--promote")),
        ("writer", ("score", "btc")),
        ("writer", ("predict", "btc", "--key", "BTC")),
        ("writer", ("observe", "btc", "--id", "p", "--value", "1")),
        ("writer", ("features", "build")),
        ("writer", ("features", "backfill", "momentum")),
        ("writer", ("features", "select", "hourly")),
        ("admin", ("features", "vacuum")),
        ("admin", ("scores", "prune")),
        ("admin", ("models", "promote", "direction@1")),
        ("admin", ("deploy", "btc")),
        ("admin", ("rollback", "btc")),
        ("admin", ("monitor",)),
        ("admin", ("apply",)),
        ("admin", ("runs", "retry", "r")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_command_takes_the_role_that_a_request_takes(
    served: ServedProject,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    words: tuple[str, ...],
) -> None:
    (served.home / "project.py").write_text("import penstock as ps\nuser = ps.Entity('user')\n")
    below: Role = "reader" if role == "writer" else "writer"
    with open_services(served.home, actor="tester") as services:
        monkeypatch.setenv("PENSTOCK_TOKEN", add_user(services, "bob", below))
        entries = services.metadata.audit()
    said = call(*words, "--home", served.home)
    assert (said.code, said.out) == (1, "")
    assert f"'bob' is {below}, but this takes the role {role}." in said.err
    with open_services(served.home, actor="tester") as services:
        assert services.metadata.audit() == entries


def test_who_only_looks_may_look(
    served: ServedProject, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_services(served.home, actor="tester") as services:
        monkeypatch.setenv("PENSTOCK_TOKEN", add_user(services, "bob", "reader"))
    for words in (
        ("status",), ("plan",), ("models", "list"), ("runs", "list"),
        ("scores", "prune", "--dry-run"), ("features", "vacuum", "--dry-run"),
    ):  # fmt: skip
        said = call(*words, "--home", served.home)
        assert "takes the role" not in said.err, words


def test_a_writer_trains_and_an_admin_decides_what_answers(
    served: ServedProject, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_services(served.home, actor="tester") as services:
        monkeypatch.setenv("PENSTOCK_TOKEN", add_user(services, "bob", "writer"))
    said = call("train", "direction", "--home", served.home, "--json")
    assert said.code == 0, said.err
    assert said.value["aliases"]["champion"] == 0


def test_a_token_of_nobody_is_told(
    served: ServedProject, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_TOKEN", "elsewhere's")
    said = call("status", "--home", served.home)
    assert said.code == 1
    assert "or is in PENSTOCK_TOKEN, is nobody's in this project" in said.err
    assert call("init", "--home", served.home).code == 0
