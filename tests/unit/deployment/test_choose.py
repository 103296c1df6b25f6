"""The engine chosen is the fastest of those that were proved, and everything found is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from penstock.deployment import SplitEngine, load_engine, sample_rows, time_engines
from penstock.deployment.choose import choose_engine
from penstock.deployment.loading import ENGINE_FILES
from penstock.deployment.verify import FORMATS
from penstock.records import EngineChoice, EngineTrial
from penstock.registry import (
    NATIVE_FILES,
    SAMPLE_FILE,
    CustomModel,
    CustomPlace,
    as_native,
    file_sha256,
    save_native,
    write_manifest,
)
from penstock.testing.custom_models import write_custom_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from penstock.deployment.choose import Choice
    from penstock.records import EngineName, Manifest

    MakeManifest = Callable[..., Manifest]
    Floats = NDArray[np.float64]

ROWS, WIDTH = 300, 6


def packaged(
    manifest: MakeManifest,
    folder: Path,
    estimator: Any,  # noqa: ANN401 - a library without types
    *,
    offset: float = 0.0,
) -> Manifest:
    """The package of an estimator that is fitted here."""
    x = np.random.default_rng(2).normal(size=(ROWS, WIDTH)) * 100 + offset
    estimator.fit(x, (x[:, 0] > offset).astype(int))
    save_native(estimator, folder / NATIVE_FILES["skops"], "skops")
    made = manifest(estimator=f"{type(estimator).__module__}:{type(estimator).__name__}")
    predicted = as_native(estimator, classifies=True).predict(x)
    frame = pl.DataFrame(dict(zip(made.features, x.T, strict=True)))
    frame.with_columns(up=x[:, 0] > offset, prediction=predicted).write_parquet(
        folder / SAMPLE_FILE
    )
    names = (NATIVE_FILES["skops"], SAMPLE_FILE)
    made = msgspec.structs.replace(made, files={one: file_sha256(folder / one) for one in names})
    write_manifest(folder, made)
    return made


def stored(folder: Path, manifest: Manifest, made: Choice) -> Manifest:
    """The manifest with what was chosen, its files beside it."""
    for name, content in made.files.items():
        (folder / name).write_bytes(content)
    files = {name: file_sha256(folder / name) for name in [*manifest.files, *made.files]}
    return msgspec.structs.replace(manifest, files=files, engine=made.choice)


def test_every_engine_is_tried_timed_and_kept(manifest: MakeManifest, tmp_path: Path) -> None:
    found = packaged(manifest, tmp_path, HistGradientBoostingClassifier(max_iter=20))

    made = choose_engine(tmp_path, found)

    tried = made.choice.tried
    names = [(one.engine, one.dtype) for one in tried]
    assert names[0] == ("native", "float64")
    assert set(names[1:]) == {("onnx", "float32"), ("onnx", "float64"), ("trees", "float64")}
    assert all(one.proved and one.one_us > 0 and one.batch_us > 0 for one in tried)
    fastest = min(tried, key=lambda one: one.one_us)
    assert (made.choice.engine, made.choice.dtype) == (fastest.engine, fastest.dtype)
    assert made.choice.engine != "native"
    assert made.choice.engine_us == fastest.one_us
    assert made.choice.native_us == tried[0].one_us
    assert made.choice.rows > ROWS
    found = stored(tmp_path, found, made)
    x, predicted = sample_rows(tmp_path, found)
    engine = load_engine(tmp_path, found)
    for rows in (1, 2, 64, ROWS):
        np.testing.assert_allclose(engine.predict(x[:rows]), predicted[:rows], atol=1e-6)


def test_what_float32_breaks_is_served_in_float64(manifest: MakeManifest, tmp_path: Path) -> None:
    found = packaged(manifest, tmp_path, HistGradientBoostingClassifier(max_iter=20), offset=1e12)

    made = choose_engine(tmp_path, found)

    trials = {(one.engine, one.dtype): one for one in made.choice.tried}
    refused = trials["onnx", "float32"]
    assert not refused.proved
    assert "real rows" in refused.reason
    assert (refused.one_us, refused.batch_us) == (0.0, 0.0)
    assert trials["onnx", "float64"].proved
    assert trials["trees", "float64"].proved
    assert made.choice.dtype == "float64"
    assert made.choice.engine != "native"


def test_a_model_made_to_differ_is_served_natively(
    manifest: MakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row in many is off, and not among the real ones."""
    found = packaged(manifest, tmp_path, RandomForestClassifier(9, random_state=1))

    def spoil(kind: str) -> None:
        module = {"OnnxEngine": "engine", "TreesEngine": "compiled"}[kind]
        path = f"penstock.deployment.{module}.{kind}.predict"
        owner = __import__(f"penstock.deployment.{module}", fromlist=[kind])
        right = getattr(owner, kind).predict

        def predict(self: object, x: Floats) -> Floats:
            answers: Floats = right(self, x)
            return np.where(x[:, 0] > 1e5, answers + 0.01, answers)

        monkeypatch.setattr(path, predict)

    for kind in ("OnnxEngine", "TreesEngine"):
        spoil(kind)

    made = choose_engine(tmp_path, found)

    assert made.choice.engine == "native"
    assert made.choice.batch_engine == ""
    assert [*made.files] == ["sample.npz"]
    assert [one.proved for one in made.choice.tried] == [True, False, False, False]
    assert "the compiled forest in float64 is not equal" in made.choice.reason
    assert "0 of them real rows" in made.choice.reason


