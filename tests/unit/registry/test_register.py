"""Registration keeps every candidate of a run, once, with a package that explains it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.errors import InputError, NotFoundError, NotReadyError, StateError
from penstock.ports import EVENTS_TOPIC
from penstock.records import ColumnBins, Event
from penstock.registry import (
    aliases,
    get_version,
    load_native,
    read_manifest,
    read_sample,
    register,
    versions,
    views_of,
)
from penstock.spec import fingerprint

if TYPE_CHECKING:
    from penstock.records import DatasetSnapshot, ModelVersion
    from penstock.runtime import LocalServices
    from penstock.spec import Model

    from .conftest import Candidate

BINS = {"recent.last_close": ColumnBins(edges=(1.0,), counts=(2, 2, 0))}


def register_run(
    services: LocalServices,
    model: Model,
    snapshot: DatasetSnapshot,
    candidate: Candidate,
    run_id: str = "run-1",
    **ready: bool,
) -> list[ModelVersion]:
    made = [candidate(name, ready=is_ready) for name, is_ready in ready.items()]
    return register(services, model, snapshot, made, run_id=run_id, bins=BINS)


def events(services: LocalServices) -> list[Event]:
    entries = services.log.read(EVENTS_TOPIC, after=0, limit=100)
    return [msgspec.json.decode(entry.payload, type=Event) for entry in entries]


def test_each_candidate_becomes_a_version(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    found = register_run(services, model, snapshot, candidate, first=False, second=True)
    assert [(one.label, one.candidate, one.ready) for one in found] == [
        ("btc@1", "first", False),
        ("btc@2", "second", True),
    ]
    assert versions(services.metadata, "btc") == found
    assert get_version(services.metadata, "btc", 2) == found[1]
    assert aliases(services.metadata, "btc").revision == 0  # nothing proves yet what would serve it
    assert [(event.kind, event.event_id) for event in events(services)] == [
        ("model.trained", "model.trained:run-1"),
        ("model.ready", "model.ready:btc@2"),
    ]
    (entry,) = services.metadata.audit()
    assert (entry.actor, entry.action, entry.subject) == ("tester", "register", "model/btc")
    assert entry.difference == {"run_id": "run-1", "versions": [1, 2]}


def test_the_same_run_is_registered_once(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    first = register_run(services, model, snapshot, candidate, a=True)
    again = register_run(services, model, snapshot, candidate, a=True)
    assert again == first
    assert len(services.metadata.audit()) == 1
    assert len(events(services)) == 2
    other = register_run(services, model, snapshot, candidate, run_id="run-2", a=False)
    assert [one.version for one in other] == [2]


def test_a_registration_that_died_before_its_events_announces_them(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    found = register_run(services, model, snapshot, candidate, a=True)
    with_lost_log = services.home / ".penstock" / "events.db"
    services.log.close()
    services.close()
    for path in with_lost_log.parent.glob("events.db*"):
        path.unlink()
    assert register_run(services, model, snapshot, candidate, a=True) == found
    assert len(events(services)) == 2


def test_the_package_explains_the_version(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    (found,) = register_run(services, model, snapshot, candidate, a=True)
    folder = services.artifacts.path(found.package)
    manifest = read_manifest(folder)
    assert (manifest.model, manifest.version, manifest.dataset_id) == ("btc", 1, "d1")
    assert manifest.features == ("recent.last_close", "recent.count")
    assert manifest.dtypes == {"recent.last_close": "float64", "recent.count": "int64"}
    assert (manifest.entity, manifest.entity_dtype, manifest.label) == ("symbol", "string", "up")
    assert manifest.views == {"recent": fingerprint(model.dataset.views[0])}
    assert set(manifest.definitions) == {
        "entity/symbol", "source/prices", "feature_view/recent", "dataset/direction", "model/btc"
    }  # fmt: skip
    assert (manifest.owner, manifest.tags, manifest.bins) == ("ann", ("money",), BINS)
    assert {"python", "numpy", "scikit-learn", "penstock"} <= set(manifest.dependencies)
    assert set(manifest.files) == {"model.skops", "sample.parquet"}
    sample = read_sample(folder, manifest)
    x = sample.select(manifest.features).to_numpy()
    predicted = load_native(folder, manifest).predict(x)
    assert np.array_equal(predicted, sample["prediction"].to_numpy())
    assert not list(services.scratch.glob("package-*"))


def test_the_manifest_names_the_feature_service_and_its_id(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    listed = model.dataset.views
    service = ps.FeatureService("scoring", features=listed)
    model = msgspec.structs.replace(
        model, dataset=msgspec.structs.replace(model.dataset, features=service)
    )
    of_service = msgspec.structs.replace(
        snapshot, service=service.name, service_id=service.service_id
    )
    (found,) = register_run(services, model, of_service, candidate, a=True)
    manifest = read_manifest(services.artifacts.path(found.package))
    assert (manifest.service, manifest.service_id) == ("scoring", service.service_id)
    assert manifest.views == {"recent": fingerprint(listed[0])}
    assert "feature_service/scoring" in manifest.definitions
    assert views_of(manifest) == listed


def test_the_manifest_names_the_code_of_the_project(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(services.home), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (services.home / "project.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", "project.py")
    git("commit", "-q", "-m", "one")
    (services.home / "project.py").write_text("a = 2\n")
    (found,) = register_run(services, model, snapshot, candidate, a=True)
    manifest = read_manifest(services.artifacts.path(found.package))
    assert manifest.commit == git("rev-parse", "HEAD")
    assert "-a = 1\n+a = 2" in manifest.diff


def test_a_run_without_candidates_is_refused(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot
) -> None:
    with pytest.raises(InputError, match="no trained candidate"):
        register(services, model, snapshot, [], run_id="r", bins={})


def test_a_version_that_is_not_there_names_those_that_are(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    with pytest.raises(NotReadyError, match="penstock train btc"):
        get_version(services.metadata, "btc", 1)
    register_run(services, model, snapshot, candidate, a=True)
    with pytest.raises(NotFoundError, match="Did you mean 'btc@1'"):
        get_version(services.metadata, "btc", 7)


def test_an_altered_file_is_not_read(
    services: LocalServices, model: Model, snapshot: DatasetSnapshot, candidate: Candidate
) -> None:
    (found,) = register_run(services, model, snapshot, candidate, a=True)
    folder = services.artifacts.path(found.package)
    manifest = read_manifest(folder)
    (folder / "sample.parquet").chmod(0o644)
    (folder / "sample.parquet").write_bytes(b"other")
    with pytest.raises(StateError, match="is not the file that btc@1 was registered with"):
        read_sample(folder, manifest)
    (folder / "model.skops").unlink()
    with pytest.raises(StateError, match=r"has no file 'model.skops'"):
        load_native(folder, manifest)
