from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.control import (
    ingest_run,
    monitor_run,
    refresh_features,
    score_run,
    step_functions,
    train_run,
)
from penstock.errors import StateError
from penstock.monitoring import observe
from penstock.plan import apply
from penstock.ports import EVENTS_TOPIC, Delete, Put
from penstock.records import (
    AppliedDeclaration,
    DatasetSnapshot,
    Event,
    Incident,
    ModelVersion,
    MonitorReport,
    Observation,
)
from penstock.registry import aliases, get_version
from penstock.runtime import open_services
from penstock.spec import Project, Trainer, psi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.unit.conftest import Watched

    from penstock.control import Submission
    from penstock.ports import Services
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

HOURS = 400
ONCE = {"train.candidates", "train.evaluate", "train.mirror", "monitor.drain", "score.score"}
"""Steps whose second run says something else of the same result: how long it took, what was new."""


def run(services: Services, submission: Submission) -> dict[str, dict[str, Any]]:
    """The steps one after the other, each as if it had been killed after all its work was done."""
    functions = step_functions(services)
    outputs: dict[str, Mapping[str, object]] = {}
    for step in submission.pipeline.steps:
        function = functions[step.function]
        first = function(submission.parameters, outputs)
        again = first if step.function in ONCE else function(submission.parameters, outputs)
        if step.function not in {"ingest.files", "ingest.refresh"}:
            assert again == first
        outputs[step.name] = msgspec.json.decode(msgspec.json.encode(first))
        if first.get("stop") is True:
            break
    return cast("dict[str, dict[str, Any]]", outputs)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    (tmp_path / ".penstock").mkdir()
    with open_services(tmp_path, actor="tester") as opened:
        yield opened


def declare(services: Services, *, deprecated: str = "") -> None:
    candles = ps.Source(
        "candles",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
        expect=[ps.positive("close"), ps.unique("symbol", "ts")],
        batch=ps.Files("*.csv"),
    )
    view = ps.FeatureView(
        "momentum",
        source=candles,
        features=[ps.last("close"), ps.mean("close", over="6h", deprecated=deprecated)],
    )
    dataset = ps.Dataset(
        "hourly",
        spine=candles,
        features=[view],
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(embargo="1h"),
    )
    linear = Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegression")
    model = ps.Model("direction", dataset=dataset, candidates=[linear])
    endpoint = ps.Deployment("btc", model=model)
    watch = ps.Monitor(
        deployment=endpoint,
        drift=psi(min_rows=50),
        on_breach=[ps.rollback()],
    )
    project = Project("p", declarations=[watch])
    apply(
        services.metadata, project, actor="tester", now=services.clock.now(), commit="", dirty=False
    )


def candles(services: Services, name: str, *, first: int = 0, around: float = 100.0) -> None:
    """A file of two symbols that swing every few hours, so that their direction can be learned."""
    today = services.clock.now().replace(minute=0, second=0, microsecond=0)
    start = today - timedelta(hours=2 * HOURS)
    lines = ["symbol,ts,close"]
    for hour in range(first, first + HOURS):
        stamp = (start + timedelta(hours=hour)).isoformat()
        for place, symbol in enumerate("AB"):
            close = around + 5 * math.sin(hour / 3 + place) + (hour * 7919 % 13) / 10
            lines.append(f"{symbol},{stamp},{close}")
    (services.home / name).write_text("\n".join([*lines, f"A,{start.isoformat()},-1"]))


def kinds(services: Services) -> list[str]:
    entries = services.log.read(EVENTS_TOPIC, after=0, limit=1000)
    return [msgspec.json.decode(entry.payload, type=Event).kind for entry in entries]


def test_files_become_features_and_are_counted(services: LocalServices) -> None:
    declare(services)
    candles(services, "first.csv")
    said = run(services, ingest_run("i", "candles"))
    rows = 2 * HOURS
    assert {name: said["files"][name] for name in ("read", "stored", "quarantined")} == {
        "read": rows + 1, "stored": rows, "quarantined": 1,
    }  # fmt: skip
    assert said["files"]["duplicates"] == 0
    assert said["files"]["reasons"] == {"positive(close)": 1}
    assert said["refresh"] == {"views": {"momentum": rows}}
    assert refresh_features(services, "candles") == {"momentum": 0}
    assert kinds(services) == ["raw.ingested", "features.generated"]
    candles(services, "second.csv", first=HOURS)
    named = run(services, ingest_run("n", "candles", paths=["first.csv"]))
    assert named["files"]["duplicates"] == rows + 1
    assert len(named["files"]["batches"]) == 1


