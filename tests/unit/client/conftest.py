"""A client of each kind for the project of a module: from its folder, and from its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.client import Client
    from penstock.testing.served_project import ServedProject


@pytest.fixture(scope="module")
def folder(project: ServedProject) -> Iterator[Client]:
    with ps.connect(project.home) as client:
        yield client


@pytest.fixture(scope="module")
def remote(project: ServedProject) -> Iterator[Client]:
    with serving(project) as http, ps.connect(str(http.base_url), token=project.token) as client:
        yield client


@pytest.fixture(params=["folder", "remote"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each of them."""
    found: Client = request.getfixturevalue(request.param)
    return found
