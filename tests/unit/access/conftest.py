"""A project that protects features, with somebody in it who is no admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.access import add_user, identify
from penstock.plan import apply
from penstock.runtime import init_project, open_services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.runtime import LocalServices


def declarations() -> list[ps.FeatureView | ps.OnDemandView | ps.Protection]:
    source = ps.Source(
        "pay",
        entity=ps.Entity("user"),
        timestamp="ts",
        schema={"user": ps.String, "ts": ps.Timestamp, "amount": ps.Float64},
    )
    payments = ps.FeatureView(
        "payments",
        source=source,
        features=[
            ps.last("amount", tags=["pii"]),
            ps.mean("amount", over="7d", tags=["pii", "financial"]),
            ps.count(over="1d"),
        ],
    )
    secret = ps.FeatureView("secret", source=source, features=[ps.count(over="2d")])
    share = ps.col("payments.last_amount") / ps.col("payments.count_1d")
    risk = ps.OnDemandView("risk", views=[payments], features={"share": share})
    personal = ps.Protection("personal", tagged=["pii", "financial"], views=[secret])
    return [payments, secret, risk, personal]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    """The administrator's."""
    init_project(tmp_path)
    with open_services(tmp_path, actor="tester", token="") as opened:
        project = ps.Project("shop", declarations=declarations())
        apply(opened.metadata, project, actor="tester", now=opened.clock.now())
        yield opened


@pytest.fixture
def ana(services: LocalServices) -> LocalServices:
    """The same ports for ana, who is a reader."""
    token = add_user(services, "ana", "reader")
    return services.acting(identify(services.metadata, token))
