from __future__ import annotations

import numpy as np
import pytest

from penstock.cli.demo.simulator import BROKEN, CALM, SYMBOLS, simulate

HOURS, CHANGE = 8_000, 4_000


@pytest.fixture(scope="module")
def returns() -> dict[str, np.ndarray]:
    frames = simulate(hours=HOURS, change_at=CHANGE)
    return {
        symbol: np.log(frame["Close"].to_numpy() / frame["Open"].to_numpy())
        for symbol, frame in frames.items()
    }


def test_the_same_seed_makes_the_same_candles() -> None:
    first, again = (simulate(hours=50, change_at=25) for _ in range(2))

    assert all(first[symbol].equals(again[symbol]) for symbol in SYMBOLS)
    assert not first["AURA"].equals(simulate(hours=50, change_at=25, seed=1)["AURA"])


def test_what_comes_later_does_not_change_what_was() -> None:
    late, early = (simulate(hours=100, change_at=hour)["DUNE"] for hour in (90, 50))

    assert late.head(50).equals(early.head(50))
    assert not late.slice(50, 40).equals(early.slice(50, 40))


def test_candles_are_whole() -> None:
    for frame in simulate(hours=500, change_at=250).values():
        low, high = frame["Low"].to_numpy(), frame["High"].to_numpy()
        for name in ("Open", "Close"):
            assert (low <= frame[name].to_numpy()).all()
            assert (frame[name].to_numpy() <= high).all()
        assert (low > 0).all()
        assert (frame["Volume"].to_numpy() > 0).all()
        assert (frame["Date"].diff().drop_nulls().dt.total_hours() == 1).all()


def test_an_hour_takes_back_before_the_change_and_goes_on_after(
    returns: dict[str, np.ndarray],
) -> None:
    for values in returns.values():
        calm = np.corrcoef(values[1:CHANGE], values[: CHANGE - 1])[0, 1]
        broken = np.corrcoef(values[CHANGE + 1 :], values[CHANGE:-1])[0, 1]

        assert calm == pytest.approx(CALM.persistence, abs=0.07)
        assert broken == pytest.approx(BROKEN.persistence, abs=0.07)


def test_volatility_grows_with_the_change(returns: dict[str, np.ndarray]) -> None:
    ratios = [values[CHANGE:].std() / values[:CHANGE].std() for values in returns.values()]

    assert np.mean(ratios) == pytest.approx(BROKEN.volatility / CALM.volatility, rel=0.15)
