from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import polars as pl
import pytest

from penstock.cli.demo.home import MARKER, prepare_home
from penstock.cli.demo.market import SPANS, Market, read_market, simulated_market, write_files
from penstock.cli.demo.simulator import simulate
from penstock.cli.demo.world import Asked, auc
from penstock.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def market() -> Market:
    return simulated_market()


def test_the_last_part_is_held_back(market: Market) -> None:
    newest = max(frame["Date"].max() for frame in market.history.values())  # type: ignore[type-var]

    assert newest < market.live["ts"].min()  # type: ignore[operator]
    assert market.live["ts"].n_unique() == SPANS.total
    assert market.live["ts"].is_sorted()


def test_what_came_true_is_the_next_close(market: Market) -> None:
    one = market.live.filter(pl.col("symbol") == market.symbols[0])
    later = one["close"].shift(-1)

    assert (one["up"] == (later > one["close"])).drop_nulls().all()
    assert one["up"].null_count() == 1


def test_files_read_back_as_they_were(market: Market, tmp_path: Path) -> None:
    bad = write_files(market, tmp_path)

    (late,) = tmp_path.glob("*.late.csv.gz")
    assert len(gzip.decompress(late.read_bytes()).splitlines()) == (
        1 + bad.quarantined + bad.duplicates
    )
    late.unlink()
    again = {path.name.split(".")[0]: pl.read_csv(path) for path in tmp_path.glob("*.gz")}
    assert sorted(again) == market.symbols
    for symbol, frame in again.items():
        assert frame["Close"].to_list() == market.history[symbol]["Close"].to_list()


def test_files_of_ones_own_are_parted_likewise(tmp_path: Path) -> None:
    frames = simulate(hours=SPANS.total + 2_400, change_at=0)
    for symbol in ("AURA", "DUNE"):
        text = frames[symbol].with_columns(pl.col("Date").dt.strftime("%Y-%m-%d %H:%M:%S+00:00"))
        (tmp_path / f"{symbol}.csv.gz").write_bytes(gzip.compress(text.write_csv().encode()))

    found = read_market(tmp_path)

    assert found.symbols == ["AURA", "DUNE"]
    assert found.history["DUNE"].height == 2_400
    assert not found.simulated


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no file like SYMBOL.csv.gz"),
        ("Date,Open,High,Low,Closed,Volume\n", "Did you mean 'Closed'?"),
        ("Date,Open,High,Low,Close,Volume\n2024-01-01 00:00:00+00:00,1,1,1,1,1\n", "at least"),
    ],
    ids=["no file", "another column", "too little"],
)
def test_unfit_folders_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "BTC.csv.gz").write_bytes(gzip.compress(text.encode()))

    with pytest.raises(InputError) as caught:
        read_market(tmp_path)

    assert said in str(caught.value)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")

    with pytest.raises(InputError, match="nothing was touched"):
        prepare_home(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_former_demonstration_is_cleared(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "notes.txt").write_text("mine")

    prepare_home(tmp_path)

    assert not (tmp_path / "data").exists()
    assert {"notes.txt", "project.py", "penstock.toml", MARKER} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_auc_is_the_share_of_pairs_in_order() -> None:
    def asked(prediction: float, came_true: int | None) -> Asked:
        return Asked(
            prediction_id="p",
            prediction=prediction,
            version="m@1",
            came_true=came_true,
            took_ms=1.0,
        )

    told = [asked(0.9, 1), asked(0.4, 1), asked(0.5, 0), asked(0.4, 0), asked(0.1, None)]

    assert auc(told) == pytest.approx((2 + 0.5) / 4)
    assert auc(told[:2]) is None
