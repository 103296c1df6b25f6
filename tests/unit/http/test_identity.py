from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from penstock.access import identify, require_role, token_hash
from penstock.errors import AccessError
from penstock.http import bearer_token
from penstock.ports import Put
from penstock.records import Identity
from penstock.runtime import init_project, open_services

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.records import Role


def person(role: Role, token: str = "t") -> Identity:  # noqa: S107 - no secret
    return Identity(
        name="ana",
        role=role,
        token_sha256=token_hash(token),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_token_says_who_calls(tmp_path: Path) -> None:
    token = init_project(tmp_path).read_text().strip()

    with open_services(tmp_path) as services:
        services.metadata.write(Put(person("reader", "hers")))

        assert identify(services.metadata, token).name == "admin"
        assert identify(services.metadata, "hers").role == "reader"
        with pytest.raises(AccessError, match="Nobody has that token"):
            identify(services.metadata, "guessed")


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "Bearer   ", "token"])
def test_what_is_no_bearer_token_is_refused(header: str) -> None:
    with pytest.raises(AccessError, match="Authorization: Bearer TOKEN"):
        bearer_token(header)


def test_the_scheme_may_be_written_in_any_case() -> None:
    assert bearer_token("bearer abc") == "abc"
    assert bearer_token("Bearer  abc ") == "abc"


@pytest.mark.parametrize(
    ("role", "needed", "enough"),
    [
        ("reader", "reader", True),
        ("reader", "writer", False),
        ("writer", "reader", True),
        ("writer", "admin", False),
        ("admin", "writer", True),
    ],
)
def test_roles_reach_downwards(role: Role, needed: Role, enough: object) -> None:
    if enough:
        require_role(person(role), needed)
        return
    with pytest.raises(AccessError) as caught:
        require_role(person(role), needed)
    assert caught.value.facts["needed"] == needed
