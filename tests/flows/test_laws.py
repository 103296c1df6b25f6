"""The laws of the platform, each once, over a whole project and its real processes."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

import httpx
import msgspec
import polars as pl
import pytest

from penstock.access import system_identity, token_hash
from penstock.control import lineage, refresh_features, replay, retry, start, train_run
from penstock.datasets import build, load
from penstock.deployment import deploy
from penstock.errors import ConflictError, NotFoundError
from penstock.features import point_in_time
from penstock.http.api_app import build_app
from penstock.ingest import ingest_files
from penstock.plan import Catalogue
from penstock.ports import EVENTS_TOPIC, Put
from penstock.records import Event, Identity, ModelVersion, Role
from penstock.registry import aliases
from penstock.runtime import LocalServices, open_services
from penstock.scoring import drain_scores, score_batch
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.control import Lineage, Link
    from penstock.records import DatasetSnapshot
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

DEPLOY = """
import sys
from pathlib import Path
from penstock.deployment import deploy
from penstock.runtime import LocalServices, open_services
with open_services(Path(sys.argv[1]), actor="killed") as services:
    print("ready", flush=True)
    deploy(services, "btc", version=int(sys.argv[2]), wait_s=0)
"""
HOURS, DAY, SYMBOLS = 240, 24, 3
ENTITY = {"entity": {"symbol": "BTC"}}
SERVED_ROUTES = {
    "/v1/deployments": "GET", "/v1/deployments/btc/predict": "POST", "/v2": "GET",
    "/v2/models/btc": "GET", "/v2/models/btc/infer": "POST", "/v2/models/btc/ready": "GET",
    "/metrics": "GET", "/openapi.json": "GET", "/no/such/path": "GET",
}  # fmt: skip


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


class Answering(msgspec.Struct, frozen=True):
    """A project whose deployment ``btc`` is answered by a serving process."""

    services: LocalServices
    http: httpx.Client

    def predict(self) -> dict[str, Any]:
        """Ask for a score."""
        answer = self.http.post("/v1/deployments/btc/predict", json=ENTITY)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def answering(
    served_template: ServedProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Answering]:
    home = tmp_path_factory.mktemp("laws") / "home"
    shutil.copytree(served_template.home, home)
    project = msgspec.structs.replace(served_template, home=home)
    with open_services(project.home, actor="tester") as services:
        know_everybody(services)
        deploy(services, "btc", version=1)
        with serving(project) as http:
            yield Answering(services, http)


def know_everybody(services: LocalServices) -> None:
    """Store somebody of each role, whose token is the role's name."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for role in get_args(Role):
        known = Identity(name=f"ana-{role}", role=role, token_sha256=token_hash(role),
                         created_at=now)  # fmt: skip
        services.metadata.write(Put(known))


def candles_of(first: int, hours: int, seed: int) -> pl.DataFrame:
    """Candles of the project's symbols; the first 240 hours of seed 1 are in it."""
    # It loads every library of training, which most tests never need.
    from penstock.testing.served_project import START, SYMBOLS, candles  # noqa: PLC0415

    return candles(SYMBOLS, START + timedelta(hours=first), hours, seed)


def more_candles(services: LocalServices, folder: Path, *, seed: int = 5) -> None:
    """A day that follows upon what the project has, of other prices."""
    path = folder / f"later-{seed}.parquet"
    later = candles_of(HOURS, DAY, seed)
    later.with_columns(pl.col("close") * 1_000).write_parquet(path)
    ingest_files(services, Catalogue.load(services.metadata).source("candles"), paths=[path])


def kinds_in(found: Lineage) -> set[tuple[str, str]]:
    """Kind and id of everything in a tree."""
    links = [*found.comes_from, *found.leads_to]
    said: set[tuple[str, str]] = set()
    while links:
        link: Link = links.pop()
        said.add((link.kind, link.id))
        links += link.links
    return said


# Laws 1 and 2: every record once, and counts that add up.


def test_a_file_that_comes_again_in_any_form_adds_nothing(
    services: LocalServices, tmp_path: Path
) -> None:
    source = Catalogue.load(services.metadata).source("candles")
    path = tmp_path / "again.parquet"
    again = candles_of(0, HOURS, 1)
    bad = again.head(2).with_columns(pl.col("ts") - pl.duration(days=9), close=pl.lit(-1.0))
    pl.concat([again, bad]).write_parquet(path)

    (batch,) = ingest_files(services, source, paths=[path])
    ingest_files(services, source, paths=[path])

    assert (batch.stored, batch.quarantined, batch.duplicates) == (0, 2, len(again))
    assert batch.read == batch.stored + batch.quarantined + batch.duplicates
    raw = services.tables.scan("raw/candles").collect()
    assert len(raw) == len(raw.unique(["symbol", "ts"])) == len(again)
    assert len(services.tables.scan("quarantine/candles").collect()) == 2


