from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.deployment import (
    Engine,
    check_engine,
    check_version,
    deploy,
    load_engine,
    package,
    rollback,
    sample_rows,
)
from penstock.errors import (
    ConflictError,
    GateError,
    NotFoundError,
    NotReadyError,
    StateError,
    UnavailableError,
)
from penstock.plan import Catalogue, apply
from penstock.ports import EVENTS_TOPIC, Delete, Put
from penstock.records import Aliases, ModelVersion, ServingStatus
from penstock.registry import aliases, get_version, load_native, read_manifest, views_of
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


def _unpackaged(services: LocalServices, served: ServedProject, number: int) -> ModelVersion:
    """A version as it is after training."""
    record = served.registered[number - 1]
    services.metadata.write(Put(record))
    return record


def _status(services: LocalServices, version: str, revision: int, error: str = "") -> ServingStatus:
    return ServingStatus(
        process_id=os.getpid(),
        address="http://127.0.0.1:1",
        versions={"btc/champion": version},
        revision={"direction": revision},
        errors={"btc/champion": error} if error else {},
        at=services.clock.now(),
    )


def test_packaging_proves_the_engine_and_is_done_once(
    services: LocalServices, served: ServedProject
) -> None:
    record = _unpackaged(services, served, 1)

    packaged = package(services, record)

    folder = services.artifacts.path(packaged.package)
    manifest = read_manifest(folder)
    assert packaged.engine == "onnx"
    assert manifest.engine is not None
    assert manifest.engine.dtype == "float64"
    assert packaged.engine_reason == manifest.engine.reason
    assert manifest.engine.rows > len(sample_rows(folder, manifest)[0])
    assert packaged.package != record.package
    assert package(services, packaged) == packaged
    assert get_version(services.metadata, "direction", 1) == packaged
    x, predicted = sample_rows(folder, manifest)
    np.testing.assert_allclose(load_engine(folder, manifest).predict(x), predicted, atol=1e-9)
    native = load_native(folder, manifest)
    np.testing.assert_allclose(native.predict(x), predicted, atol=1e-9)


@pytest.mark.slow
def test_a_worker_process_packages_alike(services: LocalServices, served: ServedProject) -> None:
    record = _unpackaged(services, served, 1)
    here = package(services, record)
    there = package(services, _unpackaged(services, served, 1), in_worker=True)

    assert (there.engine, there.engine_reason) == (here.engine, here.engine_reason)
    folders = [services.artifacts.path(one.package) for one in (here, there)]
    names, again = ([file.name for file in sorted(folder.iterdir())] for folder in folders)
    assert names == again
    chosen = read_manifest(folders[1]).engine
    assert chosen is not None
    x, predicted = sample_rows(folders[1], read_manifest(folders[1]))
    np.testing.assert_allclose(
        load_engine(folders[1], read_manifest(folders[1])).predict(x), predicted, atol=1e-9
    )


def test_packaging_what_changed_meanwhile_stores_nothing(
    services: LocalServices, served: ServedProject
) -> None:
    record = _unpackaged(services, served, 1)
    services.metadata.write(Put(msgspec.structs.replace(record, tracking_run="another")))

    with pytest.raises(ConflictError):
        package(services, record)

    assert not get_version(services.metadata, "direction", 1).engine


def test_a_version_without_a_package_says_what_to_do(services: LocalServices) -> None:
    record = get_version(services.metadata, "direction", 1)
    record = msgspec.structs.replace(record, engine="", package="")

    with pytest.raises(NotReadyError, match="penstock train direction"):
        package(services, record)


def test_deploying_packages_what_is_not(services: LocalServices, served: ServedProject) -> None:
    _unpackaged(services, served, 1)

    assert deploy(services, "btc", version=1).engine == "onnx"
    assert get_version(services.metadata, "direction", 1).engine == "onnx"


def test_deploying_takes_the_candidate_and_tells(services: LocalServices) -> None:
    before = services.log.end(EVENTS_TOPIC)

    done = deploy(services, "btc")

    assert (done.version, done.previous, done.changed, done.processes) == (2, 0, True, 0)
    assert done.engine in {"onnx", "trees"}
    assert aliases(services.metadata, "direction").champion == 2
    told = [entry.payload for entry in services.log.read(EVENTS_TOPIC, after=before, limit=9)]
    assert sum(b'"deployment.changed"' in one and b'"btc"' in one for one in told) == 1
    assert services.metadata.audit()[-1].action == "promote"


def test_deploying_again_changes_nothing(services: LocalServices) -> None:
    deploy(services, "btc")
    now = aliases(services.metadata, "direction")

    again = deploy(services, "btc")

    assert not again.changed
    assert aliases(services.metadata, "direction") == now


