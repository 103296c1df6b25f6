"""A project folder, and the command line called as a user does, in this process."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from penstock.cli.application import application

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROJECT = """
import penstock as ps

symbol = ps.Entity("symbol")
candles = ps.Source(
    "candles", entity=symbol, timestamp="ts", known_after="1h",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "open": ps.Float64, "close": ps.Float64},
    expect=[ps.positive("close"), ps.unique("symbol", "ts")], batch=ps.Files("data/*.csv"))
momentum = ps.FeatureView(
    "momentum", source=candles, derive={"ret": ps.col("close") / ps.col("open") - 1},
    features=[ps.last("close"), ps.mean("ret", over="6h"), ps.count(over="1d")])
direction = ps.Dataset(
    "direction", spine=candles, features=[momentum], split=ps.TimeSplit(embargo="1h"),
    label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")))
model = ps.Model(
    "direction", dataset=direction, gates=[ps.at_least("roc_auc", 0.5)],
    candidates=[ps.sklearn("sklearn.linear_model:LogisticRegression")])
endpoint = ps.Deployment("btc", model=model)
watch = ps.Monitor(endpoint, drift=ps.psi(max=0.2), on_breach=[ps.notify("ops")])
"""


class Said(msgspec.Struct, frozen=True):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:  # noqa: ANN401 - whatever JSON the command answers
        return json.loads(self.out)


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """A function that runs a command line: ``call("models", "list", "--home", home)``."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words: object) -> Said:
        line = [str(word) for word in words]
        with pytest.raises(SystemExit) as stopped:
            application(line)(args=line, prog_name="penstock")
        said = capsys.readouterr()
        code = stopped.value.code
        return Said(code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.fixture
def refused(call: Callable[..., Said]) -> Callable[..., str]:
    """A function that runs a command line that must fail in one readable block; gives its text."""

    def run(*words: object, code: int = 1) -> str:
        said = call(*words)
        assert said.code == code, said
        assert said.out == ""
        # Where the machine is slow, how far it has come is told first.
        told = re.sub(r"^(\S+: +\d+% .*\n)+", "", said.err)
        assert told.startswith("error "), said.err
        assert "Traceback" not in said.err
        return " ".join(told.split())

    return run


@pytest.fixture(scope="session")
def project_text() -> str:
    """A whole project: source, view, dataset, model, deployment, monitor."""
    return PROJECT


@pytest.fixture
def home(tmp_path: Path, call: Callable[..., Said]) -> Path:
    """A project folder in which the project is applied and nothing was read."""
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    (folder / "project.py").write_text(PROJECT)
    (folder / "data").mkdir()
    assert call("apply", "--home", folder).code == 0
    return folder
