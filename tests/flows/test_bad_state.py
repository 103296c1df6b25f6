"""State that was damaged or cannot be used: told by file, and whatever is whole goes on."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.deployment import deploy
from penstock.records import Batch
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Call = Callable[..., Said]
    Refused = Callable[..., str]

NOBODY = 65534


def _junk(path: Path) -> None:
    path.write_bytes(b"not what was here before\n" * 20)


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture
def state(served: ServedProject) -> Path:
    """The state folder of a project with a champion."""
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
    return served.home / ".penstock"


def _only(found: list[Path]) -> Path:
    assert found
    return found[0]


@pytest.mark.parametrize("damage", [_junk, _half, _empty])
def test_damaged_records_are_told_by_every_command(
    state: Path, refused: Refused, call: Call, damage: Callable[[Path], None]
) -> None:
    damage(state / "metadata.db")
    before = (state / "metadata.db").read_bytes()

    for line in ("status", "models list", "predict btc --key BTC", "init"):
        said = refused(*line.split(), "--home", state.parent)
        assert f"{state / 'metadata.db'}" in said
        assert "backup" in said
    assert call("doctor", "--home", state.parent).code == 1
    assert (state / "metadata.db").read_bytes() == before


@pytest.mark.parametrize("damage", [_junk, _half])
@pytest.mark.parametrize(
    ("name", "line", "remedy"),
    [
        ("events.db", "observe btc --id x --value 1", "restore the file from a backup"),
        ("workflows.db", "runs list", "may be moved away, which loses the history of the runs"),
        ("online/data.mdb", "features build", "it is built again from the tables"),
    ],
)
def test_a_damaged_database_says_what_is_lost(  # noqa: PLR0917 - fixtures and cases
    state: Path,
    refused: Refused,
    call: Call,
    damage: Callable[[Path], None],
    name: str,
    line: str,
    remedy: str,
) -> None:
    call("runs", "list", "--home", state.parent)  # makes the database of the runs
    damage(state / name)

    assert remedy in refused(*line.split(), "--home", state.parent)
    doctor = call("doctor", "--home", state.parent, "--json")
    assert doctor.code == 1
    failed = {one["check"] for one in doctor.value if one["state"] == "failed"}
    assert failed in ({"event log"}, {"runs"}, {"online features"})
    assert call("models", "list", "--home", state.parent).code == 0


def test_an_online_store_that_was_removed_is_built_again(state: Path, call: Call) -> None:
    home = ("--home", state.parent)
    get = ("features", "get", "momentum", "--keys", "BTC", "--json", *home)
    (before,) = call(*get).value
    shutil.rmtree(state / "online")

    told = call(*get)
    built = call("features", "build", *home)
    (after,) = call(*get).value

    assert told.code == 1
    assert "Run 'penstock features build momentum'" in told.err
    assert built.code == 0
    assert {k: v for k, v in after.items() if k != "as_of"} == {
        k: v for k, v in before.items() if k != "as_of"
    }


@pytest.mark.parametrize("damage", [_junk, _half, _empty])
@pytest.mark.parametrize("pattern", ["_delta_log/*.json", "*.parquet"])
def test_a_damaged_table_is_named(
    state: Path, refused: Refused, damage: Callable[[Path], None], pattern: str
) -> None:
    damage(_only(sorted((state / "tables" / "raw" / "candles").glob(pattern))))

    at = ("--at", "2026-01-05T00:00:00Z")
    said = refused("features", "get", "momentum", "--keys", "BTC", *at, "--home", state.parent)

    assert "The table 'raw/candles'" in said
    assert "Restore the folder from a backup; the rest of the project is not affected" in said


def test_a_table_that_is_gone_is_not_begun_anew(
    state: Path, refused: Refused, tmp_path: Path
) -> None:
    shutil.rmtree(state / "tables" / "raw")
    path = tmp_path / "more.csv"
    path.write_text("symbol,ts,open,close,volume\nBTC,2026-03-01T00:00:00Z,1,2,3\n")

    said = refused("ingest", "candles", "--file", path, "--home", state.parent)

    assert "lacks batch 'candles-1-" in said
    assert "Restore it from a backup; nothing was taken in." in said
    with open_services(state.parent) as services:
        assert len(services.metadata.find(Batch)) == 1
        assert services.tables.names("raw/") == []


@pytest.mark.parametrize("pattern", ["model.onnx", "manifest.json"])
@pytest.mark.parametrize("damage", [_junk, _half, os.unlink])
def test_a_damaged_package_answers_nobody(
    state: Path, refused: Refused, call: Call, pattern: str, damage: Callable[[Path], None]
) -> None:
    with open_services(state.parent) as services:
        champion = deploy(services, "btc", version=1)
    assert champion.engine == "onnx"
    for path in (state / "artifacts").rglob(pattern):
        damage(path)

    for line in ("predict btc --key BTC", "deploy btc --version 1"):
        said = refused(*line.split(), "--home", state.parent)
        assert "is damaged: its content has another hash. Restore it from a backup" in said
    assert call("doctor", "--home", state.parent).code == 1
    assert call("models", "show", "direction@1", "--home", state.parent).code == 0


@pytest.mark.parametrize("damage", [_junk, _empty, os.unlink])
def test_a_damaged_token_is_made_anew_by_init(
    state: Path, call: Call, damage: Callable[[Path], None]
) -> None:
    before = (state / "token").read_text()
    damage(state / "token")

    first = call("doctor", "--home", state.parent, "--json")
    made = call("init", "--home", state.parent)
    then = call("doctor", "--home", state.parent, "--json")

    (verdict,) = [one for one in first.value if one["check"] == "token"]
    assert verdict["state"] == "failed"
    assert "penstock init" in verdict["found"] + verdict["remedy"]
    assert made.code == 0
    assert [one["state"] for one in then.value if one["check"] == "token"] == ["ok"]
    assert (state / "token").read_text() != before
    assert (state / "token").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("metadata.db", "status"),
        ("workflows.db", "runs list"),
        ("tables", "features get momentum --keys BTC --at 2026-01-05T00:00:00Z"),
        ("online", "features build"),
        ("scores", "predict btc --key BTC"),
        ("locks", "rollback btc"),
        ("artifacts", "predict btc --key BTC"),
    ],
)
def test_a_part_of_another_kind_is_named(
    state: Path, refused: Refused, part: str, line: str
) -> None:
    path = state / part
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("a file")
    elif path.exists():
        path.unlink()
        path.mkdir()
    else:
        path.write_text("a file")

    refused(*line.split(), "--home", state.parent)


@contextmanager
def nobody() -> Generator[None]:
    """Become somebody without rights for a while; the modules in use have to be loaded before."""
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


@pytest.fixture
def foreign(served: ServedProject) -> Iterator[Path]:
    """A project folder that everybody may read and its owner alone may write to."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(served.home, folder / "home")
    for path in (folder, folder / "home", folder / "home" / ".penstock"):
        path.chmod(0o755)
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="takes root to become somebody else")
def test_a_folder_that_is_not_ours_to_write_is_told(
    foreign: Path, call: Call, refused: Refused
) -> None:
    lines = ("status", "init", "ingest", "features build")
    for line in lines:  # loads what they need
        call(*line.split(), "--home", foreign)

    for line in lines:
        with nobody():
            said = refused(*line.split(), "--home", foreign)
        assert said.startswith("error state ")
        assert "may write to" in said or "cannot be written to by 'nobody'" in said