def test_rolling_back_and_forth(services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    deploy(services, "btc", version=2)

    back = rollback(services, "btc")
    assert (back.version, back.previous) == (1, 2)
    forth = rollback(services, "btc")
    assert (forth.version, forth.previous) == (2, 1)


def test_rolling_back_without_a_previous_version(services: LocalServices) -> None:
    deploy(services, "btc", version=1)

    with pytest.raises(NotReadyError, match="no previous champion"):
        rollback(services, "btc")


def test_names_that_do_not_exist(services: LocalServices) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'btc'"):
        deploy(services, "btcc")
    with pytest.raises(NotFoundError, match="direction@9"):
        deploy(services, "btc", version=9)


def test_nothing_to_deploy_says_what_to_do(services: LocalServices) -> None:
    services.metadata.write(Delete(aliases(services.metadata, "direction")))

    with pytest.raises(NotReadyError, match="penstock train direction"):
        deploy(services, "btc")


def test_a_version_that_a_gate_refused_is_not_deployed(services: LocalServices) -> None:
    record = get_version(services.metadata, "direction", 2)
    services.metadata.write(Put(msgspec.structs.replace(record, ready=False)))

    with pytest.raises(GateError, match="not the best candidate"):
        deploy(services, "btc", version=2)

    assert aliases(services.metadata, "direction").champion == 0


def test_a_view_that_changed_since_is_refused(services: LocalServices) -> None:
    catalogue = Catalogue.load(services.metadata)
    declared = catalogue.deployment("btc")
    old = declared.model.dataset.base_views[0]
    view = msgspec.structs.replace(old, features=(ps.mean("ret", over="12h"), *old.features[1:]))
    service = ps.FeatureService("scoring", features=[view])
    dataset = msgspec.structs.replace(declared.model.dataset, features=service)
    model = msgspec.structs.replace(declared.model, dataset=dataset)
    changed = [msgspec.structs.replace(d, model=model) for d in catalogue.all(ps.Deployment)]
    project = ps.Project("served", declarations=changed)
    apply(services.metadata, project, actor="tester", now=services.clock.now())

    with pytest.raises(ConflictError, match="'momentum' has changed") as caught:
        deploy(services, "btc")

    assert "feature 'momentum.last_close' is gone" in caught.value.message


def test_a_version_keeps_the_views_it_was_trained_on(
    services: LocalServices, served: ServedProject
) -> None:
    record = get_version(services.metadata, "direction", 1)
    manifest = read_manifest(services.artifacts.path(record.package))

    views = views_of(manifest)

    assert tuple(name for view in views for name in view.names) == served.features
    assert views == Catalogue.load(services.metadata).deployment("btc").model.dataset.views


def test_a_manifest_without_its_definitions_is_refused(services: LocalServices) -> None:
    record = get_version(services.metadata, "direction", 1)
    manifest = read_manifest(services.artifacts.path(record.package))

    with pytest.raises(StateError, match="no definition of 'feature_view/momentum'"):
        views_of(msgspec.structs.replace(manifest, definitions={}))


def test_an_altered_engine_is_not_loaded(services: LocalServices) -> None:
    packaged = get_version(services.metadata, "direction", 1)
    folder = services.artifacts.path(packaged.package)
    manifest = read_manifest(folder)
    path = folder / "model.onnx"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(StateError, match="not the file"):
        load_engine(folder, manifest)
    with pytest.raises(StateError):
        deploy(services, "btc", version=1)
    assert aliases(services.metadata, "direction").champion == 0


class _Shifted(Engine):
    """Predicts a little more than another."""

    name = "native"

    def __init__(self, inner: Engine, by: float) -> None:
        self._inner = inner
        self._by = by

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self._inner.predict(x) + self._by)


def test_an_engine_that_predicts_otherwise_is_refused(services: LocalServices) -> None:
    record = get_version(services.metadata, "direction", 1)
    folder = services.artifacts.path(record.package)
    manifest = read_manifest(folder)
    engine = load_engine(folder, manifest)

    check_engine(_Shifted(engine, 0.00005), folder, manifest)
    for by in (0.001, float("nan")):
        with pytest.raises(StateError, match="sample rows otherwise than when it was trained"):
            check_engine(_Shifted(engine, by), folder, manifest)


def test_a_package_of_another_version_is_refused(services: LocalServices) -> None:
    one = get_version(services.metadata, "direction", 1)
    two = get_version(services.metadata, "direction", 2)
    catalogue = Catalogue.load(services.metadata)
    model = catalogue.deployment("btc").model
    mixed = msgspec.structs.replace(two, package=one.package)

    with pytest.raises(StateError, match="holds direction@1"):
        check_version(services.artifacts, catalogue, model, mixed)


def test_deploying_waits_for_every_serving_process(services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    services.metadata.write(Put(_status(services, "direction@1", 1)))
    revision = aliases(services.metadata, "direction").revision + 1

    def follow() -> None:
        time.sleep(0.2)
        services.metadata.write(Put(_status(services, "direction@2", revision)))

    thread = threading.Thread(target=follow)
    thread.start()
    done = deploy(services, "btc", version=2, wait_s=10)
    thread.join()

    assert done.processes == 1


def test_a_serving_process_that_does_not_follow_is_named(services: LocalServices) -> None:
    services.metadata.write(Put(_status(services, "direction@1", 1)))

    with pytest.raises(UnavailableError, match=f"{os.getpid()} at http://127.0.0.1:1"):
        deploy(services, "btc", version=2, wait_s=0.1)


def test_a_serving_process_that_cannot_load_says_why(services: LocalServices) -> None:
    now: Aliases = aliases(services.metadata, "direction")
    failed = _status(services, "direction@1", now.revision + 1, error="The disk burnt.")
    services.metadata.write(Put(failed))

    with pytest.raises(StateError, match=r"The disk burnt\. It goes on answering with direction@1"):
        deploy(services, "btc", version=2, wait_s=5)


def test_a_dead_process_is_not_waited_for(services: LocalServices) -> None:
    gone = msgspec.structs.replace(_status(services, "direction@1", 1), process_id=2**22 + 1)
    services.metadata.write(Put(gone))

    assert deploy(services, "btc", version=2, wait_s=0.1).processes == 0


def test_packages_keep_the_native_model_when_the_proof_fails(
    services: LocalServices, served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.deployment.proof.TOLERANCE", 1e-18)
    record = _unpackaged(services, served, 1)

    packaged = package(services, record)

    assert packaged.engine == "native"
    assert "ONNX in float64 is not equal" in packaged.engine_reason
    folder = services.artifacts.path(packaged.package)
    manifest = read_manifest(folder)
    assert not (folder / "model.onnx").exists()
    assert load_engine(folder, manifest).name == "native"
