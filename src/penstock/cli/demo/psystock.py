"""Will the next hour close higher? Six symbols of hourly candles, from file to monitored score."""

from __future__ import annotations

from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import penstock as ps

symbol = ps.Entity("symbol", dtype=ps.String)

candles = ps.Source(
    "candles",
    entity=symbol,
    timestamp="ts",
    schema={
        "symbol": ps.String,
        "ts": ps.Timestamp,
        "open": ps.Float64,
        "high": ps.Float64,
        "low": ps.Float64,
        "close": ps.Float64,
        "volume": ps.Float64,
    },
    expect=[
        ps.positive("open"),
        ps.positive("close"),
        ps.between("low", 0, "high"),
        ps.between("volume", 0, None),
        ps.unique("symbol", "ts"),
    ],
    known_after="1h",
    batch=ps.Files(
        "data/*.csv.gz",
        columns={
            "ts": "Date",
            "open": "Open",
            "high": "High",
            "low": "Low",
            "close": "Close",
            "volume": "Volume",
        },
        name_as="symbol",
    ),
    stream=ps.Topic("candles"),
)

momentum = ps.FeatureView(
    "momentum",
    source=candles,
    derive={
        "ret": ps.col("close") / ps.col("open") - 1,
        "span": (ps.col("high") - ps.col("low")) / ps.col("open"),
    },
    features=[
        ps.last("ret"),
        ps.mean("ret", over="3h"),
        ps.mean("ret", over="12h"),
        ps.std("ret", over="6h"),
        ps.std("ret", over="1d"),
        ps.mean("span", over="6h"),
        ps.max("span", over="6h"),
        ps.count(over="1d", where=ps.col("ret") > 0),
    ],
)

direction = ps.Dataset(
    "direction",
    spine=candles,
    features=[momentum],
    label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
    split=ps.TimeSplit(train=0.9, validation=0.05, test=0.05, embargo="1h"),
)

model = ps.Model(
    "psystock-direction",
    dataset=direction,
    candidates=[
        ps.sklearn(LogisticRegression, C=ps.loguniform(1e-3, 1e2)),
        ps.sklearn(
            HistGradientBoostingClassifier,
            max_iter=60,
            learning_rate=ps.loguniform(0.03, 0.2),
            min_samples_leaf=100,
            max_leaf_nodes=15,
        ),
        ps.sklearn(
            RandomForestClassifier,
            n_estimators=40,
            max_depth=8,
            min_samples_leaf=20,
            max_samples=0.3,
        ),
    ],
    search=ps.Search(trials=3, seed=7),
    select=ps.maximise("roc_auc"),
    gates=[ps.at_least("roc_auc", 0.5), ps.beats("champion", "roc_auc")],
)

endpoint = ps.Deployment(
    "psystock",
    model=model,
    routes=[ps.champion()],
    fallback=ps.Fallback(deadline="200ms", to="previous", value=0.5),
)

watch = ps.Monitor(
    deployment=endpoint,
    drift=ps.psi(max=0.25, over="1h", min_rows=200),
    accuracy=ps.rolling("roc_auc", over="1h", min=0.5, min_rows=200),
    latency=ps.p99(max="200ms", over="1h", min_rows=200),
    every="10m",
    on_breach=[ps.notify("ops"), ps.retrain()],
)

project = ps.Project("psystock", declarations=[watch])
