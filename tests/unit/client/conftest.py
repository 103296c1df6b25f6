"""A client of each kind for the project of a module: from its folder, and from its server.

A module whose tests want another project has a fixture ``project`` of its own, which may ask for
this one and go on from there.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.client import Client
    from penstock.testing.served_project import ServedProject


@pytest.fixture(scope="module")
def project(
    served_template: ServedProject, tmp_path_factory: pytest.TempPathFactory
) -> ServedProject:
    """Read by all tests of a module; serving leaves its traces, so it is not the template."""
    home = tmp_path_factory.mktemp("client") / "home"
    shutil.copytree(served_template.home, home)
    return msgspec.structs.replace(served_template, home=home)


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
