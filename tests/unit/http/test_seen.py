"""The features that a model saw are told by the names that its own version has for them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl
import pytest
from msgspec import to_builtins

from penstock.http.serve_predict_arrow import scores_as_arrow
from penstock.http.serve_schema import Schema
from penstock.records import Score
from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from penstock.records import Given

CHAMPION = manifest_of("v.a", "v.b", version=2, dtypes={"v.a": "int64", "v.b": "float64"})
OTHER = manifest_of("v.c", "v.a", version=3, dtypes={"v.c": "float64", "v.a": "int64"})
SEEN = {2: CHAMPION, 3: OTHER}


def _score(version: int, *features: float | None) -> Score:
    parts: dict[str, float | None] = {"step": 1.0}
    given: dict[str, Given] = {}
    return Score(
        prediction_id=f"p{version}",
        deployment="btc",
        model="direction",
        version=version,
        route="champion",
        engine="native",
        entity="k",
        at_us=1,
        features=features,
        prediction=0.5,
        scored_at_us=2,
        duration_us=1,
        given=given,
        parts=parts,
    )


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (_score(2, 1.0, 2.5), {"v.a": 1, "v.b": 2.5}),
        (_score(3, 0.5, 7.0), {"v.c": 0.5, "v.a": 7}),
        (_score(3, None, 7.0), {"v.c": None, "v.a": 7}),
        (_score(2), {}),  # it was not stored what it saw
        (_score(0, 1.0, 2.5), {"v.a": 1, "v.b": 2.5}),  # a constant, for features handed in
        (_score(1, 8.0, 9.0), {}),  # nobody has asked who may read those
    ],
)
def test_each_version_has_its_own_names(score: Score, told: dict[str, float]) -> None:
    schema = Schema(CHAMPION)
    found = to_builtins(schema.answer(score, seen=SEEN))
    assert found["features"] == told
    assert ("parts" in found) == (score.version != 1)
    plain = to_builtins(schema.answer(score))
    assert "features" not in plain
    assert "parts" not in plain


def test_columns_are_those_of_all_that_answered() -> None:
    scores = [_score(2, 1.0, 2.5), _score(3, 0.5, 7.0), _score(1, 8.0, 9.0)]
    frame = pl.read_ipc_stream(io.BytesIO(scores_as_arrow(CHAMPION, scores, seen=SEEN)))
    assert frame.select(pl.col("^features.*$")).to_dict(as_series=False) == {
        "features.v.a": [1, 7, None],
        "features.v.b": [2.5, None, None],
        "features.v.c": [None, 0.5, None],
    }
    assert frame.schema["features.v.a"] == pl.Int64
    alone = pl.read_ipc_stream(io.BytesIO(scores_as_arrow(CHAMPION, scores[:1], seen=SEEN)))
    assert "features.v.c" not in alone.columns
    untold = pl.read_ipc_stream(io.BytesIO(scores_as_arrow(CHAMPION, scores)))
    assert not [name for name in untold.columns if name.startswith("features")]
