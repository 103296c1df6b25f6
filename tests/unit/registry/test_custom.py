"""Custom models live in processes of their own, and nothing that these do reaches ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from penstock.errors import (
    InputError,
    NotSupportedError,
    StateError,
    UnavailableError,
    UserCodeError,
)
from penstock.registry import CustomModel, CustomPlace, open_native, save_native
from penstock.testing.custom_models import write_custom_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Trained = Callable[..., CustomModel]

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(5)
X = np.column_stack([RNG.normal(size=(200, 2)), np.zeros(200)])
Y = (X[:, 0] + RNG.normal(size=200) / 4 > 0).astype(int)


def told(number: float, rows: int = 1) -> Floats:
    """Rows that tell the model what to do."""
    x = X[:rows].copy()
    x[:, -1] = number
    return x


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with the module."""
    folder = tmp_path / "project"
    folder.mkdir()
    write_custom_module(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def trained(project: Path, tmp_path: Path) -> Iterator[Trained]:
    """Trains, writes and opens a model."""
    opened: list[CustomModel] = []

    def make(**place: object) -> CustomModel:
        learner = CustomModel(CustomPlace(path="slopes:Slope", **place))  # type: ignore[arg-type]
        try:
            assert learner.make({"ridge": 0.5}, 7) == {"ridge": 0.5, "random_state": 7}
            learner.fit(X, Y)
            save_native(learner, tmp_path / "model.custom", "custom")
        finally:
            learner.close()
        model = open_native(tmp_path / "model.custom", "custom", classifies=True)
        assert isinstance(model, CustomModel)
        opened.append(model)
        return model

    assert project.is_dir()
    yield make
    for model in opened:
        model.close()


def test_a_custom_model_learns_and_answers_elsewhere(trained: Trained) -> None:
    model = trained()

    found = model.predict(X)

    assert found.shape == (200,)
    assert found.dtype == np.float64
    assert np.mean((found > 0.5) == Y) > 0.8
    assert model.predict(told(4))[0] == model.process_id != os.getpid()
    assert model.predict(told(6))[0] == 0.0  # Penstock is not loaded there
    assert "slopes" not in sys.modules  # nor is the class here
    assert model.predict(X[:0]).shape == (0,)
    many = np.tile(X, (50, 1))
    np.testing.assert_array_equal(model.predict(many), np.tile(found, 50))


def test_an_error_of_the_model_is_an_error_of_the_call(trained: Trained) -> None:
    model = trained()
    before = model.process_id

    with pytest.raises(UserCodeError, match="13 is not lucky") as raised:
        model.predict(told(13))
    with pytest.raises(UserCodeError, match=r"shape \(1, 2\) for 1 rows"):
        model.predict(told(2))

    assert "13" not in raised.value.plain
    assert "in predict" in str(raised.value.facts["traceback"])
    assert np.isfinite(model.predict(X)).all()
    assert model.process_id == before


def test_a_process_killed_between_calls_is_not_noticed(trained: Trained) -> None:
    model = trained()
    right = model.predict(X)
    before = psutil.Process(model.process_id)

    before.kill()
    psutil.wait_procs([before], timeout=10)

    np.testing.assert_array_equal(model.predict(X), right)
    assert model.process_id != before.pid


def test_a_process_killed_in_a_call_fails_it_alone(trained: Trained) -> None:
    model = trained()
    right = model.predict(X)

    with pytest.raises(UnavailableError, match="died: it was killed"):
        model.predict(told(9))

    np.testing.assert_array_equal(model.predict(X), right)


def test_a_process_that_keeps_dying_is_started_more_and_more_seldom(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained()
    right = model.predict(X)
    now_s = [time.monotonic()]
    monkeypatch.setattr("penstock.registry.custom.LONGEST_PAUSE_S", 1e9)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="died: it was killed"):
            model.predict(told(9))

    monkeypatch.setattr("penstock.registry.custom.time.monotonic", lambda: now_s[0])
    with pytest.raises(UnavailableError, match="has died 3 times in a row"):
        model.predict(X)
    assert model.process_id == 0
    now_s[0] += 1e6

    np.testing.assert_array_equal(model.predict(X), right)


def test_a_model_that_hangs_is_ended_in_time(trained: Trained) -> None:
    model = trained(timeout_s=0.5)
    hung = psutil.Process(model.process_id)
    start_s = time.monotonic()

    with pytest.raises(UnavailableError, match=r"did not answer within 0\.5 s"):
        model.predict(told(60))

    assert time.monotonic() - start_s < 5
    assert not hung.is_running()
    assert np.isfinite(model.predict(X)).all()


def test_a_stopped_process_is_ended_although_it_takes_nothing_in(trained: Trained) -> None:
    model = trained(timeout_s=0.5)
    psutil.Process(model.process_id).suspend()

    with pytest.raises(UnavailableError, match=r"did not answer within 0\.5 s"):
        model.predict(np.tile(X, (20, 10))[:, :3])

    assert np.isfinite(model.predict(X)).all()


def test_memory_is_bounded(trained: Trained) -> None:
    model = trained(memory_bytes=1_000_000_000)

    with pytest.raises(UserCodeError, match="MemoryError"):
        model.predict(told(8))

    assert np.isfinite(model.predict(X)).all()


def test_the_process_ends_with_the_model_and_with_this_process(
    trained: Trained, tmp_path: Path
) -> None:
    model = trained()
    process = psutil.Process(model.process_id)
    model.close()
    assert not process.is_running()

    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "import numpy as np; from penstock.registry import open_native\n"
        "model = open_native(Path(sys.argv[1]), 'custom', classifies=True)\n"
        "print(model.process_id, flush=True)\n"
        "model.predict(np.array([[1.0, 1.0, 60.0]]))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "model.custom"), str(tmp_path / "project")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, _ = psutil.wait_procs([child], timeout=20)
    assert gone == [child]


def test_a_model_runs_in_its_own_environment(trained: Trained, project: Path) -> None:
    own = project / "envs" / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(own)], check=True)
    site = next(own.glob("lib/python*/site-packages"))
    (site / "numpy.pth").write_text(str(Path(np.__file__).parents[1]), encoding="utf-8")

    model = trained(python="envs/own/bin/python")

    assert psutil.Process(model.process_id).cmdline()[0] == str(own / "bin" / "python")
    assert np.isfinite(model.predict(X)).all()


