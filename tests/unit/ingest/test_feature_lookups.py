"""Records completed with features of another source, over real stores: against an oracle."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.ingest.test_lookups import (
    HOUR_US,
    delete,
    found,
    lived_through,
    merchant,
    merchants,
    payment,
    payments,
    send,
    steps,
)

import penstock as ps
from penstock.errors import InputError
from penstock.ingest import Lookups, raw_records
from penstock.records import Batch, CapturedFeature, LookedUp

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import FeatureView, Source

Record = dict[str, object]

NAMES = count(1)
USUAL = settings().max_examples
thorough = settings(
    max_examples=25 if USUAL == 100 else max(USUAL // 10, 1),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
WINDOWED = [
    ps.mean("risk", over="2h", name="mean"),
    ps.count(over="90m", name="changes"),
    ps.sum("tenth", over="4h", hop="0s", name="sum"),
    ps.last_k("risk", 2, over="5h", name="last"),
]


def rated(source: Source | None = None, **changes: object) -> FeatureView:
    fields: dict[str, object] = {
        "source": source or merchants(),
        "derive": {"tenth": ps.col("risk") / 10},
        "features": WINDOWED,
    }
    return ps.FeatureView("rated", **(fields | changes))  # type: ignore[arg-type]  # built by name


def lookup(view: FeatureView, *names: str) -> ps.Lookup:
    return ps.Lookup(view, on="merchant", columns={f"their_{name}": name for name in names})


@thorough
@given(
    history=st.lists(steps, max_size=12),
    known_after=st.tuples(st.sampled_from(["", "1h"]), st.sampled_from(["", "1h", "2h"])),
    ttl=st.sampled_from(["", "1h", "3h"]),
    lifelong=st.booleans(),
    keep=st.booleans(),
)
def test_what_is_found_is_what_the_oracle_finds(
    services: LocalServices,
    history: list[tuple[str, object]],
    known_after: tuple[str, str],
    ttl: str,
    *,
    lifelong: bool,
    keep: bool,
) -> None:
    number = next(NAMES)
    other = merchants(f"merchants{number}", known_after=known_after[0])
    features = [*WINDOWED, *([ps.max("risk", name="max")] if lifelong else [])]
    view = rated(other, features=features, ttl=ttl)
    names = [name for one in features for name in one.names]
    looked_up = lookup(view, *names)
    source = payments(looked_up, name=f"payments{number}", known_after=known_after[1])
    expected = lived_through(services, history, source, keep=keep)
    for name in looked_up.columns if expected else ():
        stored = found(services, source, name)
        for value, (_, seen) in zip(stored, expected, strict=True):
            assert value == (None if seen[name] is None else pytest.approx(seen[name], rel=1e-9))


def test_what_comes_later_changes_nothing(services: LocalServices) -> None:
    other, source = merchants(), payments(lookup(rated(), "mean", "changes"))
    send(services, other, merchant("m", 4, 0.25), merchant("m", 5, 0.75))
    send(services, source, payment("a", 5, "m"))

    send(services, other, merchant("m", 5, 0.5))
    send(services, source, payment("b", 5, "m"))
    delete(services, other, "m")
    send(services, source, payment("c", 5, "m"))

    assert found(services, source, "their_mean") == [0.5, 0.5, None]
    assert found(services, source, "their_changes") == [2, 3, 0]


def test_an_unknown_key_has_the_features_of_an_unknown_entity(services: LocalServices) -> None:
    source = payments(lookup(rated(), "changes", "sum", "mean"))
    before = send(services, source, payment("a", 5, "m"))
    send(services, merchants(), merchant("m", 5, 0.5), merchant("n", 0, 0.5))

    batch = send(
        services, source, *(payment("b", 5, key) for key in ("m", "unheard of", "n", None))
    )

    assert found(services, source, "their_changes") == [0, 1, 0, 0, 0]
    assert found(services, source, "their_sum") == [0.0, 0.05, 0.0, 0.0, 0.0]
    assert found(services, source, "their_mean") == [None, 0.5, None, None, None]
    assert before.lookups[0].missing == 1
    assert batch.lookups == (
        LookedUp(source="merchants", on="merchant", last_batch=1, missing=3, view="rated"),
    )


def test_columns_and_features_of_one_source_are_found_together(services: LocalServices) -> None:
    other = merchants()
    source = payments(
        ps.Lookup(other, on="merchant", columns={"risk": "risk"}), lookup(rated(), "changes")
    )
    lookups = Lookups(services.tables)
    send(services, other, merchant("m", 1, 0.25))
    for user in "abc":
        send(services, source, payment(user, 5, "m"), lookups=lookups)

    assert found(services, source, "risk") == [0.25] * 3
    assert found(services, source, "their_changes") == [0] * 3  # it was too long ago


def test_features_of_features_are_followed(services: LocalServices) -> None:
    shops = merchants(
        "shops",
        schema={"merchant": ps.String, "since": ps.Timestamp, "of": ps.String},
        nullable=[],
        lookups=[ps.Lookup(rated(), on="of", columns={"of_mean": "mean"})],
    )
    view = ps.FeatureView("chains", source=shops, features=[ps.max("of_mean", name="worst")])
    source = payments(ps.Lookup(view, on="merchant", columns={"worst": "worst"}))
    send(services, merchants(), merchant("owner", 1, 0.25), merchant("owner", 3, 0.75))
    for hour in (1, 3, 9):
        send(services, shops, {"merchant": "m", "since": hour * HOUR_US, "of": "owner"})

    send(services, source, payment("a", 2, "m"), payment("a", 10, "m"))

    assert found(services, source, "worst") == [0.25, 0.75]
    assert [one.name for one in source.looks_into] == ["merchants", "shops"]
    assert [one.name for one in source.looks_through] == ["rated", "chains"]


def test_a_column_keeps_the_feature_it_was_filled_with(services: LocalServices) -> None:
    send(services, merchants(), merchant("m", 5, 0.5))
    source = payments(lookup(rated(), "mean"))
    send(services, source, payment("a", 5, "m"))
    other = payments(lookup(rated(derive={}, features=[ps.mean("risk", name="mean")]), "mean"))

    with pytest.raises(InputError) as caught:
        send(services, other, payment("b", 5, "m"))

    assert "column 'their_mean' is mean of rated by merchant (mean = mean of risk over 2h" in str(
        caught.value
    )
    assert len(services.metadata.find(Batch, where={"source": "payments"})) == 1
    # What is only called otherwise, or was added beside it, is the same.
    more = rated(features=[*WINDOWED, ps.count()], owner="ann")
    send(services, payments(lookup(more, "mean")), payment("b", 5, "m"))
    assert found(services, source, "their_mean")[:1] == [0.5]


def test_a_batch_without_values_gives_no_column_a_meaning(services: LocalServices) -> None:
    send(services, payments(), payment("a", 5, "m"))

    send(services, payments(lookup(rated(), "mean")), payment("a", 5, "m"))

    assert services.metadata.find(CapturedFeature) == []
    assert raw_records(services.tables, payments()).collect().height == 1
