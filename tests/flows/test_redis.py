"""The life of a served project with its online features in Redis: only the setting differs."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.control import refresh_features
from penstock.deployment import deploy
from penstock.errors import NotReadyError
from penstock.features import OnlineReader, point_in_time
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.scoring import score_batch
from penstock.spec import FeatureView
from penstock.testing.caller import Caller
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server
from penstock.testing.served_project import SYMBOLS
from penstock.testing.serving import serving
from penstock.testing.traffic import declare
from penstock.testing.working import until

redis = pytest.importorskip("redis", reason="the extra 'redis' is not installed")

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow


def assert_same_as_batch(services: LocalServices) -> None:
    """Law 3: every entity's values are what the raw tables give."""
    views = Catalogue.load(services.metadata).all(FeatureView)
    reader = OnlineReader(services.online, views)
    key = views[0].source.entity.name
    raw = services.tables.scan(f"raw/{views[0].source.name}").select(key).unique().collect()
    keys = raw[key].sort().to_list()
    online, at_us = reader.read(keys, 0)
    spine = pl.DataFrame({key: keys, "at": pl.Series(at_us).cast(pl.Datetime("us", "UTC"))})
    batch = point_in_time(services.tables, views, spine)
    expected = batch.select(pl.col(reader.names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    np.testing.assert_allclose(online, expected, rtol=1e-9)
    assert np.isfinite(online).any()


def test_scores_are_the_same_from_redis(
    served: ServedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_redis()
    port = free_port()
    with redis_server(tmp_path / "redis", port, "--save", ""):
        with open_services(served.home, actor="tester") as services:
            deploy(services, "btc", version=1)
            source = Catalogue.load(services.metadata).all(FeatureView)[0].source.name
        with serving(served) as http:
            embedded = score(http)
        monkeypatch.setenv("PENSTOCK_ONLINE_URL", f"redis://127.0.0.1:{port}/2#test")
        with open_services(served.home, actor="tester") as services:
            with pytest.raises(NotReadyError, match="penstock features build"):
                assert_same_as_batch(services)
            assert refresh_features(services, source)
            assert_same_as_batch(services)
            with serving(served) as http:
                assert score(http) == embedded
            # Lost with everything in it, and built again from the tables.
            with closing(redis.Redis(port=port)) as client:
                client.flushall()
            with pytest.raises(NotReadyError, match="penstock features build"):
                assert_same_as_batch(services)
            refresh_features(services, source)
            assert_same_as_batch(services)


def score(http: httpx.Client) -> tuple[object, object]:
    answer = http.post("/v1/deployments/btc/predict", json={"entity": {"symbol": "BTC"}})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["prediction"], found["probability"]


class Routes:
    """Asks with one body over and over; remembers the routes that answered, in order."""

    def __init__(self, body: object) -> None:
        self.routes: list[str] = []
        self._body = body

    def ask(self, http: httpx.Client) -> None:
        reply = http.post("/v1/deployments/btc/predict", json=self._body)
        self.routes.append(reply.raise_for_status().json()["route"])


def test_while_redis_is_away_the_model_answers_for_batch_scores_and_no_request_fails(
    served: ServedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_redis()
    port = free_port()
    keeps = (tmp_path / "redis", port, "--appendonly", "yes", "--appendfsync", "always")
    monkeypatch.setenv("PENSTOCK_ONLINE_URL", f"redis://127.0.0.1:{port}/0#test")
    by_key = Routes({"entity": {"symbol": "BTC"}})
    with_features = Routes({"features": dict.fromkeys(served.features, 1)})
    with ExitStack() as stack:
        first = stack.enter_context(redis_server(*keeps))
        services = stack.enter_context(open_services(served.home, actor="tester"))
        spine = Catalogue.load(services.metadata).deployment("btc").model.dataset.spine
        assert refresh_features(services, spine.name)
        declare(
            services,
            routes=(ps.champion(), ps.precomputed(max_age="9999d")),
            batch=ps.BatchScoring(on=ps.new_data(spine)),
            fallback=ps.Fallback(deadline="20s", to="previous"),
        )
        deploy(services, "btc", version=1)
        assert score_batch(services, "btc").ready == len(SYMBOLS)
        url = str(stack.enter_context(serving(served)).base_url)
        with (
            Caller(url, served.token, by_key.ask) as asking,
            Caller(url, served.token, with_features.ask) as bringing,
        ):
            until(lambda: len(by_key.routes) > 50)
            first.kill()
            first.wait()
            # Who brings the features is answered meanwhile; who does not waits for them.
            met = len(with_features.routes)
            until(lambda: len(with_features.routes) > met + 50)
            away = len(by_key.routes)
            stack.enter_context(redis_server(*keeps))
            until(lambda: len(by_key.routes) > away + 50)

    assert asking.faults == bringing.faults == []
    assert set(by_key.routes[: away - 1]) == {"precomputed"}
    assert "champion" in by_key.routes[away - 1 :]
    assert by_key.routes[-1] == "precomputed"
    assert set(with_features.routes) == {"champion"}
