from __future__ import annotations

import io
import json
import re
import struct
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.errors import UnavailableError
from penstock.plan import Catalogue, apply
from penstock.records import Identity, Score
from penstock.registry import aliases
from penstock.runtime import open_services
from penstock.scoring import ScoreLog, load_served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Services
    from penstock.scoring import ServedVersion
    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Call = Callable[..., Said]

PROJECT = """
import penstock as ps

symbol = ps.Entity("symbol")
candles = ps.Source(
    "candles",
    entity=symbol,
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    expect=[ps.positive("close"), ps.unique("symbol", "ts")],
    batch=ps.Files("data/*.csv"),
)
momentum = ps.FeatureView("momentum", source=candles, features=[ps.last("close"), ps.count()])
"""
ROWS = """symbol,ts,close
BTC,2026-01-01T00:00:00Z,1.5
BTC,2026-01-01T01:00:00Z,2.5
ETH,2026-01-01T00:00:00Z,-1
"""


@pytest.fixture
def home(tmp_path: Path, call: Call) -> Path:
    """A project folder that is applied, with a file that was not read yet."""
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    (folder / "project.py").write_text(PROJECT)
    (folder / "data").mkdir()
    (folder / "data" / "one.csv").write_text(ROWS)
    assert call("apply", "--home", folder).code == 0
    return folder


def test_init_makes_a_token_that_nobody_else_reads(tmp_path: Path, call: Call) -> None:
    said = call("init", "--home", tmp_path, "--json")

    token = tmp_path / ".penstock" / "token"
    assert said.value == {"home": str(tmp_path), "token": str(token)}
    assert token.stat().st_mode & 0o077 == 0
    with open_services(tmp_path) as services:
        assert [one.name for one in services.metadata.find(Identity)] == ["admin"]


def test_plan_shows_and_changes_nothing(home: Path, call: Call) -> None:
    project = home / "project.py"
    project.write_text(project.read_text().replace("ps.count()", 'ps.count(over="1d")'))

    said = call("plan", "--home", home)
    told = call("plan", "--home", home, "--json").value

    assert "~ change" in said.out
    assert [step["step"] for step in told["steps"]] == ["change", "stale"]
    assert call("plan", "--home", home, "--json").value == told


def test_applying_twice_changes_nothing(home: Path, call: Call) -> None:
    again = call("apply", "--home", home, "--json").value

    assert (again["empty"], again["revision"]) == (True, 1)


def test_faults_of_the_project_are_told_together(home: Path, call: Call) -> None:
    text = PROJECT.replace('"close": ps.Float64}', '"closed": ps.Float64}')
    (home / "project.py").write_text(text)

    said = call("plan", "--home", home)

    assert said.code == 1
    assert "project.py:5" in said.err
    assert "Did you mean 'closed'?" in said.err
    assert "Traceback" not in said.err


def test_a_folder_without_a_project_says_what_to_run(tmp_path: Path, call: Call) -> None:
    said = call("status", "--home", tmp_path)

    assert said.code == 1
    assert "penstock init" in said.err


