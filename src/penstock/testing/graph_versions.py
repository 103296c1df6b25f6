"""Versions of graphs for a project that is served, without the pipeline that trains them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

import penstock as ps
from penstock.algebra import reference_bins
from penstock.datasets import build, load
from penstock.deployment import package
from penstock.plan import Catalogue, apply
from penstock.registry import NATIVE_FILES, Registration, nominate, register
from penstock.spec import declarations_in, key_of
from penstock.training import graph_job, put_together

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import ModelVersion
    from penstock.spec import Declaration, Graph

__all__ = ["declare_more", "make_graph_version"]


def declare_more(services: Services, *declarations: Declaration) -> None:
    """Apply declarations beside those that are applied already, or in their place."""
    wanted = declarations_in(declarations)
    again = {key_of(value) for value in wanted}
    known = Catalogue.load(services.metadata).declarations
    kept = tuple(value for key, value in known.items() if key not in again)
    project = ps.Project("served", declarations=(*kept, *wanted))
    apply(services.metadata, project, actor="tester", now=services.clock.now())


def make_graph_version(services: Services, graph: Graph, *, run_id: str) -> ModelVersion:
    """Register and package a version of a graph that is applied.

    Args:
        services: The ports; the versions that its steps mean are packaged.
        graph: The graph.
        run_id: Of its training run, each time another.
    """
    snapshot = build(services, graph.dataset)
    job = graph_job(services, graph, snapshot)
    names = list(snapshot.feature_names)
    model = put_together(job, names)
    test = load(services, snapshot, "test")
    label = graph.dataset.label.name if graph.dataset.label else ""
    rows = test.select(pl.col(*names, label).cast(pl.Float64))
    predicted = model.predict(rows.select(names).fill_null(float("nan")).to_numpy())
    train = load(services, snapshot, "train")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NATIVE_FILES["graph"]
        model.save(path)
        made = Registration(
            candidate="graph",
            estimator=graph.trainers[0].estimator,
            prepare="none",
            params=dict(job.pins),
            native="graph",
            model_file=path,
            metrics={"test.roc_auc": 0.5},
            sample=rows.with_columns(pl.Series("prediction", predicted)),
            selected=True,
            ready=True,
        )
        bins = {
            name: reference_bins(train[name].cast(pl.Float64).fill_null(float("nan")).to_numpy())
            for name in names
        }
        (version,) = register(services, graph, snapshot, [made], run_id=run_id, bins=bins)
    packaged = package(services, version)
    nominate(services, packaged)
    return packaged
