"""A whole project: will the next candle close higher?"""

from __future__ import annotations

import penstock as ps

columns = {"ts": "Date", "open": "Open", "close": "Close"}
symbol = ps.Entity("symbol")
candles = ps.Source(
    "candles", entity=symbol, timestamp="ts", known_after="1h",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "open": ps.Float64, "close": ps.Float64},
    expect=[ps.positive("close"), ps.unique("symbol", "ts")],
    batch=ps.Files("data/*.csv.gz", columns=columns, name_as="symbol"))  # fmt: skip
momentum = ps.FeatureView(
    "momentum", source=candles, derive={"ret": ps.col("close") / ps.col("open") - 1},
    features=[ps.last("close"), ps.mean("ret", over="6h"), ps.std("ret", over="1d")])  # fmt: skip
direction = ps.Dataset(
    "direction", spine=candles, features=[momentum], split=ps.TimeSplit(embargo="1h"),
    label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")))  # fmt: skip
model = ps.Model(
    "direction", dataset=direction, gates=[ps.at_least("roc_auc", 0.5)],
    candidates=[ps.sklearn("sklearn.linear_model:LogisticRegression", C=ps.loguniform(1e-3, 1e2))],
    search=ps.Search(trials=5, seed=7))  # fmt: skip
endpoint = ps.Deployment("direction", model=model)
watch = ps.Monitor(endpoint, drift=ps.psi(max=0.2), on_breach=[ps.rollback(), ps.retrain()])
