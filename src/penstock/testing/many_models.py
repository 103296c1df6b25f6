"""A project of very many small models: one that was trained, registered under many names.

Every model has a declaration, a package on disk, a version and aliases of its own, in the real
stores; only the training is done once.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import penstock as ps
from penstock.plan import Catalogue, apply
from penstock.ports import Audit, Put
from penstock.records import Aliases
from penstock.registry import MANIFEST_FILE, get_version, read_manifest, write_manifest
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Services
    from penstock.spec import Declaration, Model
    from penstock.testing.served_project import ServedProject

__all__ = ["multiply"]

MODEL = "direction"
STORED_AT_ONCE = 16


def multiply(project: ServedProject, count: int, *, deadline: str = "") -> Sequence[str]:
    """Register the project's first version under so many further names, and deploy each.

    Args:
        project: The project.
        count: How many.
        deadline: How long each deployment may take, such as ``2s``; ten seconds when left out.

    Returns:
        The names; each is that of a model and of its deployment.
    """
    names = [f"tenant-{number:04d}" for number in range(1, count + 1)]
    with open_services(project.home, actor="tester") as services:
        known = Catalogue.load(services.metadata)
        like = known.model(MODEL)
        models = [_named(like, name) for name in names]
        falls = ps.Fallback(deadline=deadline) if deadline else None
        added = [ps.Deployment(one.name, model=one, fallback=falls) for one in models]
        declared: list[Declaration] = [*known.declarations.values(), *added]
        apply(
            services.metadata,
            ps.Project("served", declarations=declared),
            actor="tester",
            now=services.clock.now(),
        )
        _register(services, names)
    return names


def _named(like: Model, name: str) -> Model:
    return ps.Model(name, dataset=like.dataset, candidates=like.candidates)


def _register(services: Services, names: Sequence[str]) -> None:
    """A package, a version and aliases for each name."""
    version = get_version(services.metadata, MODEL, 1)
    folder = services.artifacts.path(version.package)
    manifest = read_manifest(folder)
    services.scratch.mkdir(parents=True, exist_ok=True)

    def store(name: str) -> str:
        """Keep a package that says that it is of a name; returns its reference."""
        with tempfile.TemporaryDirectory(dir=services.scratch) as scratch:
            copy = Path(scratch) / "package"
            shutil.copytree(folder, copy)
            (copy / MANIFEST_FILE).unlink()
            write_manifest(copy, msgspec.structs.replace(manifest, model=name))
            return services.artifacts.put(copy)

    now = services.clock.now()
    changes: list[Put] = []
    # Each waits for the disk some times, and they can wait together.
    with ThreadPoolExecutor(STORED_AT_ONCE) as threads:
        for name, package in zip(names, threads.map(store, names), strict=True):
            made = msgspec.structs.replace(version, model=name, package=package)
            changes += [
                Put(made, expected=None),
                Put(Aliases(model=name, changed_at=now, champion=1, candidate=1, revision=1)),
            ]
    audit = Audit(
        actor=services.actor, action="register", subject="models", difference={"names": len(names)}
    )
    services.metadata.write(*changes, audit=audit)
