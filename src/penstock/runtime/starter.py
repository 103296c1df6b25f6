"""What ``penstock init`` writes into an empty project folder."""

from __future__ import annotations

__all__ = ["STARTER_IGNORE", "STARTER_PROJECT", "STARTER_SETTINGS"]

STARTER_IGNORE = ".penstock/\n"

STARTER_SETTINGS = """\
# Settings of this project folder. Everything is optional; the values shown are the defaults,
# but for serve_grpc_port and serve_socket, which are examples: left out, neither is opened.
# [profiles.NAME] is laid over the rest when PENSTOCK_PROFILE=NAME;
# an environment variable such as PENSTOCK_SERVE_PORT goes over both.

# project = "project"        # the module that declares the project: project.py
# workers = 2                # processes that train at the same time
# api_host = "127.0.0.1"
# api_port = 8000
# serve_host = "127.0.0.1"
# serve_port = 8001
# serve_grpc_port = 8003       # takes penstock[grpc]
# serve_socket = "serve.sock"  # a UNIX socket beside the port
# serve_workers = 1            # processes that share the port
# serve_load = "all"           # "need" loads a model when it is asked for
# log_level = "info"

# [profiles.production]
# serve_host = "0.0.0.0"     # takes tls_cert and tls_key, or allow_insecure_bind = true
# tls_cert = "cert.pem"
# tls_key = "key.pem"
# tls_client_ca = "ca.pem"   # clients have to show a certificate
"""

STARTER_PROJECT = '''\
"""What this project is made of; `penstock plan` shows a change, `penstock apply` makes it."""

from __future__ import annotations

import penstock as ps
from sklearn.linear_model import LogisticRegression

# What the features are about, and the column that identifies it.
customer = ps.Entity("customer", dtype=ps.String)

# Where records come from: files now, events over HTTP as well. Records that break the schema or a
# rule go to the source's quarantine with the reason; the others go on. Here a record is what a
# customer ordered on a day, stamped with the day's beginning.
orders = ps.Source(
    "orders",
    entity=customer,
    timestamp="at",
    schema={
        "customer": ps.String,
        "at": ps.Timestamp,
        "amount": ps.Float64,
    },
    expect=[ps.positive("amount"), ps.unique("customer", "at")],
    batch=ps.Files("data/orders*.csv"),
)

# Features over windows that end at the time they are asked for.
habits = ps.FeatureView(
    "habits",
    source=orders,
    features=[ps.last("amount"), ps.mean("amount", over="7d"), ps.count(over="1d")],
)

# Features and label at every record of the spine, correct at that record's time. lead() takes the
# record that is stamped exactly a day later; orders stamped at any hour would find none.
next_order = ps.Dataset(
    "next-order",
    spine=orders,
    features=[habits],
    label=ps.Label("more", ps.lead("amount", "1d") > ps.col("amount")),
    split=ps.TimeSplit(train=0.7, validation=0.15, test=0.15, embargo="1d"),
)

# The candidates, how the best is chosen, and what it has to pass.
model = ps.Model(
    "next-order",
    dataset=next_order,
    candidates=[ps.sklearn(LogisticRegression, C=ps.loguniform(1e-3, 1e2))],
    search=ps.Search(trials=10, seed=7),
    select=ps.maximise("roc_auc"),
    gates=[ps.at_least("roc_auc", 0.5), ps.beats("champion", "roc_auc")],
)

# Who answers POST /v1/deployments/next-order/predict, and what happens when it is late.
endpoint = ps.Deployment(
    "next-order",
    model=model,
    fallback=ps.Fallback(deadline="50ms", to="previous"),
)
'''
