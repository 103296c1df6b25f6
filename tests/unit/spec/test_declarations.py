from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.control import NOTIFICATIONS_TOPIC
from penstock.errors import DeclarationError, StateError
from penstock.monitoring import OBSERVATIONS_TOPIC, REJECTED_TOPIC
from penstock.ports import EVENTS_TOPIC
from penstock.spec import (
    Cron,
    Declared,
    Expectation,
    Integer,
    Source,
    Trainer,
    declarations_in,
    duration_text,
    duration_us,
    fingerprint,
    from_document,
    key_of,
    kind_of,
    references_of,
    to_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = {
    "symbol": ps.String,
    "ts": ps.Timestamp,
    "open": ps.Float64,
    "high": ps.Float64,
    "low": ps.Float64,
    "close": ps.Float64,
    "volume": ps.Float64,
    "venue": ps.String,
}


def candles(**changes: object) -> Source:
    fields: dict[str, object] = {
        "entity": ps.Entity("symbol"),
        "timestamp": "ts",
        "schema": SCHEMA,
        "expect": [ps.positive("close"), ps.between("low", 0, "high"), ps.unique("symbol", "ts")],
        "known_after": "1h",
        "batch": ps.Files("data/*.csv.gz"),
        "stream": ps.Topic("candles"),
    }
    return ps.Source("candles", **(fields | changes))  # type: ignore[arg-type]  # built by name


def momentum(source: Source) -> ps.FeatureView:
    return ps.FeatureView(
        "momentum",
        source=source,
        derive={"ret": ps.col("close") / ps.col("open") - 1},
        features=[
            ps.last("close"),
            ps.mean("ret", over="6h"),
            ps.max("high", over="7d"),
            ps.count(over="1d"),
            ps.mean("ret", over="1d", where=ps.col("volume") > 0),
        ],
    )


def direction(source: Source) -> ps.Dataset:
    return ps.Dataset(
        "direction",
        spine=source,
        features=(momentum(source),),
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(embargo="1h"),
    )


def model(source: Source) -> ps.Model:
    return ps.Model(
        "btc-direction",
        dataset=direction(source),
        candidates=(
            ps.sklearn(LogisticRegression, C=ps.loguniform(1e-3, 1e2)),
            ps.xgboost(max_depth=ps.integer(2, 8)),
        ),
        gates=(ps.at_least("roc_auc", 0.5), ps.beats("champion", "roc_auc")),
    )


def everything() -> ps.Project:
    source = candles()
    endpoint = ps.Deployment(
        "btc",
        model=model(source),
        routes=(ps.champion(), ps.challenger(share=0.1), ps.shadow("candidate")),
        fallback=ps.Fallback(deadline="20ms"),
        batch=ps.BatchScoring(on=ps.new_data(source)),
    )
    watch = ps.Monitor(
        endpoint,
        drift=ps.psi(max=0.2),
        accuracy=ps.rolling("roc_auc", min=0.5),
        latency=ps.p99(max="20ms"),
        on_breach=(ps.notify("ops"), ps.rollback(), ps.retrain()),
    )
    trigger = ps.Trigger(endpoint.model, on=(ps.new_data(source), ps.cron("0 3 * * *")))
    return ps.Project("psystock", declarations=(watch, trigger))


def test_a_project_holds_what_its_declarations_refer_to_each_after_what_it_needs() -> None:
    keys = [key_of(value) for value in everything().everything]

    assert keys == [
        "entity/symbol",
        "source/candles",
        "feature_view/momentum",
        "dataset/direction",
        "model/btc-direction",
        "deployment/btc",
        "monitor/btc",
        "trigger/btc-direction",
    ]


def test_every_declaration_survives_storage() -> None:
    known: dict[str, Declared] = {}
    for value in everything().everything:
        document = json.loads(json.dumps(to_document(value)))
        known[key_of(value)] = from_document(type(value), document, known)

        assert known[key_of(value)] == value


def test_a_document_that_refers_to_nothing_known_is_refused() -> None:
    document = to_document(momentum(candles()))

    with pytest.raises(StateError, match="penstock apply"):
        from_document(ps.FeatureView, document, {})


def test_the_fingerprint_covers_what_is_referred_to() -> None:
    before = fingerprint(direction(candles()))

    assert fingerprint(direction(candles(known_after="2h"))) != before
    assert fingerprint(direction(candles())) == before


def test_the_fingerprint_leaves_out_what_is_only_shown() -> None:
    plain, described = candles(), candles(description="hourly candles", owner="ana", tags=["x"])

    assert fingerprint(plain) == fingerprint(described)
    assert to_document(plain) != to_document(described)


def test_routes_without_later_fields_are_stored_as_they_always_were() -> None:
    routes = [ps.champion(), ps.challenger(share=0.1), ps.shadow("candidate")]
    document = to_document(ps.Deployment("d", model=model(candles()), routes=routes))

    assert document["routes"] == [
        {"role": "champion", "alias": "champion", "share": 0.0},
        {"role": "challenger", "alias": "challenger", "share": 0.1},
        {"role": "shadow", "alias": "candidate", "share": 0.0},
    ]


def test_the_fingerprint_survives_storage() -> None:
    known: dict[str, Declared] = {}
    for value in everything().everything:
        document = json.loads(json.dumps(to_document(value)))
        known[key_of(value)] = from_document(type(value), document, known)

        assert fingerprint(known[key_of(value)]) == fingerprint(value)


def test_references_are_the_direct_ones() -> None:
    view = momentum(candles())

    assert [kind_of(value) for value in references_of(view)] == ["source"]
    assert [kind_of(value) for value in declarations_in([view])] == [
        "entity",
        "source",
        "feature_view",
    ]


def test_names_of_features_say_what_they_are() -> None:
    assert momentum(candles()).names == (
        "momentum.last_close",
        "momentum.mean_ret_6h",
        "momentum.max_high_7d",
        "momentum.count_1d",
        "momentum.mean_ret_1d_where_volume_gt_0",
    )


def test_a_long_condition_is_named_by_its_hash() -> None:
    where = (ps.col("a_rather_long_column") > 1) & (ps.col("another_long_column") < 2)
    name = ps.count(over="1d", where=where).name

    assert name.startswith("count_1d_where_")
    assert len(name) == len("count_1d_where_") + 8


def test_types_of_features() -> None:
    dtypes = momentum(candles()).dtypes

    assert dtypes["momentum.count_1d"] == ps.Int64
    assert dtypes["momentum.last_close"] == ps.Float64


def test_the_label_tells_task_and_horizon() -> None:
    dataset = direction(candles())

    assert dataset.task == "classification"
    assert dataset.horizon_us == duration_us("1h")
    assert dataset.feature_names == momentum(candles()).names


def test_without_label_nothing_looks_ahead() -> None:
    source = candles()
    dataset = ps.Dataset("plain", spine=source, features=(momentum(source),))

    assert dataset.horizon_us == 0
    assert dataset.task == "regression"


def test_identity_is_the_unique_columns_or_the_whole_record() -> None:
    assert candles().identity == ("symbol", "ts")
    assert candles(expect=[]).identity == tuple(SCHEMA)


def test_the_topic_is_the_source_s_name_unless_given() -> None:
    assert candles(stream=ps.Topic("ticks")).topic == "ticks"
    assert candles(stream=None).topic == "candles"


def test_a_topic_is_read_by_one_source_alone() -> None:
    ticks = ps.Topic("ticks")
    one, other = candles(stream=ticks), msgspec.structs.replace(candles(stream=ticks), name="other")
    with pytest.raises(DeclarationError, match="'candles' and 'other' read one topic, 'ticks'"):
        ps.Project("shared", declarations=[one, other])
    named = msgspec.structs.replace(candles(stream=None), name="ticks")  # by its own name
    with pytest.raises(DeclarationError, match="send to both"):
        ps.Project("shared", declarations=[one, named])
    apart = msgspec.structs.replace(other, stream=ps.Topic("others"))
    assert len(ps.Project("apart", declarations=[one, apart, momentum(one)]).everything) > 3


def test_no_source_reads_what_the_platform_says_to_itself() -> None:
    for name in {EVENTS_TOPIC, NOTIFICATIONS_TOPIC, OBSERVATIONS_TOPIC, REJECTED_TOPIC}:
        with pytest.raises(DeclarationError, match="the platform's own"):
            candles(stream=ps.Topic(name))
    own = msgspec.structs.replace(candles(stream=None), name=EVENTS_TOPIC)
    assert own.topic == "events.records"


def test_monitor_and_trigger_take_the_name_of_what_they_watch() -> None:
    names = [value.name for value in everything().declarations]

    assert names == ["btc", "btc-direction"]


def test_all_faults_of_a_declaration_come_together() -> None:
    with pytest.raises(DeclarationError) as caught:
        candles(
            timestamp="tss",
            known_after="an hour",
            nullable=["volum", "symbol"],
            expect=[ps.positive("clsoe"), ps.unique("ts"), ps.unique("symbol")],
            schema=SCHEMA | {"_mine": ps.String},
        )

    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 7
    for word in (
        "Did you mean 'ts'?",
        "Did you mean 'volume'?",
        "Did you mean 'close'?",
        "'an hour' is no duration",
        "unique is declared twice",
        "'_mine'",
        "cannot be nullable",
    ):
        assert word in faults


def view(**changes: object) -> ps.FeatureView:
    fields: dict[str, object] = {"source": candles(), "features": (ps.count(),)}
    return ps.FeatureView("view", **(fields | changes))  # type: ignore[arg-type]  # built by name


UNTYPED: Any = ps.col
"""A project is not type-checked."""

FAULTY: dict[str, tuple[Callable[[], object], str]] = {
    "empty name": (lambda: ps.Entity(""), "name is empty"),
    "name with capitals": (lambda: ps.Entity("Symbol"), "has the characters 'S'"),
    "key of floats": (lambda: ps.Entity("x", dtype=ps.Float64), "cannot be a key"),
    "key is no column": (lambda: candles(entity=ps.Entity("symbl")), "Did you mean 'symbol'"),
    "key of another type": (
        lambda: candles(entity=ps.Entity("symbol", dtype=ps.Int64)),
        "entity's key is int64",
    ),
    "timestamp of another type": (lambda: candles(timestamp="close"), "has to be ps.Timestamp"),
    "between without bounds": (lambda: ps.between("x", None, None), "low or a high bound"),
    "one_of nothing": (lambda: ps.one_of("x"), "at least one value"),
    "matches nothing": (lambda: ps.matches("x", ""), "needs a pattern"),
    "rule over nothing": (lambda: Expectation(rule="positive", columns=()), "names no column"),
    "no features": (lambda: view(features=()), "has no features"),
    "feature twice": (lambda: view(features=(ps.count(), ps.count())), "declared 2 times"),
    "unknown column": (lambda: view(features=(ps.mean("clse"),)), "Did you mean 'close'"),
    "unknown column in where": (
        lambda: view(features=(ps.count(where=ps.col("volum") > 0),)),
        "Did you mean 'volume'",
    ),
    "mean of text": (lambda: view(features=(ps.mean("venue"),)), "takes numbers"),
    "derived column exists": (lambda: view(derive={"open": ps.col("close")}), "already"),
    "derive looks ahead": (
        lambda: view(derive={"next": ps.lead("close", "1h")}),
        "only a label may",
    ),
    "derive reads a later one": (
        lambda: view(derive={"a": ps.col("b"), "b": ps.col("close")}),
        "reads 'b'",
    ),
    "derive compares with ==": (
        lambda: view(derive={"big": UNTYPED("close") == 2}),
        "derive 'big' is False, no expression. Two expressions are compared by .eq() and .ne()",
    ),
    "derive is a function": (
        lambda: view(derive={"big": len}),
        "no expression. Make one of ps.col(",
    ),
    "where compares with ==": (
        lambda: ps.count(where=UNTYPED("venue") == "x"),
        "compared by .eq() and .ne()",
    ),
    "where is a column": (
        lambda: ps.count(where=ps.col("odd")),
        "where=odd is no condition; compare something, as in ps.col('odd').eq(True)",
    ),
    "on demand compares with ==": (
        lambda: ps.OnDemandView("o", request={"a": ps.Float64}, features={"f": UNTYPED("a") == 1}),
        "feature 'f' is False, no expression",
    ),
    "label compares with ==": (
        lambda: ps.Label("up", UNTYPED("close") == 1),
        "it is False, no expression",
    ),
    "label is a function": (
        lambda: ps.Label("up", len),  # type: ignore[arg-type]
        "no expression. Make one of ps.col(",
    ),
    "features hold a text": (
        lambda: view(features=["close", ps.count()]),
        "features holds 'close'; give a value of type Aggregate there",
    ),
    "features are one": (
        lambda: view(features=ps.count()),
        "put it into a list",
    ),
    "a view is no list": (
        lambda: ps.FeatureService("s", features=view()),  # type: ignore[arg-type]
        "features is FeatureView('view'); put it into a list: features=[...]",
    ),
    "a dataset of a view": (
        lambda: ps.Dataset("d", spine=candles(), features=view()),  # type: ignore[arg-type]
        "features is FeatureView('view'); put it into a list: features=[...]",
    ),
    "expectation in words": (
        lambda: candles(expect=["close > 0"]),
        "expect holds 'close > 0'; give a value of type Expectation there",
    ),
    "files of an unknown column": (
        lambda: candles(batch=ps.Files("*.csv", columns={"clsoe": "C"})),
        "batch: columns names 'clsoe', which is no column. Did you mean 'close'?",
    ),
    "files named after an unknown column": (
        lambda: candles(batch=ps.Files("*.csv", name_as="symbl")),
        "batch: name_as names 'symbl', which is no column. Did you mean 'symbol'?",
    ),
    "a length as a number": (
        lambda: ps.mean("x", over=6),  # type: ignore[arg-type]
        "6 is no duration; write whole numbers with us",
    ),
    "several windows in one feature": (
        lambda: ps.mean("close", over=["1h", "6h"]),  # type: ignore[arg-type]
        "are several durations; a feature has one, such as '6h': declare a feature for each",
    ),
    "freshness as a number": (lambda: view(freshness=3600), "freshness: 3600 is no duration"),
    "ttl of nothing": (lambda: view(ttl="0s"), "ttl is zero; leave it out"),
    "ttl in words": (lambda: view(ttl="long"), "ttl: 'long' is no duration"),
    "freshness of nothing": (lambda: view(freshness="0s"), "freshness is zero; leave it out"),
    "freshness in words": (lambda: view(freshness="new"), "freshness: 'new' is no duration"),
    "aggregate without column": (lambda: ps.mean(""), "needs a column"),
    "no window length": (lambda: ps.mean("x", over="1 day"), "is no duration"),
    "hop without window": (lambda: ps.mean("x", hop="1h"), "without over"),
    "hop longer than window": (lambda: ps.mean("x", over="1h", hop="2h"), "longer than over"),
    "window of zero": (lambda: ps.mean("x", over="0s"), "over is zero"),
    "where is no condition": (lambda: ps.count(where=ps.col("x") + 1), "is no condition"),
    "where looks ahead": (lambda: ps.count(where=ps.lead("x", "1h") > 1), "looks ahead"),
    "shares above one": (lambda: ps.TimeSplit(train=0.9), "add up to 1.2"),
    "share of nothing": (lambda: ps.RandomSplit(train=1.0, test=0.0, validation=0.0), "no share"),
    "embargo in words": (lambda: ps.TimeSplit(embargo="an hour"), "embargo"),
    "embargo shorter than the horizon": (
        lambda: ps.Dataset(
            "d",
            spine=candles(),
            features=(momentum(candles()),),
            label=ps.Label("up", ps.lead("close", "2h") > ps.col("close")),
            split=ps.TimeSplit(embargo="1h"),
        ),
        "set embargo='2h'",
    ),
    "label of unknown column": (
        lambda: ps.Dataset(
            "d",
            spine=candles(),
            features=(momentum(candles()),),
            label=ps.Label("up", ps.lead("closs", "1h") > 1),
            split=ps.TimeSplit(embargo="1h"),
        ),
        "Did you mean 'close'",
    ),
    "dataset without views": (
        lambda: ps.Dataset("d", spine=candles(), features=()),
        "no feature views",
    ),
    "bounds the wrong way": (lambda: ps.uniform(2, 1), "not below"),
    "logarithm of zero": (lambda: ps.loguniform(0, 1), "above 0"),
    "whole bounds the wrong way": (lambda: ps.integer(2, 1), "not below"),
    "whole logarithm of zero": (lambda: ps.integer(0, 4, log=True), "above 0"),
    "bound that is not finite": (
        lambda: ps.between("x", 0, float("inf")),
        "high=inf is not finite",
    ),
    "no options": (ps.choice, "no options"),
    "no estimator": (
        lambda: Trainer(kind="sklearn", estimator="LogisticRegression"),
        "no 'module:Class'",
    ),
    "no trials": (lambda: ps.Search(trials=0), "at least one"),
    "model without label": (
        lambda: ps.Model(
            "m",
            dataset=ps.Dataset("d", spine=candles(), features=(momentum(candles()),)),
            candidates=(ps.xgboost(),),
            select=ps.minimise("rmse"),
        ),
        "has no label",
    ),
    "model without candidates": (
        lambda: ps.Model("m", dataset=direction(candles()), candidates=()),
        "no candidates",
    ),
    "unknown metric": (
        lambda: ps.Model(
            "m",
            dataset=direction(candles()),
            candidates=(ps.xgboost(),),
            gates=(ps.at_most("log_los", 1),),
        ),
        "Did you mean 'log_loss'",
    ),
    "no champion": (
        lambda: ps.Deployment("d", model=model(candles()), routes=(ps.challenger(share=0.1),)),
        "exactly one",
    ),
    "all traffic shared": (
        lambda: ps.Deployment(
            "d",
            model=model(candles()),
            routes=(ps.champion(), ps.challenger(share=0.6), ps.challenger(share=0.5)),
        ),
        "leave some to the champion",
    ),
    "an unknown alias": (
        lambda: ps.shadow("candidat"),
        "Did you mean 'candidate'",
    ),
    "a shadow of nobody": (
        ps.shadow,
        "leads to no version",
    ),
    "stale in another word": (
        lambda: ps.Deployment("d", model=model(candles()), stale="fail"),  # type: ignore[arg-type]
        "give 'serve' or 'refuse'",
    ),
    "share of the challenger": (lambda: ps.challenger(share=1.5), "not between 0 and 1"),
    "deadline in words": (lambda: ps.Fallback(deadline="soon"), "deadline"),
    "constant without value": (
        lambda: ps.Fallback(deadline="1s", to="constant"),
        "needs a value",
    ),
    "cron of three fields": (lambda: Cron(expression="0 3 *"), "takes five"),
    "trigger without occasion": (lambda: ps.Trigger(model(candles()), on=()), "no occasion"),
    "watches nothing": (
        lambda: ps.Monitor(ps.Deployment("d", model=model(candles()))),
        "watches nothing",
    ),
    "unknown accuracy": (
        lambda: ps.Monitor(
            ps.Deployment("d", model=model(candles())), accuracy=ps.rolling("rocauc", min=0.5)
        ),
        "Did you mean 'roc_auc'",
    ),
    "accuracy without bound": (lambda: ps.rolling("roc_auc"), "min="),
    "error without bound": (lambda: ps.rolling("rmse"), "max="),
    "index below zero": (lambda: ps.psi(max=0), "above 0"),
    "latency in words": (lambda: ps.p99(max="fast"), "max: 'fast' is no duration"),
    "window of nothing": (lambda: ps.psi(over="0s"), "over is zero"),
    "one name, two sources": (
        lambda: ps.Project("p", declarations=(candles(), momentum(candles(known_after="2h")))),
        "source 'candles' is declared 2 times",
    ),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_fault_is_named_with_what_to_do(case: str) -> None:
    build, words = FAULTY[case]

    with pytest.raises(DeclarationError) as caught:
        build()

    assert words in str(caught.value)


def test_an_estimator_is_named_by_its_public_module() -> None:
    trainer = ps.sklearn(LogisticRegression)

    assert trainer.estimator == "sklearn.linear_model:LogisticRegression"
    assert trainer.name == "LogisticRegression"


def test_an_estimator_may_be_named_without_importing_it() -> None:
    named = ps.sklearn("sklearn.linear_model:LogisticRegression", C=1.0)

    assert named == ps.sklearn(LogisticRegression, C=1.0)


def test_an_estimator_without_public_module_keeps_its_own() -> None:
    class Mine:
        pass

    assert ps.sklearn(Mine, name="mine").estimator.startswith(f"{__name__}:")


@pytest.mark.parametrize(
    ("text", "length"), [("90s", 90_000_000), ("1h30m", 5_400_000_000), ("2w", 1_209_600_000_000)]
)
def test_durations(text: str, length: int) -> None:
    assert duration_us(text) == length
    assert duration_us(duration_text(length)) == length


def test_the_shortest_durations() -> None:
    assert duration_text(1) == "1us"
    assert duration_text(0) == "0us"


@pytest.mark.parametrize(
    ("over", "hop"),
    [("1m", "1m"), ("12h", "5m"), ("13h", "1h"), ("12d", "1h"), ("13d", "1d"), ("", "0us")],
)
def test_the_default_hop_follows_the_window(over: str, hop: str) -> None:
    assert duration_text(ps.count(over=over).hop_us) == hop


def test_a_declared_hop_stands() -> None:
    assert ps.count(over="1d", hop="10m").hop_us == duration_us("10m")


def test_gates_read_as_sentences() -> None:
    gates = [ps.at_least("roc_auc", 0.5), ps.at_most("log_loss", 1), ps.beats("champion", "f1")]

    assert [gate.name for gate in gates] == [
        "roc_auc >= 0.5",
        "log_loss <= 1",
        "f1 beats champion",
    ]
    assert ps.beats("champion", "f1", by=0.01).name == "f1 beats champion by 0.01"


@pytest.mark.parametrize(
    ("feature", "name"),
    [
        (ps.sum("x", over="60m"), "sum_x_1h"),
        (ps.min("x"), "min_x"),
        (ps.std("x", over="1d"), "std_x_1d"),
        (ps.count("x", over="1d", name="seen"), "seen"),
    ],
)
def test_features_are_named_by_what_they_compute(feature: ps.Aggregate, name: str) -> None:
    assert feature.name == name


def test_freshness_is_a_length_of_time() -> None:
    assert view().freshness_us == 0
    assert view(freshness="90m").freshness_us == 90 * 60_000_000


def test_lengths_of_time_in_microseconds() -> None:
    assert candles().known_after_us == duration_us("1h")
    assert candles(known_after="").known_after_us == 0
    assert ps.Fallback(deadline="20ms").deadline_us == 20_000
    assert ps.p99(max="20ms").max_us == 20_000


def test_a_choice_keeps_its_options() -> None:
    assert ps.choice("a", 1, None).options == ("a", 1, None)


def test_a_search_space_with_a_window_reads_as_declared() -> None:
    assert ps.uniform(0.0, 1.0).log is False
    assert Integer(low=1, high=8) == ps.integer(1, 8)


def test_expectations_are_named_as_written() -> None:
    assert ps.between("low", 0, "high").name == "between(low, 0, high)"
    assert ps.between("low", 0, "high").reads == {"low", "high"}
    assert ps.unique("a", "b").name == "unique(a, b)"


def test_what_becomes_of_unknown_entities_is_in_a_document_once_it_is_said() -> None:
    endpoint = next(one for one in everything().everything if isinstance(one, ps.Deployment))
    refusing = msgspec.structs.replace(endpoint, missing="refuse")
    known = {key_of(one): one for one in everything().everything}

    assert "missing" not in to_document(endpoint)
    assert to_document(refusing) == {**to_document(endpoint), "missing": "refuse"}
    assert from_document(ps.Deployment, to_document(endpoint), known).missing == "serve"
    assert from_document(ps.Deployment, to_document(refusing), known) == refusing
    with pytest.raises(DeclarationError, match="missing='drop'; give 'serve' or 'refuse'"):
        msgspec.structs.replace(endpoint, missing="drop")