def test_an_engine_that_fails_where_the_model_does_not_is_refused(
    manifest: MakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = packaged(manifest, tmp_path, LogisticRegression())

    def fail(_self: object, _x: Floats) -> Floats:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("penstock.deployment.engine.OnnxEngine.predict", fail)

    made = choose_engine(tmp_path, found)

    assert made.choice.engine == "native"
    assert "ONNX in float64 fails: RuntimeError: no such kernel" in made.choice.reason


def test_the_fastest_at_64_rows_serves_beside_the_fastest_at_one(
    manifest: MakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = packaged(manifest, tmp_path, HistGradientBoostingClassifier(max_iter=5))
    times: dict[EngineName, tuple[float, float]] = {
        "native": (500.0, 900.0), "onnx": (5.0, 320.0), "trees": (10.0, 40.0),
    }  # fmt: skip

    def told(engines: list[object], _x: Floats, rows: int) -> list[float]:
        return [times[getattr(one, "name")][rows > 1] for one in engines]  # noqa: B009 - of any kind

    monkeypatch.setattr("penstock.deployment.choose.time_engines", told)

    made = choose_engine(tmp_path, found)

    assert (made.choice.engine, made.choice.batch_engine) == ("onnx", "trees")
    # 5 us at one row against 10, growing by 5 us a row against 0.5.
    assert made.choice.batch_from == 3
    assert set(made.files) == {"model.onnx", "trees.npz", "sample.npz"}
    engine = load_engine(tmp_path, stored(tmp_path, found, made))
    assert isinstance(engine, SplitEngine)
    assert [engine.name_of(rows) for rows in (1, 2, 3, 64)] == ["onnx", "onnx", "trees", "trees"]
    assert [part.name for part in engine.parts] == ["onnx", "trees"]


def test_a_small_gain_at_64_rows_is_not_worth_a_second_engine(
    manifest: MakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = packaged(manifest, tmp_path, LogisticRegression())
    monkeypatch.setattr(
        "penstock.deployment.choose.time_engines",
        lambda engines, _x, rows: [50.0 if rows > 1 else 9.0, 55.0 if rows > 1 else 5.0][
            : len(engines)
        ],
    )

    made = choose_engine(tmp_path, found)

    assert (made.choice.engine, made.choice.batch_engine) == ("onnx", "")


def test_what_was_chosen_before_engines_were_kept_is_read() -> None:
    old = (
        b'{"engine":"onnx","dtype":"float32","reason":"equal","rows":9,"max_difference":0.0,'
        b'"native_us":50.0,"engine_us":5.0}'
    )

    choice = msgspec.json.decode(old, type=EngineChoice)

    assert (choice.engine, choice.batch_engine, choice.tried) == ("onnx", "", ())
    assert msgspec.json.decode(msgspec.json.encode(choice), type=EngineChoice) == choice
    trial = EngineTrial(engine="trees", dtype="float64", proved=True, reason="equal", one_us=3.0)
    kept = msgspec.structs.replace(choice, tried=(trial,), batch_engine="trees", batch_from=4)
    assert msgspec.json.decode(msgspec.json.encode(kept), type=EngineChoice) == kept


def test_times_are_of_each_engine_and_of_other_rows_each_call() -> None:
    class Slow:
        def __init__(self, turns: int) -> None:
            self.turns = turns
            self.seen: set[float] = set()

        def predict(self, x: Floats) -> Floats:
            self.seen.add(float(x[0, 0]))
            for _ in range(self.turns):
                np.sort(x.ravel())
            return x[:, 0]

    engines = [Slow(400), Slow(1)]
    slow, quick = time_engines(engines, np.arange(30.0).reshape(10, 3), 1)

    assert slow > 3 * quick
    assert len(engines[1].seen) == 10


@pytest.mark.slow
def test_a_custom_model_is_served_by_its_own_process(
    manifest: MakeManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_custom_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    x = np.random.default_rng(2).normal(size=(ROWS, WIDTH))
    x[:, -1] = 0.0
    learner = CustomModel(CustomPlace(path="slopes:Slope"))
    learner.make({}, 1)
    save_native(learner.fit(x, (x[:, 0] > 0).astype(int)), tmp_path / "model.custom", "custom")
    made = manifest(estimator="slopes:Slope", native="custom")
    frame = pl.DataFrame(dict(zip(made.features, x.T, strict=True)))
    frame.with_columns(prediction=learner.predict(x)).write_parquet(tmp_path / SAMPLE_FILE)
    learner.close()
    files = {one: file_sha256(tmp_path / one) for one in ("model.custom", SAMPLE_FILE)}
    made = msgspec.structs.replace(made, files=files)

    found = choose_engine(tmp_path, made)

    assert (found.choice.engine, [*found.files]) == ("native", ["sample.npz"])
    assert found.choice.reason == "a class of the project, in a process of its own"
    assert found.choice.native_us > 0
    engine = load_engine(tmp_path, stored(tmp_path, made, found))
    rows, predicted = sample_rows(tmp_path, made)
    np.testing.assert_allclose(engine.predict(rows), predicted)


def test_every_file_of_a_package_is_in_a_format_that_deploying_takes() -> None:
    names = [*NATIVE_FILES.values(), *ENGINE_FILES.values(), SAMPLE_FILE]

    assert {Path(name).suffix for name in names} <= FORMATS
    assert ".pkl" not in FORMATS