def test_a_class_that_changed_since_it_was_trained_is_not_loaded(
    trained: Trained, project: Path, tmp_path: Path
) -> None:
    trained()
    module = project / "slopes.py"
    module.write_text(module.read_text(encoding="utf-8") + "\n# better\n", encoding="utf-8")

    with pytest.raises(StateError, match="not what slopes:Slope was trained with"):
        open_native(tmp_path / "model.custom", "custom", classifies=True)

    module.unlink()
    with pytest.raises(NotSupportedError, match="put it into the project folder"):
        open_native(tmp_path / "model.custom", "custom", classifies=True)


def test_what_is_no_custom_model_is_refused(trained: Trained, tmp_path: Path) -> None:
    trained()
    (tmp_path / "junk").write_bytes(b"no model at all")
    with zipfile.ZipFile(tmp_path / "empty", "w"):
        pass

    for name in ("junk", "empty"):
        with pytest.raises(StateError, match="cannot be read as a custom model"):
            open_native(tmp_path / name, "custom", classifies=True)


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        (CustomPlace(path="slopes"), InputError, "no 'module:Class'"),
        (CustomPlace(path="nowhere:Slope"), NotSupportedError, "'nowhere'"),
        (CustomPlace(path="slopes:Slop"), UserCodeError, "has no attribute 'Slop'"),
        (CustomPlace(path="slopes:Slope", python="no/python"), NotSupportedError, "uv venv"),
    ],
)
def test_what_cannot_be_found_is_named(
    project: Path, place: CustomPlace, error: type[Exception], message: str
) -> None:
    assert project.is_dir()
    with pytest.raises(error, match=message):
        CustomModel(place)


def test_a_class_that_lacks_something_says_what(project: Path, tmp_path: Path) -> None:
    assert project.is_dir()
    bare = CustomModel(CustomPlace(path="slopes:Bare"))
    good = CustomModel(CustomPlace(path="slopes:Slope"))
    forgetful = CustomModel(CustomPlace(path="slopes:Forgetful"))
    try:
        assert len(bare.check({})) == 3
        assert good.check({"ridge": 1.0}) == []
        assert "unexpected keyword argument 'rigde'" in good.check({"rigde": 1.0})[0]
        forgetful.make({}, 1)
        with pytest.raises(UserCodeError, match="wrote no file"):
            forgetful.save(tmp_path / "file")
    finally:
        for model in (bare, good, forgetful):
            model.close()


def test_a_model_that_cannot_be_read_again_leaves_no_process(project: Path, tmp_path: Path) -> None:
    assert project.is_dir()
    learner = CustomModel(CustomPlace(path="slopes:Unloadable"))
    learner.make({}, 1)
    learner.fit(X, Y)
    learner.save(tmp_path / "file")
    learner.close()
    before = {child.pid for child in psutil.Process().children()}

    with pytest.raises(UnavailableError, match="died"):
        open_native(tmp_path / "file", "custom", classifies=True)

    assert {child.pid for child in psutil.Process().children()} <= before
