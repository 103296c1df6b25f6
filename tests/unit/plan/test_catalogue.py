from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import pytest

import penstock as ps
from penstock.errors import NotFoundError, NotReadyError
from penstock.plan import Catalogue, apply
from penstock.spec import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Metadata
    from penstock.spec import Project

    ProjectOf: TypeAlias = Callable[..., Project]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_was_applied_is_found_by_name(metadata: Metadata, project_of: ProjectOf) -> None:
    endpoint = project_of().everything[-1]
    assert isinstance(endpoint, ps.Deployment)
    monitor = ps.Monitor(deployment=endpoint, latency=ps.p99(max="20ms"))
    project = ps.Project("trading", declarations=[monitor])
    apply(metadata, project, actor="ann", now=NOW)
    catalogue = Catalogue.load(metadata)
    model = endpoint.model
    assert catalogue.source("candles") == model.dataset.spine
    assert catalogue.view("momentum") == model.dataset.views[0]
    assert catalogue.dataset("direction") == model.dataset
    assert catalogue.model("model") == model
    assert catalogue.deployment("btc") == endpoint
    assert catalogue.monitor("btc") == monitor
    assert catalogue.fingerprint(model) == fingerprint(model)
    assert catalogue.all(ps.Source) == (model.dataset.spine,)


def test_an_unknown_name_names_the_nearest(metadata: Metadata, project_of: ProjectOf) -> None:
    with pytest.raises(NotReadyError, match="penstock apply"):
        Catalogue.load(metadata).source("candles")
    apply(metadata, project_of(), actor="ann", now=NOW)
    with pytest.raises(
        NotFoundError, match=r"no feature view 'momentun'\. Did you mean 'momentum'"
    ):
        Catalogue.load(metadata).view("momentun")