# Law 4: no look-ahead.


def test_what_comes_later_changes_no_row_of_a_dataset(
    services: LocalServices, tmp_path: Path
) -> None:
    dataset = Catalogue.load(services.metadata).deployment("btc").model.dataset
    snapshots: list[DatasetSnapshot] = [build(services, dataset)]
    before = load(services, snapshots[0])

    more_candles(services, tmp_path)
    snapshots.append(build(services, dataset))

    after = load(services, snapshots[1])
    assert len(after) > len(before)
    spine = before.select("symbol", "at")
    again = spine.join(after, on=["symbol", "at"], maintain_order="left")
    assert again.drop("part").equals(before.drop("part"))
    pinned = point_in_time(services.tables, dataset.views, spine, versions=snapshots[0].tables)
    assert pinned.select(dataset.feature_names).equals(before.select(dataset.feature_names))
    for rows in (before, after):
        ends = {str(part): rows.filter(part=part)["at"] for part in ("train", "validation", "test")}
        hour = timedelta(hours=1)
        assert ends["train"].max() + hour <= ends["validation"].min()  # type: ignore[operator]
        assert ends["validation"].max() + hour <= ends["test"].min()  # type: ignore[operator]


# Laws 5 and 6: origins and replay.


def test_an_answer_leads_back_to_its_file_and_is_replayed(
    answering: Answering, tmp_path: Path
) -> None:
    services, answer = answering.services, answering.predict()
    more_candles(services, tmp_path, seed=6)
    refresh_features(services, "candles")
    later = answering.predict()

    found = kinds_in(lineage(services, answer["prediction_id"]))

    kinds = {kind for kind, _ in found}
    assert {"features", "version", "dataset", "table", "batch", "file", "run", "code"} <= kinds
    (file,) = {name for kind, name in found if kind == "file"}
    assert ("version", "direction@1") in kinds_in(lineage(services, file))
    for one in (answer, later):
        told = replay(services, one["prediction_id"])
        assert told.same, told
        assert told.from_raw == pytest.approx(told.logged, abs=1e-6)
    assert later["probability"] != answer["probability"]


def test_batch_scores_are_replayed_too(services: LocalServices, tmp_path: Path) -> None:
    deploy(services, "btc", version=2)
    score_batch(services, "btc")
    more_candles(services, tmp_path)
    assert score_batch(services, "btc").rows == DAY * SYMBOLS
    assert score_batch(services, "btc").rows == 0
    late = tmp_path / "late.parquet"  # older than every score, and of no batch that they have seen
    candles_of(-9, 9, 7).write_parquet(late)
    ingest_files(services, Catalogue.load(services.metadata).source("candles"), paths=[late])

    scores = services.tables.scan("scores/btc").collect()

    assert len(scores.unique(["entity", "at_us"])) == len(scores) == (HOURS + DAY) * SYMBOLS
    some = scores.sort("at_us")["prediction_id"].gather([0, 40, -1]).to_list()
    assert all(replay(services, one).same for one in some)
    assert "file" in {kind for kind, _ in kinds_in(lineage(services, some[0]))}


# Law 9: nothing answers before it was checked.


def test_no_way_to_promote_goes_round_the_checks(services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    (second,) = services.metadata.find(ModelVersion, where={"version": 2})
    services.metadata.write(Put(msgspec.structs.replace(second, package="0" * 64)))
    command = [sys.executable, "-m", "penstock.cli", "--home", str(services.home)]
    for words in (["models", "promote", "direction@2"], ["deploy", "btc", "--version", "2"]):
        done = subprocess.run([*command[:3], *words, *command[3:]], check=False)
        assert done.returncode == 1
        assert aliases(services.metadata, "direction").champion == 1


# Law 10: every command may be killed.


def test_a_killed_deployment_is_done_or_not_and_then_done_once(
    services: LocalServices, served: ServedProject
) -> None:
    for version in (1, 2, 1):
        before = aliases(services.metadata, "direction")
        command = [sys.executable, "-c", DEPLOY, str(served.home), str(version)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0, 0.3))  # noqa: S311 - any moment
        process.kill()
        process.wait()
        process.stdout.close()

        seen = aliases(services.metadata, "direction")
        deploy(services, "btc", version=version)
        after = aliases(services.metadata, "direction")

        assert seen in (before, after)
        assert (after.champion, after.previous) == (version, before.champion)
        assert after.revision == before.revision + 1
    entries = [one for one in services.metadata.audit() if one.action == "promote"]
    assert len(entries) == 3
    assert services.metadata.verify_audit() > 0
    log = services.log.read(EVENTS_TOPIC, after=0, limit=1_000)
    events = [msgspec.json.decode(entry.payload, type=Event) for entry in log]
    changed = [one.ids["version"] for one in events if one.event_id.startswith(
        "deployment.changed:btc:")]  # fmt: skip
    assert changed == ["1", "2", "1"]