@pytest.mark.slow
def test_data_goes_in_and_features_come_out(home: Path, call: Call) -> None:
    (done,) = call("ingest", "candles", "--home", home, "--json").value
    (again,) = call("ingest", "--home", home, "--json").value
    built = call("features", "build", "--home", home)
    get = ("features", "get", "momentum", "--home", home, "--json", "--keys", "BTC,XRP")
    online = call(*get).value
    then = call(*get, "--at", "2026-01-01T00:30:00Z").value

    counts = ("read", "stored", "quarantined", "duplicates")
    assert [done[name] for name in counts] == [3, 2, 1, 0]
    assert [again[name] for name in counts] == [3, 0, 0, 3]
    assert built.code == 0
    assert [row["momentum.last_close"] for row in online] == [2.5, None]
    assert [row["momentum.count"] for row in then] == [1, 0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("features", "get", "momentum", "--keys", "BTC", "--at", "noon"), "is no time"),
        (("features", "get", "momentum", "--keys", "BTC", "--at", "2026-01-01T12"), "no time zone"),
        (("features", "get", "momentum", "--keys", ","), "no entity"),
        (("ingest", "--file", "x.csv"), "needs the name of the source"),
        (("runs", "list", "--state", "lost"), "There is no state"),
        (("predict", "btc"), "Give either --key"),
        (("observe", "btc", "--id", "p"), "Give either --id and --value"),
        (
            ("observe", "btc", "--id", "p", "--value", "1", "--measure", "revenue"),
            "write revenue=12.5",
        ),
        (("client", "btc", "--out", "c", "--url", "localhost:8001"), "like http://localhost:8001"),
        (("client", "btc", "--out", "c", "--url", "http://[::1"), "is no address"),
        (("demo", "psystok"), "Did you mean 'psystock'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_told_apart_from_failure(
    home: Path, call: Call, words: tuple[str, ...], said: str
) -> None:
    answer = call(*words, "--home", home)

    assert answer.code == 2
    assert said in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "candle"),
        ("features", "build", "momentun"),
        ("features", "get", "momentun", "--keys", "BTC"),
        ("models", "list", "direction"),
        ("train", "direction"),
        ("deploy", "btc"),
        ("predict", "btc", "--key", "BTC"),
        ("score", "btc"),
        ("monitor", "btc"),
        ("runs", "show", "train-1"),
        ("lineage", "nothing"),
        ("replay", "nothing"),
    ],
    ids=" ".join,
)
def test_unknown_names_fail_in_one_block(home: Path, call: Call, words: tuple[str, ...]) -> None:
    said = call(*words, "--home", home)

    assert said.code == 1
    assert said.err.startswith("error not_found")
    assert said.out == ""


def test_models_are_listed_shown_and_promoted(served: ServedProject, call: Call) -> None:
    home = ("--home", served.home)

    promoted = call("models", "promote", "direction@2", *home)
    listed = call("models", "list", *home)
    shown = call("models", "show", "direction@champion", *home, "--json").value
    page = call("models", "show", "direction@champion", *home).out

    assert "direction@2 is champion" in promoted.out
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == [
        "direction@2",
        "direction@1",
    ]
    assert shown["version"]["version"] == 2
    service_id = shown["dataset"]["service_id"]
    assert len(service_id) == 16
    assert f"5 of service scoring ({service_id})" in " ".join(page.split())
    tried = {(one["engine"], one["dtype"]): one for one in shown["engine"]["tried"]}
    assert {"native", "onnx"} <= {engine for engine, _ in tried}
    assert all(one["one_us"] > 0 for one in tried.values() if one["proved"])
    assert all(f"{engine} {dtype}" in page for engine, dtype in tried)
    assert call("models", "promote", "direction@7", *home).code == 1


def test_models_are_not_promoted_around_an_approval(served: ServedProject, call: Call) -> None:
    assert call("models", "promote", "direction@1", "--home", served.home).code == 0
    with open_services(served.home) as services:
        asked = [
            msgspec.structs.replace(one, approve=ps.Approval())
            for one in Catalogue.load(services.metadata).all(ps.Deployment)
        ]
        project = ps.Project("served", declarations=asked)
        apply(services.metadata, project, actor="tester", now=services.clock.now())

    refused = call("models", "promote", "direction@2", "--home", served.home)

    assert refused.code == 1
    assert "run 'penstock deploy btc --version N'" in " ".join(refused.err.split())
    # What answers already may be made to: it takes traffic from nobody.
    assert call("models", "promote", "direction@1", "--home", served.home).code == 0


def test_a_deployment_goes_forth_and_back(served: ServedProject, call: Call) -> None:
    home = ("--home", served.home)

    first = call("deploy", "btc", "--version", "direction@1", *home)
    call("deploy", "btc", "--version", 2, *home)
    back = call("rollback", "btc", *home, "--json").value

    assert "direction@1 answers on btc" in first.out
    assert (back["version"], back["previous"]) == (1, 2)
    assert call("deploy", "btc", "--version", "newest", *home).code == 2


