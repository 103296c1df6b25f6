"""A feature service over two entities with request fields, added to a served project."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import penstock as ps
from penstock.features import refresh
from penstock.ingest import ingest_files
from penstock.plan import Catalogue, apply

from .served_project import START

if TYPE_CHECKING:
    from penstock.ports import Services

__all__ = ["SHOPS", "add_composed"]

SHOPS = (1, 2, 3)
ROWS = 200
HOUR_US = 3_600_000_000


def add_composed(services: Services) -> ps.FeatureService:
    """Declare the service ``composed``, fill the views it reads, and return it.

    It is about ``symbol`` and ``shop``, whose keys are whole numbers, and takes the request fields
    ``amount``, ``pieces``, ``card`` and ``member``, one of each type; ``asked``, declared beside
    it, takes ``amount`` and no key.

    Args:
        services: Of a project that ``make_served_project`` made.
    """
    catalogue = Catalogue.load(services.metadata)
    (momentum,) = catalogue.all(ps.FeatureView)
    sales = ps.Source(
        "sales",
        entity=ps.Entity("shop", dtype=ps.Int64),
        timestamp="ts",
        schema={"shop": ps.Int64, "ts": ps.Timestamp, "price": ps.Float64},
    )
    trade = ps.FeatureView(
        "trade", source=sales, features=[ps.mean("price", over="2d"), ps.count(over="1d")]
    )
    ratios = ps.OnDemandView(
        "ratios",
        views=[momentum, trade],
        request={
            "amount": ps.Float64,
            "pieces": ps.Int64,
            "card": ps.String,
            "member": ps.Boolean,
        },
        features={
            "usual": ps.col("amount") / ps.col("momentum.max_close_2d"),
            "local": ps.col("amount") * ps.col("pieces") / ps.col("trade.mean_price_2d"),
            "debit": ps.col("card").eq("debit") & ps.col("member"),
            "busy": ps.col("trade.count_1d") + ps.col("momentum.count_1d") > ps.col("pieces"),
        },
    )
    alone = ps.OnDemandView(
        "alone", request={"amount": ps.Float64}, features={"root": (ps.col("amount") - 9).sqrt()}
    )
    composed = ps.FeatureService("composed", features=[ratios, momentum["count_1d"], trade])
    asked = ps.FeatureService("asked", features=[alone])
    deployments = catalogue.all(ps.Deployment)
    project = ps.Project("served", declarations=[*deployments, composed, asked])
    apply(services.metadata, project, actor="tester", now=services.clock.now())
    _ingest(services, sales)
    refresh(services.tables, services.online, services.leases, trade)
    return composed


def _ingest(services: Services, source: ps.Source) -> None:
    """Sales at whole hours of ten days, several of them at the same time."""
    rng = np.random.default_rng(11)
    hours = pl.Series(rng.integers(0, 240, ROWS) * HOUR_US).cast(pl.Duration("us"))
    frame = pl.DataFrame(
        {
            "shop": rng.choice(SHOPS, ROWS),
            "ts": pl.Series([START] * ROWS, dtype=pl.Datetime("us", "UTC")) + hours,
            "price": rng.lognormal(2, 0.5, ROWS),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sales.parquet"
        frame.write_parquet(path)
        ingest_files(services, source, paths=[path])