# Law 11: each part stands alone.


def test_scoring_goes_on_while_everything_else_is_gone(answering: Answering) -> None:
    state = answering.services.layout.state
    answering.predict()
    hidden = [state / name for name in ("workflows.db", "events.db", "tables", "artifacts")]
    there = [path for path in hidden if path.exists()]
    for path in there:
        path.rename(path.with_name(f"{path.name}.gone"))
    try:
        with closing(sqlite3.connect(state / "metadata.db", isolation_level=None)) as locked:
            locked.execute("BEGIN EXCLUSIVE")
            answers = [answering.predict() for _ in range(10)]
            time.sleep(0.5)  # the process looks at the metadata meanwhile
            answers.append(answering.predict())
    finally:
        for path in there:
            path.with_name(f"{path.name}.gone").rename(path)

    drain_scores(answering.services, "btc")
    stored = answering.services.tables.scan("scores/btc").collect()["prediction_id"]
    assert {one["prediction_id"] for one in answers} <= set(stored)


# Law 12: nothing without permission, and everything is written down.


def test_no_scoring_route_is_open(answering: Answering) -> None:
    for path, method in SERVED_ROUTES.items():
        assert status(answering.http, method, path, "") == 401, path
        assert status(answering.http, method, path, "nobody's") == 401, path
        as_reader = status(answering.http, method, path, "reader")
        assert (as_reader == 403) == (method == "POST"), path


def status(http: httpx.Client, method: str, path: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}" if token else ""}
    return http.request(method, path, headers=headers, json=ENTITY).status_code


def test_no_control_route_is_open_and_who_is_refused_changes_nothing(
    services: LocalServices,
) -> None:
    know_everybody(services)
    app = build_app(services)
    routes = [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if "health" not in path
    ]
    revision, end = len(services.metadata.audit()), services.log.end("candles")

    async def walk() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            for method, path in [*routes, ("GET", "/openapi.json")]:
                for token, wanted in expected(method, path):
                    headers = {"Authorization": f"Bearer {token}"} if token else {}
                    answer = await http.request(method, path, headers=headers, json={})
                    assert answer.status_code == wanted, (method, path, token)

    asyncio.run(walk())

    assert len(routes) > 15
    assert (len(services.metadata.audit()), services.log.end("candles")) == (revision, end)
    assert list(services.workflows.runs()) == []


def expected(method: str, path: str) -> list[tuple[str, int]]:
    """Tokens that must not do, and what they are answered."""
    refused = [("", 401), ("nobody's", 401)]
    if method == "GET":
        return refused
    # Who approves a rollout is declared with it, and may be a writer.
    for_writers = path.endswith(("/events", "/observations", "/approve", "/reject"))
    for_writers = for_writers or "/jobs" in path
    return [*refused, ("reader", 403), *([] if for_writers else [("writer", 403)])]


def test_every_run_has_somebody_who_asked_for_it(services: LocalServices) -> None:
    asked = services.acting(system_identity("ana"))
    before = len(services.metadata.audit())
    for _ in range(2):
        start(asked, train_run("one", "direction"))
    services.workflows.cancel("one")
    retry(services.acting(system_identity("bob")), "one")
    for run_id, error in (("one", ConflictError), ("none", NotFoundError)):
        with pytest.raises(error):
            retry(asked, run_id)

    entries = services.metadata.audit()[before:]

    assert [(one.actor, one.action, one.subject) for one in entries] == [
        ("ana", "start train", "run/one"),
        ("bob", "retry", "run/one"),
    ]
    assert entries[0].difference["parameters"] == {"model": "direction", "run_id": "one"}
