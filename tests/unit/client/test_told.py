"""What a client tells beside the features: by warnings, with the facts, from both places alike."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import penstock as ps
from penstock.errors import PenstockWarning, UnknownEntitiesWarning
from penstock.features import point_in_time

if TYPE_CHECKING:
    from penstock.client import Client
    from penstock.testing.served_project import ServedProject

AT = datetime(2026, 1, 5, tzinfo=UTC)
KNOWN = {"symbol": "BTC"}
NAMES = ["BTC", "nobody", "ETH", "no one", "nobody"]


def warned(caught: pytest.WarningsRecorder) -> PenstockWarning:
    """The one warning, which points at the line of the caller."""
    (one,) = caught.list
    assert one.filename == __file__
    assert isinstance(one.message, PenstockWarning)
    return one.message


def test_unknown_entities_of_a_spine_are_counted_and_no_row_is_dropped(folder: Client) -> None:
    spine = pl.DataFrame({"symbol": NAMES})
    with pytest.warns(UnknownEntitiesWarning) as caught:
        found = folder.features("scoring", spine, at=AT)
    assert found["symbol"].to_list() == NAMES
    assert found["momentum.count_1d"].to_list() == [24, 0, 24, 0, 0]
    assert found["momentum.last_close"].null_count() == 3
    note = warned(caught)
    assert note.message == (
        "3 of 5 rows are of entities that 'candles' has no records of by then ('no one', "
        "'nobody'): their features of view 'momentum' are those of an unknown entity."
    )
    assert note.facts == {
        "view": "momentum", "source": "candles", "rows": 3, "of_rows": 5, "entities": 2,
    }  # fmt: skip


def test_rows_without_a_key_are_counted_too(folder: Client) -> None:
    spine = pl.DataFrame({"symbol": ["BTC", None]})
    with pytest.warns(UnknownEntitiesWarning, match=r"^1 of 2 rows have no key: "):
        assert len(folder.features("scoring", spine, at=AT)) == 2


def test_known_entities_are_no_reason_to_warn(client: Client) -> None:
    client.online("scoring", KNOWN)
    client.online("scoring", [KNOWN, KNOWN])
    client.online("scoring", pl.DataFrame({"symbol": ["BTC", "ETH"]}))


@pytest.mark.parametrize(
    ("entities", "rows", "of_rows"),
    [
        ({"symbol": "nobody"}, 1, 1),
        ([{"symbol": name} for name in NAMES], 3, 5),
        (pl.DataFrame({"symbol": NAMES * 500}), 1_500, 2_500),
    ],
)
def test_rows_that_the_online_store_does_not_know_are_counted(
    client: Client,
    entities: Any,  # noqa: ANN401 - of each kind
    rows: int,
    of_rows: int,
) -> None:
    with pytest.warns(UnknownEntitiesWarning) as caught:
        found = client.online("scoring", entities)
    assert len(found) == (5 if of_rows == 1 else of_rows)
    note = warned(caught)
    assert note.facts == {"service": "scoring", "rows": rows, "of_rows": of_rows}
    assert note.message.startswith(f"{rows:,} of {of_rows:,} rows are of entities that the online ")


def test_the_warning_can_be_left_out_by_its_class(client: Client) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UnknownEntitiesWarning)
        assert client.online("scoring", {"symbol": "nobody"})["momentum.count_1d"] == 0


def test_features_of_the_past_are_computed_within_the_setting(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(*args: Any, memory_bytes: int = 1 << 30, **more: Any) -> pl.DataFrame:  # noqa: ANN401 - handed on
        seen.append(memory_bytes)
        return point_in_time(*args, memory_bytes=memory_bytes, **more)

    monkeypatch.setattr("penstock.client.folder.point_in_time", watched)
    monkeypatch.setenv("PENSTOCK_FEATURES_MEMORY_MB", "17")
    with ps.connect(served.home) as client:
        client.features("scoring", pl.DataFrame(KNOWN), at=AT)
    assert seen == [17 << 20]