def test_a_version_waits_for_an_approval_or_is_called_off(
    served: ServedProject, call: Call
) -> None:
    home = ("--home", served.home)

    nothing = call("deploy", "btc", "--status", *home)
    asked = call("deploy", "btc", "--version", 1, "--approve", *home)
    both = call("deploy", "btc", "--status", "--abort", *home)
    mine = call("approve", "btc", "--reason", "mine", *home)
    shown = call("deploy", "btc", "--status", "--json", *home).value
    ended = call("deploy", "btc", "--abort", "--reason", "no time", *home)
    other = call("approve", "btc", *home)

    assert "error not_ready" in nothing.err
    assert (asked.code, "waits for an approval" in asked.out) == (0, True)
    assert "penstock approve btc" in asked.out
    assert "It takes an admin other than admin, who asked" in " ".join(asked.out.split())
    assert both.code == 2
    assert "error access" in mine.err
    assert "four eyes" in " ".join(mine.err.split())
    assert "penstock users add NAME --role admin" in " ".join(mine.err.split())
    assert (shown["state"], shown["approver"]) == ("waiting", None)
    assert "direction@1 on btc is aborted by admin: no time" in ended.out
    assert "error not_ready" in other.err


def test_a_version_that_does_not_hold_is_refused_with_the_reason(
    served: ServedProject, call: Call
) -> None:
    with open_services(served.home) as services:
        catalogue = Catalogue.load(services.metadata)
        changed = [
            msgspec.structs.replace(one, checks=ps.Checks(latency="1us"))
            for one in catalogue.all(ps.Deployment)
        ]
        project = ps.Project("served", declarations=changed)
        apply(services.metadata, project, actor="tester", now=services.clock.now())

    said = call("deploy", "btc", "--version", 1, "--home", served.home)

    assert said.code == 1
    assert "✗  unit     latency of 1 row, us" in said.out
    assert "error gate" in said.err
    assert "direction@1 does not take traffic on 'btc': latency of 1 row" in said.err
    with open_services(served.home) as services:
        assert aliases(services.metadata, "direction").champion == 0


def test_a_prediction_without_a_serving_process_is_logged_and_replayed(
    served: ServedProject, call: Call
) -> None:
    home = ("--home", served.home)
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
    at = ("--at", "2026-01-20T12:00:00Z")

    told = call("predict", "btc", "--key", "BTC", *at, *home, "--json").value
    replayed = call("replay", told["prediction_id"], *home)
    origin = call("lineage", told["prediction_id"], *home)

    assert 0 < told["probability"]["true"] < 1
    assert (told["model"], told["version"], told["route"]) == ("direction", 1, "champion")
    assert replayed.code == 0
    assert "The same again." in replayed.out
    assert "direction@1" in origin.out
    assert "candles.parquet" in origin.out


def test_a_batch_run_says_what_it_scored(served: ServedProject, call: Call) -> None:
    home = ("--home", served.home)
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)

    first, again = call("score", "btc", *home), call("score", "btc", *home)

    assert re.search(r"✓ direction@1 scored [\d,]+ rows on btc\.", first.out)
    assert "✓ Nothing new to score on btc." in again.out


def test_a_score_of_an_unknown_entity_is_said_to_be_one(served: ServedProject, call: Call) -> None:
    home = ("--home", served.home)
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)

    known = call("predict", "btc", "--key", "BTC", *home)
    unknown = call("predict", "btc", "--key", "BTX", *home)

    assert (known.code, known.err) == (0, "")
    assert unknown.code == 0
    assert "No record of 'BTX' has come to 'momentum' yet: this is the score of an" in unknown.err


