"""What Prometheus reads, held against what was asked."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

import penstock as ps
from penstock.deployment import deploy, package
from penstock.http.serve_metrics import families_of
from penstock.ports import Put
from penstock.registry import aliases, get_version
from penstock.runtime import Measured, exposition
from penstock.scoring import Ask, Counters, Endpoint, Lane, drain_scores
from penstock.testing.lanes import LaneWorld, Summing

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Metric

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    Client: TypeAlias = Any  # of the conftest beside this
    Families: TypeAlias = dict[str, Metric]

PREDICT, SPLIT = "/v1/deployments/btc/predict", "/v1/deployments/split/predict"


def _parsed(text: bytes) -> Families:
    return {one.name: one for one in text_string_to_metric_families(text.decode())}


def _sum(families: Families, name: str, **labels: str) -> float:
    family = name.removesuffix("_total").removesuffix("_count").removesuffix("_sum")
    return sum(
        sample.value
        for sample in families[family].samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _rows(symbols: list[str]) -> bytes:
    return msgspec.json.encode({"rows": [{"entity": {"symbol": one}} for one in symbols]})


def test_sums_are_what_was_asked(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    symbols = ["ADA", "BTC", "ETH", *(f"S{n}" for n in range(17))]

    async def conversation(client: Client) -> None:
        await asyncio.gather(*[client.post(PREDICT, _rows(symbols)) for _ in range(5)])
        await asyncio.gather(*[client.post(SPLIT, _rows(symbols)) for _ in range(3)])
        await client.post(PREDICT, b"{")
        await client.post("/v1/deployments/none/predict", b"{}")
        await client.get("/v2/models/btc", token="")
        found = _parsed((await client.get("/metrics")).body)

        requests = "penstock_http_requests_total"
        assert _sum(found, requests, kind="predict", status="200") == 8
        assert _sum(found, requests, kind="predict", status="400") == 1
        assert _sum(found, requests, kind="predict", status="404") == 1
        assert _sum(found, requests, status="401") == 1
        for name, rows in (("btc", 100), ("split", 60)):
            assert _sum(found, "penstock_scores_total", deployment=name) == rows
            assert _sum(found, "penstock_score_seconds_count", deployment=name) == rows
            assert _sum(found, "penstock_batch_rows_sum", deployment=name, role="champion") == rows
        assert _sum(found, "penstock_queue_rows") == 0
        assert _sum(found, "penstock_circuit_open") == 0
        loaded = found["penstock_model_info"].samples
        assert {"direction"} == {sample.labels["model"] for sample in loaded}
        assert all(sample.labels["engine"] for sample in loaded)
        assert 0 < _sum(found, "penstock_model_load_seconds", deployment="btc") < 60

    talk(conversation)


def test_histograms_only_grow_from_bound_to_bound(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        await client.post(PREDICT, _rows(["BTC"] * 150))
        found = _parsed((await client.get("/metrics")).body)
        for name in ("penstock_score_seconds", "penstock_batch_rows"):
            assert found[name].type == "histogram"
            buckets = [one for one in found[name].samples if one.name == f"{name}_bucket"]
            values = [one.value for one in buckets if one.labels["deployment"] == "btc"]
            bounds = [
                float(one.labels["le"]) for one in buckets if one.labels["deployment"] == "btc"
            ]
            assert bounds == sorted(bounds)
            assert values == sorted(values)
        bounds = [
            float(one.labels["le"])
            for one in found["penstock_score_seconds"].samples
            if "le" in one.labels
        ]
        assert (min(bounds), sorted(set(bounds))[-2]) == (1e-4, 10.0)

    talk(conversation)


def test_the_score_log_says_how_far_the_table_is_behind(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        async def measured() -> tuple[float, float, float]:
            found = _parsed((await client.get("/metrics")).body)
            names = ("bytes_total", "waiting_bytes", "lag_seconds")
            written, waiting, lag = (
                _sum(found, f"penstock_score_log_{name}", deployment="btc") for name in names
            )
            return written, waiting, lag

        assert await measured() == (0, 0, 0)
        await client.post(PREDICT, _rows(["BTC", "ETH"]))
        (path,) = (services.score_log / "btc").glob("*.jsonl")
        written, waiting, lag = await measured()
        assert written == waiting == path.stat().st_size
        assert 0 < lag < 60

        await asyncio.to_thread(drain_scores, services)
        assert await measured() == (written, 0, 0)

        await client.post(PREDICT, _rows(["BTC"]))
        more, waiting, _ = await measured()
        assert waiting == more - written

    talk(conversation)


def _endpoint(world: LaneWorld, **versions: Any) -> Endpoint:  # noqa: ANN401 - served versions
    source = ps.Source(
        "s", entity=ps.Entity("symbol"), timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "x": ps.Float64},
    )  # fmt: skip
    view = ps.FeatureView("v", source=source, features=[ps.last("x")])
    label = ps.Label("up", ps.lead("x", "1h") > ps.col("x"))
    dataset = ps.Dataset(
        "d", spine=source, features=[view], label=label, split=ps.TimeSplit(embargo="1h")
    )
    model = ps.Model("m", dataset=dataset, candidates=[ps.sklearn("a:B")])
    fallback = ps.Fallback(deadline="50ms", to="previous", value=0.5)
    declared = ps.Deployment("btc", model=model, fallback=fallback)
    lanes = {
        role: Lane("fallback" if role == "previous" else role, version, world.writer)
        for role, version in versions.items()
    }
    return Endpoint(declared, lanes, world.writer, Counters(), {})


def _told(endpoint: Endpoint) -> Families:
    families = families_of({"btc": endpoint}, {}, {})
    one = Measured(process_id=1, started_at_s=0, at_us=0, address="", worker=0, families=families)
    return _parsed(exposition([one]))


def test_errors_fallbacks_and_circuits_are_told_apart(tmp_path: Path) -> None:
    world = LaneWorld(tmp_path)
    held = Summing()
    endpoint = _endpoint(
        world, champion=world.version(2, held), previous=world.version(1, Summing())
    )

    async def ask(*values: float) -> None:
        await endpoint.score(Ask(world.writer.clock.now_us(), values=values))

    async def go() -> None:
        for _ in range(3):
            await ask(13.0, 1.0)  # fails in both: the constant answers
        endpoint.lanes["champion"].slow = True
        held.gate.clear()
        await ask(1.0, 1.0)  # late, and the previous version answers
        held.gate.set()
        await ask(1.0, 1.0)  # in time again
        for _ in range(6):
            await ask(13.0, 1.0)

    asyncio.run(go())
    found = _told(endpoint)
    errors, fallbacks = "penstock_score_errors_total", "penstock_fallbacks_total"
    assert _sum(found, errors, route="champion", version="2", kind="late") == 1
    failed = _sum(found, errors, route="champion", version="2", kind="user_code")
    assert failed == 8
    assert _sum(found, fallbacks, cause="late", to="previous") == 1
    assert _sum(found, fallbacks, cause="failed") == failed
    assert _sum(found, fallbacks, cause="circuit_open") == 9 - failed
    assert _sum(found, "penstock_scores_total") == 11
    assert _sum(found, "penstock_circuit_open", version="2") == 1


def test_labels_stay_few(tmp_path: Path) -> None:
    world = LaneWorld(tmp_path)
    endpoint = _endpoint(world, champion=world.version(2))

    async def go() -> None:
        score = await endpoint.score(Ask(world.writer.clock.now_us(), values=(1.0, 1.0)))
        for number in range(3, 1_003):
            endpoint.counters.answer(msgspec.structs.replace(score, version=number))
            endpoint.counters.fail("champion", number, "late")

    asyncio.run(go())
    found = _told(endpoint)
    assert len(found["penstock_scores"].samples) == 64
    assert len(found["penstock_score_errors"].samples) == 64
    assert _sum(found, "penstock_scores_total", version="1002") == 1


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_labels_are_escaped(name: str, tmp_path: Path) -> None:
    world = LaneWorld(tmp_path)
    endpoint = _endpoint(world, champion=world.version(2))
    endpoint.counters.fail(name, 1, "late")

    (sample,) = _told(endpoint)["penstock_score_errors"].samples
    assert sample.labels["route"] == name


def test_the_dashboard_names_what_there_is(
    talk: Callable[..., None], services: LocalServices
) -> None:
    path = Path(__file__).parents[3] / "examples" / "grafana" / "serving.json"
    document = msgspec.json.decode(path.read_bytes())
    queries = [target["expr"] for panel in document["panels"] for target in panel["targets"]]
    queries += [
        one["query"]["query"]
        for one in document["templating"]["list"]
        if isinstance(one["query"], dict)
    ]
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        await client.post(PREDICT, _rows(["BTC"]))
        counters = client.keeper.doors["btc"].endpoint.counters
        counters.fail("champion", 1, "late")
        counters.fall_back("previous", "late")
        found = _parsed((await client.get("/metrics")).body)
        labels: dict[str, set[str]] = {}
        for family in found.values():
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
        for query in queries:
            names = set(re.findall(r"\b(?:penstock|process)_\w+", query))
            assert names, query
            assert names <= labels.keys(), query
            grouped = re.findall(r"by \(([^)]*)\)", query)
            wanted = {label for group in grouped for label in re.split(r",\s*", group)}
            assert all(wanted <= labels[name] for name in names), query

    talk(conversation)


def test_a_version_that_is_packaged_while_it_shadows_is_served_by_its_engine(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    """Also by deployments that load it later, and as the champion that it becomes."""
    unpackaged = served.registered[0]
    packaged = get_version(services.metadata, "direction", 1)
    pointers = aliases(services.metadata, "direction")
    first = msgspec.structs.replace(pointers, candidate=1, revision=pointers.revision + 1)
    services.metadata.write(Put(unpackaged, expected=packaged), Put(first, expected=pointers))

    async def conversation(client: Client) -> None:
        def engines(deployment: str) -> dict[str, str]:
            lanes = client.keeper.fleet.endpoints[deployment].lanes
            return {role: lane.version.engine.name for role, lane in lanes.items()}

        assert engines("split") == {"shadow": "native"}
        await asyncio.to_thread(_packaged_and_promoted, services)
        found = _parsed((await client.get("/metrics")).body)
        (engine,) = {one.labels["engine"] for one in found["penstock_model_info"].samples}
        assert engine == get_version(services.metadata, "direction", 1).engine != "native"
        assert engines("split") == {"champion": engine, "shadow": engine}

    talk(conversation)


def _packaged_and_promoted(services: LocalServices) -> None:
    package(services, get_version(services.metadata, "direction", 1))
    deploy(services, "btc", version=1)