def test_a_report_that_is_gone_is_said_to_be(watched: Watched) -> None:
    with pytest.raises(StateError, match="'r' is gone"):
        step_functions(watched.services)["monitor.react"]({}, {"look": {"report_id": "r"}})


def test_only_views_of_the_source_are_refreshed(watched: Watched) -> None:
    other = ps.Source(
        "other", entity=ps.Entity("symbol"), timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "x": ps.Float64},
    )  # fmt: skip
    watched.apply(ps.FeatureView("others", source=other, features=[ps.last("x")]))
    frame = pl.DataFrame({"x": [1.0]})
    watched.services.tables.append("raw/third", frame, app="raw/third", number=1)
    assert refresh_features(watched.services, "third") == {}


def test_without_records_there_is_nothing_to_refresh(services: LocalServices) -> None:
    declare(services)
    assert refresh_features(services, "candles") == {}


def test_training_tells_of_deprecated_features(services: LocalServices) -> None:
    declare(services, deprecated="2020-01-01")
    candles(services, "first.csv")
    run(services, ingest_run("i", "candles"))
    snapshot = step_functions(services)["train.snapshot"]
    said = cast("list[str]", snapshot({"model": "direction", "run_id": "train-1"}, {})["warnings"])
    assert said[-1].startswith("momentum.mean_close_6h has been deprecated since 2020-01-01")
    assert said[-1].endswith("Still read by model direction.")
    declare(services)
    assert snapshot({"model": "direction", "run_id": "train-1"}, {})["warnings"] == said[:-1]


def test_a_dataset_is_built_of_what_was_pinned(services: LocalServices) -> None:
    declare(services)
    candles(services, "first.csv")
    run(services, ingest_run("i", "candles"))
    functions = step_functions(services)
    given = train_run("t", "direction").parameters
    pinned = functions["train.pin"](given, {})
    assert pinned == {"versions": {"raw/candles": services.tables.version("raw/candles")}}
    candles(services, "second.csv", first=HOURS)
    run(services, ingest_run("i2", "candles"))
    made = functions["train.snapshot"](given, {"pin": pinned})
    assert functions["train.snapshot"](given, {"pin": pinned}) == made
    snapshot = services.metadata.read(DatasetSnapshot, str(made["dataset_id"]))
    assert snapshot is not None
    assert (snapshot.tables, snapshot.batches) == (pinned["versions"], {"candles": 1})
    # A run that was begun before there was this step reads what is newest.
    assert cast("int", functions["train.snapshot"](given, {})["rows"]) > snapshot.rows


@pytest.mark.slow
@pytest.mark.timeout(300)  # three worker processes import all of training, on a busy machine
def test_the_loop_by_its_steps(services: LocalServices) -> None:
    """Trained, deployed, scored, watched, rolled back; and a gate that nobody passes."""
    declare(services)
    candles(services, "first.csv")
    run(services, ingest_run("i", "candles"))

    first = run(services, train_run("t1", "direction"))
    assert first["register"]["message"] == "direction@1 is ready"
    assert first["deploy"] == {
        "promoted": True, "deployments": {"btc": 1}, "reason": "direction@1 passed every gate",
    }  # fmt: skip
    assert aliases(services.metadata, "direction").champion == 1
    second = run(services, train_run("t2", "direction", promote=True))
    assert second["deploy"]["deployments"] == {"btc": 2}
    refuse(services, second)

    candles(services, "second.csv", first=HOURS, around=140)
    run(services, ingest_run("i2", "candles"))
    scored = run(services, score_run("s", "btc"))
    assert scored["score"]["rows"] == 4 * HOURS
    watched = run(services, monitor_run("m", "btc"))
    assert watched["look"]["version"] == "direction@2"
    assert watched["look"]["breaches"][0].startswith("drift of momentum.last_close: psi ")
    assert watched["react"]["actions"] == {"rollback": "direction@1 answers now"}
    assert aliases(services.metadata, "direction").champion == 1
    assert kinds(services).count("model.ready") == 2
    assert kinds(services).count("deployment.changed") == 3


