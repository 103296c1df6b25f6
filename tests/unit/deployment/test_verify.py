from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.deployment import sample_rows, verify
from penstock.deployment.probe import Question, probe
from penstock.plan import Catalogue
from penstock.registry import file_sha256, get_version, read_manifest, write_manifest
from penstock.runtime import open_services
from penstock.testing.lanes import Giving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from penstock.records import DeployCheck, Manifest
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    Verify = Callable[..., dict[str, DeployCheck]]

USERS = """
import os


def holds(predictions, features):
    assert set(features) == {names}, features
    print("said to nobody")
    return None


def small(predictions, features):
    return "too large" if predictions.max() > 0.5 else True


def refuses(predictions, features):
    return False


def breaks(predictions, features):
    raise KeyError("gone")


def odd(predictions, features):
    return 3.5


def crashes(predictions, features):
    os._exit(3)
"""


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


@pytest.fixture
def verified(services: LocalServices) -> Verify:
    """Verify version 1 of ``btc`` with other checks; what is found by name."""

    def verified(
        checks: ps.Checks | None = None, version: int = 1, *, package: Path | None = None
    ) -> dict[str, DeployCheck]:
        catalogue = Catalogue.load(services.metadata)
        declared = msgspec.structs.replace(catalogue.deployment("btc"), checks=checks)
        record = get_version(services.metadata, "direction", version)
        if package is not None:
            record = msgspec.structs.replace(record, package=services.artifacts.put(package))
        found = verify(services, catalogue, declared, record)
        return {one.name: one for one in found}

    return verified


@pytest.fixture
def altered(services: LocalServices, tmp_path: Path) -> Callable[..., Path]:
    """A copy of version 1's package with another manifest, or another file."""

    def altered(
        change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
        files: dict[str, bytes] | None = None,
    ) -> Path:
        record = get_version(services.metadata, "direction", 1)
        source = services.artifacts.path(record.package)
        folder = tmp_path / "altered"
        folder.mkdir()
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)
        write_manifest(folder, change(read_manifest(folder)))
        return folder

    return altered


def _broken(found: dict[str, DeployCheck]) -> dict[str, str]:
    return {name: one.reason for name, one in found.items() if not one.passed}


def test_a_sound_version_holds(verified: Verify) -> None:
    found = verified()

    assert _broken(found) == {}
    assert [one.kind for one in found.values()].count("package") == 5
    assert {"loads", "signature", "sample", "bounds", "nulls", "memory, MB"} <= set(found)
    one, many = (found[f"latency of {rows}, us"].value for rows in ("1 row", "64 rows"))
    assert one is not None
    assert many is not None
    assert 0 < one < 1e5
    memory = found["memory, MB"].value
    assert memory is not None
    assert 1 < memory < 2_000


def test_declared_bounds_are_compared(verified: Verify) -> None:
    far = ps.Checks(latency="5s", latency_64="5s", memory_mb=5_000.0, low=0.0, high=1.0)
    near = ps.Checks(latency="1us", latency_64="1us", memory_mb=0.1, high=0.41)

    assert _broken(verified(far)) == {}
    broken = _broken(verified(near))

    assert set(broken) == {"latency of 1 row, us", "latency of 64 rows, us", "memory, MB", "bounds"}
    assert "above 1" in broken["latency of 1 row, us"]
    assert re.search(r"\d+ of 108 outside of -0.0001 to 0.41", broken["bounds"])


@pytest.mark.parametrize(
    ("value", "holds"), [(-5e-5, True), (1.00005, True), (1.7, False), (np.nan, False)]
)
def test_a_probability_is_off_by_rounding_alone_whatever_is_declared(
    altered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, value: float, *, holds: bool
) -> None:
    engine = Giving(value)
    monkeypatch.setattr("penstock.deployment.probe.load_engine", lambda _folder, _manifest: engine)
    package = str(altered())
    for checks in (ps.Checks(), ps.Checks(low=-2.0, high=2.0)):
        question = Question(package=package, home="", checks=checks)
        found = {one.name: one for one in probe(question)}
        assert found["bounds"].passed is holds