def test_features_may_be_handed_in(served: ServedProject, call: Call) -> None:
    home = ("--home", served.home)
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
    given = [word for name in served.features for word in ("--feature", f"{name}=1.5")]

    assert call("predict", "btc", *given, *home).code == 0
    missing = call("predict", "btc", *given[2:], *home)
    assert missing.code == 1
    assert f"--feature {served.features[0]} is missing" in missing.err


def test_observations_come_from_a_file(served: ServedProject, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "came-true.jsonl"
    file.write_text(
        "".join(json.dumps({"prediction_id": f"p{n}", "value": n % 2}) + "\n" for n in range(4))
    )
    home = ("--home", served.home)

    assert call("observe", "btc", "--file", file, *home, "--json").value["count"] == 4
    file.write_text('{"prediction_id": "p"}\n')
    wrong = call("observe", "btc", "--file", file, *home)
    assert wrong.code == 1
    assert "line 1" in wrong.err
    assert call("observe", "btc", "--id", "p", "--value", "0.5", *home).code == 1


def test_status_and_doctor_look_at_everything(served: ServedProject, call: Call) -> None:
    home = ("--home", served.home)
    with open_services(served.home) as services:
        deploy(services, "btc", version=2)
        assert aliases(services.metadata, "direction").champion == 2

    told = call("status", *home, "--json").value
    found = {one["check"]: one for one in call("doctor", *home, "--json").value}

    assert told["deployments"][0]["answers"] == "direction@2"
    assert told["partitions"] == [
        {"view": "momentum", "partition": "1 of 1", "kept by": "-", "last batch": 1, "waiting": 0}
    ]
    assert {one["state"] for one in found.values()} <= {"ok", "warning"} | {
        found["declarations"]["state"]  # its project was applied without a module
    }
    assert found["audit chain"]["state"] == "ok"
    assert found["tables"]["found"].startswith("1 table, 720 rows")


def test_doctor_finds_what_is_broken(served: ServedProject, call: Call) -> None:
    (served.home / ".penstock" / "token").chmod(0o644)
    (log,) = (served.home / ".penstock" / "tables" / "raw" / "candles").glob("*.parquet")
    log.unlink()

    said = call("doctor", "--home", served.home, "--json")

    found = {one["check"]: one for one in said.value}
    assert said.code == 1
    assert found["token"]["state"] == "failed"
    assert "chmod 600" in found["token"]["remedy"]
    assert found["tables"]["state"] == "failed"


@pytest.mark.slow
def test_a_failed_run_says_why_and_goes_on_when_it_can(home: Path, call: Call) -> None:
    late = home / "data" / "late.csv"

    failed = call("ingest", "candles", "--file", late, "--home", home)
    (run,) = call("runs", "list", "--state", "failed", "--home", home, "--json").value
    late.write_text(ROWS)
    retried = call("runs", "retry", run["run_id"], "--home", home)
    shown = call("runs", "show", run["run_id"], "--home", home, "--json").value

    assert failed.code == 1
    assert "late.csv" in failed.err
    assert f"penstock runs retry {run['run_id']}" in failed.err
    assert retried.code == 0
    assert [step["state"] for step in shown["steps"]] == ["succeeded", "succeeded"]


def test_features_are_backfilled_and_only_what_changed_again(home: Path, call: Call) -> None:
    assert call("ingest", "candles", "--home", home).code == 0
    grid = ["--from", "2026-01-01", "--to", "2026-01-01T04:00Z", "--every", "1h"]
    first = call("features", "backfill", "momentum", *grid, "--home", home, "--json").value
    assert (first["computed"], first["recomputed"], first["kept"]) == (4, 0, 0)
    (home / "data" / "two.csv").write_text("symbol,ts,close\nBTC,2026-01-01T01:30:00Z,2\n")
    assert call("ingest", "candles", "--home", home).code == 0
    again = call("features", "backfill", "momentum", *grid, "--home", home, "--json").value
    assert (again["computed"], again["recomputed"], again["kept"]) == (0, 2, 2)
    shown = call("features", "backfill", "momentum", *grid, "--home", home)
    assert "recomputed" in shown.out
    assert shown.code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--every", "1 fortnight"], "--every"),
        (["--from", "soon"], "'soon' is no time"),
        (["--to", "2026-01-01T00:00"], "has no time zone"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "after its beginning"),
    ],
)
def test_times_of_a_backfill_that_are_none(
    home: Path, call: Call, words: list[str], message: str
) -> None:
    assert call("ingest", "candles", "--home", home).code == 0
    said = call("features", "backfill", "momentum", *words, "--home", home)
    assert said.code != 0
    assert message in said.err


