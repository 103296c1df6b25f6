from __future__ import annotations

import msgspec
import pytest

from penstock.algebra import captured_meaning, compile_view
from penstock.errors import DeclarationError
from penstock.spec import Aggregate, DType, Entity, FeatureView, Lookup, Source, col
from penstock.testing.strategies import source

WORDS = Source(
    name="words",
    entity=Entity(name="word"),
    timestamp="ts",
    schema={"word": DType.STRING, "ts": DType.TIMESTAMP, "a": DType.FLOAT64,
            "b": DType.FLOAT64},
)  # fmt: skip


def view_of(*features: Aggregate, **others: object) -> FeatureView:
    return FeatureView(name="v", source=source(), features=features, **others)  # type: ignore[arg-type]


def test_features_share_inputs_states_and_tiles() -> None:
    program = compile_view(
        view_of(
            Aggregate(op="mean", column="x", over="6h"),
            Aggregate(op="sum", column="x", over="1h"),
            Aggregate(op="count", column="x", over="6h"),
            Aggregate(op="count", column="x", over="6h", where=col("y") > 0),
            Aggregate(op="max", column="x", over="7d"),
            Aggregate(op="last", column="x"),
        )
    )
    assert len(program.inputs) == 2
    assert [group.hop_us // 60_000_000 for group in program.groups] == [0, 5, 60]
    assert [slot.key[0] for slot in program.groups[1].slots] == ["count", "sum", "count"]
    assert [window.over_us // 3_600_000_000 for window in program.groups[1].windows] == [1, 6]
    assert [group.width for group in program.groups] == [2, 3, 1]
    assert program.columns == ("x", "y")


def test_only_what_is_needed_is_read_and_hashed() -> None:
    derive = {"a": col("x") + 1, "b": col("a") * col("y"), "c": col("n") + 1}
    needed = compile_view(view_of(Aggregate(op="sum", column="b"), derive=derive))
    assert needed.columns == ("x", "y")
    assert needed.derived == ("a", "b")
    del derive["c"]
    assert (
        needed.fingerprint
        == compile_view(view_of(Aggregate(op="sum", column="b"), derive=derive)).fingerprint
    )


def test_what_a_looked_up_column_means_is_hashed_where_it_is_read() -> None:
    def of(column: str, within: str = "", read: str = "w") -> bytes:
        lookup = Lookup(WORDS, on="word", columns={"w": column}, within=within)
        looking = msgspec.structs.replace(source(), lookups=(lookup,))
        feature = Aggregate(op="sum", column=read)
        return compile_view(FeatureView(name="v", source=looking, features=(feature,))).fingerprint

    assert len({of("a"), of("b"), of("a", "1h")}) == 3
    plain = compile_view(view_of(Aggregate(op="sum", column="x"))).fingerprint
    assert {of("a", read="x"), of("b", read="x")} == {plain}


def test_what_a_looked_up_feature_means_is_hashed_where_it_is_read() -> None:
    def of(
        *features: Aggregate, name: str = "counted", read: str = "w", **others: object
    ) -> tuple[bytes, str]:
        view = FeatureView(name=name, source=WORDS, features=features, **others)  # type: ignore[arg-type]
        lookup = Lookup(view, on="word", columns={"w": "it"})
        looking = msgspec.structs.replace(source(), lookups=(lookup,))
        reader = FeatureView(name="v", source=looking, features=(Aggregate(op="sum", column=read),))
        return compile_view(reader).fingerprint, captured_meaning(looking.captured["w"])

    mean = Aggregate(op="mean", column="a", over="1d", name="it")
    found = of(mean)
    derive = {"a2": col("a") * 2}
    doubled = Aggregate(op="mean", column="a2", over="1d", name="it")
    others = [
        of(Aggregate(op="mean", column="b", over="1d", name="it")),
        of(Aggregate(op="mean", column="a", over="2d", name="it")),
        of(mean, ttl="3d"),
        of(doubled, derive=derive),
        of(doubled, derive={"a2": col("a") * 3}),
    ]
    assert len({*others, found}) == 6
    assert len({meaning for _, meaning in (*others, found)}) == 6
    more = Aggregate(op="max", column="b")
    assert of(mean, more, name="other", derive=derive) == of(more, mean) == found
    plain = compile_view(view_of(Aggregate(op="sum", column="x"))).fingerprint
    assert of(mean, read="x")[0] == plain


def test_the_fingerprint_follows_the_meaning_and_not_the_names() -> None:
    view = view_of(Aggregate(op="mean", column="x", over="1h"))
    same = msgspec.structs.replace(
        view,
        name="other",
        description="words",
        features=(Aggregate(op="mean", column="x", over="60m", hop="5m", name="renamed"),),
    )
    fingerprint = compile_view(view).fingerprint
    assert len(fingerprint) == 8
    assert compile_view(same).fingerprint == fingerprint
    others = [
        view_of(Aggregate(op="sum", column="x", over="1h")),
        view_of(Aggregate(op="mean", column="y", over="1h")),
        view_of(Aggregate(op="mean", column="x", over="2h")),
        view_of(Aggregate(op="mean", column="x", over="1h", hop="1m")),
        view_of(Aggregate(op="mean", column="x", over="1h", where=col("y") > 0)),
        msgspec.structs.replace(view, source=source("1h")),
    ]
    assert len({compile_view(other).fingerprint for other in others} | {fingerprint}) == 7


def test_all_faults_of_types_are_reported_together() -> None:
    view = view_of(
        Aggregate(op="sum", column="bad"),
        Aggregate(op="count", where=col("word") > 1),
        derive={"bad": col("word") + 1},
    )
    with pytest.raises(DeclarationError) as caught:
        compile_view(view)
    assert len(caught.value.faults) == 2
    sum_fault, where_fault = caught.value.faults
    given = "takes boolean or float64 or int64 here, but is given string"
    assert sum_fault == f"derive 'bad': (word + 1) {given}"
    assert where_fault.startswith("feature 'count_where_word_gt_1': where: (word > 1) takes string")


def test_a_derived_column_of_text_is_no_number_to_aggregate() -> None:
    derive = {"word2": col("word"), "when": col("ts"), "said": col("word").coalesce("none")}
    view = view_of(
        Aggregate(op="last", column="word2"),
        Aggregate(op="max", column="when"),
        Aggregate(op="mean", column="said"),
        Aggregate(op="count", column="word2"),
        Aggregate(op="approx_distinct", column="said"),
        derive=derive,
    )
    with pytest.raises(DeclarationError) as caught:
        compile_view(view)
    assert len(caught.value.faults) == 3
    assert "feature 'last_word2': last takes numbers" in caught.value.faults[0]
    assert "'when' is timestamp" in caught.value.faults[1]