def test_functions_of_the_user_are_asked_in_a_process_of_their_own(
    verified: Verify, served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = USERS.replace("{names}", repr(set(served.features)))
    (served.home / "mychecks.py").write_text(text)
    monkeypatch.syspath_prepend(str(served.home))
    import mychecks  # type: ignore[import-not-found]  # noqa: PLC0415 - written just now

    names = ("holds", "small", "refuses", "breaks", "odd")
    functions = [ps.function(getattr(mychecks, name)) for name in names]
    found = verified(ps.Checks(functions=functions))
    crashed = verified(ps.Checks(functions=[ps.function(mychecks.crashes)]))
    (served.home / "mychecks.py").write_text(text.replace("return False", "return True"))
    changed = verified(ps.Checks(functions=functions[2:3]))
    del sys.modules["mychecks"]

    assert found["holds"].passed
    assert found["holds"].kind == "user"
    assert _broken(found) == {
        "small": "too large",
        "refuses": "it returned False",
        "breaks": "it failed with KeyError: 'gone'",
        "odd": "it returned 3.5; expected None or True where all is well, False or a text where "
        "not",
    }
    assert list(_broken(crashed)) == ["loads"]
    assert "ended with 3" in crashed["loads"].reason
    assert "source changed" in changed["refuses"].reason


def test_files_that_are_not_what_they_were_are_not_loaded(
    verified: Verify, altered: Callable[..., Path]
) -> None:
    found = verified(package=altered(files={"model.onnx": b"x"}))

    assert list(_broken(found)) == ["files"]
    assert "loads" not in found


def test_a_file_in_a_format_that_may_hold_code_is_refused(
    verified: Verify, altered: Callable[..., Path]
) -> None:
    found = verified(package=altered(files={"model.pkl": b"x"}))

    assert _broken(found) == {"formats": "model.pkl is in no format of a package; it may hold code"}


def test_a_file_that_the_manifest_does_not_name_is_refused(
    verified: Verify, altered: Callable[..., Path]
) -> None:
    found = verified(package=altered(files={"more.parquet": b"x"}))

    assert _broken(found) == {"formats": "more.parquet is not in the manifest"}


def test_a_library_that_is_gone_is_named(verified: Verify, altered: Callable[..., Path]) -> None:
    def elsewhere(manifest: Manifest) -> Manifest:
        libraries = {**manifest.dependencies, "gone-library": "2"}
        return msgspec.structs.replace(manifest, dependencies=libraries)

    assert _broken(verified(package=altered(elsewhere))) == {
        "environment": "gone-library is not installed; run pip install gone-library"
    }


def test_another_version_of_a_library_is_told(
    verified: Verify, altered: Callable[..., Path]
) -> None:
    def older(manifest: Manifest) -> Manifest:
        libraries = {**manifest.dependencies, "numpy": "1.0"}
        return msgspec.structs.replace(manifest, dependencies=libraries)

    found = verified(package=altered(older))["environment"]

    assert found.passed
    assert "other than in training: numpy 1.0 -> " in found.reason


def test_a_package_of_another_version_does_not_hold(
    verified: Verify, altered: Callable[..., Path]
) -> None:
    found = verified(package=altered(lambda one: msgspec.structs.replace(one, version=7)))

    assert _broken(found) == {"manifest": "it is of direction@7; expected direction@1"}


@pytest.mark.parametrize("name", ["sample.npz", "sample.parquet"])
def test_a_sample_that_is_predicted_otherwise_does_not_hold(
    verified: Verify, altered: Callable[..., Path], name: str
) -> None:
    folder = altered()
    sample = pl.read_parquet(folder / "sample.parquet")
    manifest = read_manifest(folder)
    files = dict(manifest.files)
    if name == "sample.npz":
        x, predicted = sample_rows(folder, manifest)
        (folder / name).chmod(0o644)
        np.savez(folder / name, x=x, predicted=predicted + 0.01)
    else:  # a package without arrays
        (folder / "sample.npz").unlink()
        del files["sample.npz"]
        sample.with_columns(pl.col("prediction") + 0.01).write_parquet(folder / name)
    files[name] = file_sha256(folder / name)
    write_manifest(folder, msgspec.structs.replace(manifest, files=files))

    broken = _broken(verified(package=folder))

    assert list(broken) == ["sample"]
    assert "108 of 108 sample rows otherwise" in broken["sample"]