def test_a_selection_names_an_unknown_dataset_and_a_wrong_number(home: Path, call: Call) -> None:
    said = call("features", "select", "momentun", "--home", home)
    assert said.code != 0
    assert "There is no dataset 'momentun'" in said.err
    assert call("features", "select", "x", "--top", "-1", "--home", home).code != 0


def test_features_check_ends_with_1_where_values_differ(home: Path, call: Call) -> None:
    for words in (("ingest", "candles"), ("features", "build")):
        assert call(*words, "--home", home).code == 0
    fine = call("features", "check", "momentum", "--home", home)
    assert fine.code == 0
    assert "2 columns online are what the raw tables say" in fine.out + fine.err
    with open_services(home) as services:
        (space,) = services.online.spaces()
        ((key, value),) = services.online.items(space)
        wrong = value.replace(struct.pack("<d", 2.5), struct.pack("<d", 2.75))
        assert wrong != value
        services.online.write(space, {key: wrong}, progress=2)
    said = call("features", "check", "--home", home, "--json")
    assert said.code == 1
    (report,) = said.value
    assert (report["origin"], report["subject"]) == ("online", "momentum")
    assert [(one["feature"], one["mismatches"], one["key"]) for one in report["checks"]] == [
        ("momentum.last_close", 1, "BTC"),
        ("momentum.count", 0, None),
    ]
    assert call("features", "build", "--again", "--home", home).code == 0
    assert call("features", "check", "--home", home).code == 0


def test_features_check_of_scores_ends_with_1_where_values_differ(
    served: ServedProject, call: Call
) -> None:
    home = ("--home", served.home)
    nothing = call("features", "check", "--served", *home)
    assert nothing.code == 1
    assert "no scores of any deployment" in nothing.err
    assert call("features", "check", "--served", "btc", "--over", "1x", *home).code == 2
    assert call("features", "check", "--served", "btc", "--over", "0s", *home).code == 2
    assert "no deployment 'bct'" in call("features", "check", "--served", "bct", *home).err
    with open_services(served.home) as services:
        version = load_served(services, "direction", 1)
        log = ScoreLog(services.score_log / "btc", services.ids)
        log.append([looked_up(services, version, symbol, 0.0) for symbol in ("ADA", "BTC")])
        fine = call("features", "check", "--served", "btc", *home)
        assert fine.code == 0
        assert "5 columns as scores saw them are what the raw tables say" in fine.out
        wrong = looked_up(services, version, "ETH", 0.5)
        log.append([wrong])
        log.close()
    said = call("features", "check", "--served", *home)
    assert said.code == 1
    assert "1 column of 5 differ from the raw tables" in said.out
    assert wrong.prediction_id in said.out
    assert "penstock replay PREDICTION" in said.out
    assert call("replay", wrong.prediction_id, *home).code == 1