def refuse(services: Services, earlier: Mapping[str, Mapping[str, Any]]) -> None:
    """Register what an earlier run trained as if a gate had refused it."""
    evaluation = earlier["evaluate"]["evaluation"]
    verdict = {
        "gate": "beats champion", "passed": False, "value": 0.5, "bound": 0.6,
        "reason": "roc_auc 0.5 does not beat 0.6",
    }  # fmt: skip
    results = [result | {"ready": False, "verdicts": [verdict]} for result in evaluation["results"]]
    outputs = {**earlier, "evaluate": {"evaluation": evaluation | {"results": results}}}
    given = train_run("t3", "direction", promote=True).parameters
    said = step_functions(services)["train.register"](given, outputs)
    assert said["stop"] is True
    assert said["message"] == (
        "no candidate is ready: direction@3 (LogisticRegression): roc_auc 0.5 does not beat 0.6"
    )
    assert aliases(services.metadata, "direction").candidate == 2


def test_what_is_trained_is_the_candidate_once_it_is_packaged(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, the step ends the same when it is done again."""
    with open_services(served.home, actor="tester") as services:
        unpackaged = served.registered[1]
        known = services.metadata.read(ModelVersion, unpackaged.key)
        assert known is not None
        pointers = aliases(services.metadata, "direction")
        first = msgspec.structs.replace(pointers, candidate=1, revision=pointers.revision + 1)
        services.metadata.write(Put(unpackaged, expected=known), Put(first, expected=pointers))
        step = step_functions(services)["train.package"]
        given, outputs = {"model": "direction"}, {"register": {"ready": 2}}

        def killed(*_: object) -> None:
            assert aliases(services.metadata, "direction").candidate == 1
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("penstock.control.training.nominate", killed)
            with pytest.raises(KeyboardInterrupt):
                step(given, outputs)
        packaged = get_version(services.metadata, "direction", 2)
        assert packaged.engine
        for _ in range(2):
            assert step(given, outputs)["engine"] == packaged.engine
            assert aliases(services.metadata, "direction").candidate == 2
        done = [entry.action for entry in services.metadata.audit()]
        assert done[-2:] == ["package", "nominate"]


@pytest.mark.parametrize(
    ("champion", "promote", "reason"),
    [
        (1, None, "direction@1 stays champion; direction@2 is its candidate"),
        (0, False, "nothing is deployed; direction@2 is its candidate"),
        (1, True, "no deployment of direction is declared; direction@2 is its candidate"),
        (0, None, "no deployment of direction is declared; direction@2 is its candidate"),
    ],
)
def test_what_is_not_deployed_says_why(
    watched: Watched, champion: int, promote: object, reason: str
) -> None:
    if champion:
        watched.answers(champion)
    applied = watched.services.metadata.read(AppliedDeclaration, "deployment/btc")
    assert applied is not None
    watched.services.metadata.write(Delete(applied))
    given = {"model": "direction"} | ({} if promote is None else {"promote": promote})
    deploy = step_functions(watched.services)["train.deploy"]
    assert deploy(given, {"register": {"ready": 2}}) == {
        "promoted": False, "deployments": {}, "reason": reason,
    }  # fmt: skip


def test_a_breach_seen_is_a_breach_acted_on(watched: Watched) -> None:
    services = watched.services
    bound = psi(min_rows=50)
    actions = [ps.notify("ops"), ps.rollback()]
    watched.apply(ps.Monitor(deployment=watched.endpoint, drift=bound, on_breach=actions))
    nothing = run(services, monitor_run("m0", "btc"))
    assert nothing["look"]["stop"] is True
    assert "nothing to look at" in nothing["look"]["message"]

    watched.answers(1)
    ids = watched.scored(watched.reference[:60] + 3, at_us=services.clock.now_us())
    observe(services, "btc", [Observation(prediction_id=ids[0], value=1, observed_at_us=1)])
    said = run(services, monitor_run("m1", "btc"))
    assert said["drain"]["observations"] == 1
    assert said["look"]["version"] == "direction@1"
    assert [text.partition(":")[0] for text in said["look"]["breaches"]] == [
        "drift of momentum.last_close", "drift of momentum.count_1d",
    ]  # fmt: skip
    assert said["react"]["actions"] == {
        "notify ops": "told", "rollback": "not done: there is no previous version",
    }  # fmt: skip
    assert len(services.metadata.find(MonitorReport)) == 1

    watched.scored(watched.reference, at_us=services.clock.now_us())
    again = run(services, monitor_run("m2", "btc"))
    assert again["look"]["breaches"] == []
    assert again["react"] == {"incident_id": "", "actions": {}}
    assert [incident.state for incident in services.metadata.find(Incident)] == ["closed"]