def looked_up(services: Services, version: ServedVersion, key: str, off: float) -> Score:
    """A score of features that were looked up now, the first of them off by so much."""
    now_us = services.clock.now_us()
    values, at_us, progress, _ = version.read([key], np.array([now_us]))
    return Score(
        prediction_id=services.ids.new(),
        deployment="btc",
        model="direction",
        version=1,
        route="champion",
        engine="onnx",
        entity=key,
        at_us=int(at_us[0]),
        features=(float(values[0, 0]) + off, *(float(value) for value in values[0, 1:])),
        prediction=0.5,
        scored_at_us=now_us,
        duration_us=1,
        progress=progress[0],
    )


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.slow
def test_records_are_deleted_when_somebody_agrees(
    home: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("ingest", "--home", home).code == 0
    assert call("features", "build", "--home", home).code == 0
    delete = ("data", "delete", "candles", "--home", home, "--key", "symbol=BTC")
    one = (*delete, "--at", "2026-01-01T01:00:00Z")
    assert "Nothing has been deleted" in call("data", "deletions", "--home", home).out

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    refused = call(*one)
    monkeypatch.setattr("sys.stdin", Terminal(""))  # Ctrl-D
    stopped = call(*one)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    nobody = call(*one)
    silent = call(*one, "--json")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    agreed = call(*one)
    done = call(*delete, "--yes", "--json", "--id", "gdpr-1", "--reason", "asked to")
    again = call(*delete, "--yes", "--json", "--id", "gdpr-1")
    nothing = call(*delete, "--yes")
    (online,) = call("features", "get", "momentum", "--home", home, "--keys", "BTC", "--json").value

    assert (refused.code, stopped.code, nobody.code, silent.code) == (1, 130, 2, 2)
    assert "Nothing was deleted" in refused.err
    assert "This would delete 1 record" in nobody.err
    assert "Delete 1 record?" in agreed.err
    assert (agreed.code, done.code, nothing.code) == (0, 0, 1)
    assert (done.value["deleted"], done.value["features"]) == (1, ["momentum"])
    assert again.value == done.value
    assert "none that has not been deleted already" in nothing.err
    assert (online["momentum.last_close"], online["momentum.count"]) == (None, 0)
    (source,) = call("status", "--home", home, "--json").value["sources"]
    assert (source["stored"], source["deleted"]) == ("2", "2")
    listed = call("data", "deletions", "candles", "--home", home)
    newest, oldest = call("data", "deletions", "--home", home, "--json").value
    assert "asked to" in listed.out
    assert "2026-01-01 01:00:00" in listed.out
    assert (newest["batch_id"], newest["deletion"]["delete_id"]) == (
        done.value["batch_id"],
        "gdpr-1",
    )
    assert (oldest["deleted"], newest["deleted"]) == (1, 1)
    lineage = call("lineage", done.value["batch_id"], "--home", home).out
    assert "deletion gdpr-1" in lineage
    assert "asked to" in lineage
    with open_services(home) as services:
        assert services.metadata.verify_audit()


@pytest.mark.slow
def test_a_deletion_is_done_though_others_hold_the_features(
    home: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("ingest", "--home", home).code == 0

    def busy(*_: object) -> None:
        raise UnavailableError("Another process has the view.")

    monkeypatch.setattr("penstock.cli.deleting.refresh_features", busy)
    said = call("data", "delete", "candles", "--key", "symbol=BTC", "--yes", "--home", home)
    assert said.code == 0
    assert "do not follow yet: Another process has the view." in said.err
    assert call("data", "deletions", "--home", home, "--json").value[0]["deleted"] == 2


def test_records_are_deleted_by_admins(
    home: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = call("users", "add", "bob", "--role", "writer", "--json", "--home", home).value["token"]
    monkeypatch.setenv("PENSTOCK_TOKEN", token)
    said = call("data", "delete", "candles", "--key", "symbol=BTC", "--yes", "--home", home)
    assert said.code == 1
    assert "admin" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--key", "BTC"), "Write --key symbol=VALUE"),
        (("--key", "user=BTC"), "are deleted by 'symbol'"),
        (("--key", "symbol="), "Write --key symbol=VALUE"),
        (("--key", "symbol=BTC", "--at", "noon"), "--at 'noon' is no time"),
        ((), "--key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_deletions_that_name_nothing(
    home: Path, call: Call, words: tuple[str, ...], said: str
) -> None:
    answer = call("data", "delete", "candles", "--home", home, *words)
    assert answer.code == 2
    assert said in answer.err
