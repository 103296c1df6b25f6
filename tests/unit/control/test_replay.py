"""A score is recomputed the same; and whatever is broken is the cause that is named."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.control import Replay, replay
from penstock.errors import NotFoundError
from penstock.ports import Put
from penstock.records import Manifest, ModelVersion, Score
from penstock.registry import read_manifest, views_of, write_manifest
from penstock.scoring import ScoreLog, load_served, scores_in
from penstock.spec import fingerprint, to_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices

MODULE = "replayed_functions"


def scores_of(services: LocalServices) -> list[Score]:
    """The scores of BTC, oldest first."""
    scores = scores_in(services.tables.scan("scores/btc").collect())
    return sorted((one for one in scores if one.entity == "BTC"), key=lambda one: one.at_us)


def score_of(services: LocalServices) -> Score:
    """The newest score of BTC."""
    return scores_of(services)[-1]


def logged(services: LocalServices, score: Score) -> str:
    """Log a score as a serving process does, under an id of its own."""
    new = msgspec.structs.replace(score, prediction_id=services.ids.new())
    log = ScoreLog(services.score_log / "btc", services.ids)
    log.append([new])
    log.close()
    return new.prediction_id


def repackage(services: LocalServices, change: Callable[[Manifest], Manifest]) -> None:
    """Put another package in the place of version 1's."""
    version = services.metadata.find(ModelVersion)[0]
    folder = services.scratch / "other"
    shutil.copytree(services.artifacts.path(version.package), folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    write_manifest(folder, change(read_manifest(folder)))
    package = services.artifacts.put(folder)
    services.metadata.write(Put(msgspec.structs.replace(version, package=package)))


def kinds(found: Replay) -> list[str]:
    return [cause.kind for cause in found.causes]


def test_a_score_is_the_same_whatever_came_later(scored: LocalServices) -> None:
    score = score_of(scored)
    found = replay(scored, score.prediction_id)
    assert found.same
    assert found.causes == ()
    assert (found.version, found.logged) == ("direction@1", score.prediction)
    assert found.from_stored == pytest.approx(score.prediction, abs=1e-6)
    assert found.from_raw == pytest.approx(score.prediction, abs=1e-6)
    assert tuple(feature.raw for feature in found.features) == pytest.approx(score.features)


def test_the_batches_the_score_had_not_seen_are_left_out(scored: LocalServices) -> None:
    """The very record of batch 3 would change it, if it were counted."""
    early = scores_of(scored)[0]
    assert replay(scored, early.prediction_id).same
    later = msgspec.structs.replace(early, progress={"momentum": 3})
    found = replay(scored, logged(scored, later))
    assert not found.same
    assert kinds(found) == ["feature data"]


def test_features_of_the_request_are_replayed_as_they_were_logged(scored: LocalServices) -> None:
    request = msgspec.structs.replace(score_of(scored), origin="request", entity="", progress={})
    found = replay(scored, logged(scored, request))
    assert found.same
    assert (found.from_raw, found.features) == (None, ())


def test_a_constant_is_compared_with_its_declaration(scored: LocalServices) -> None:
    constant = msgspec.structs.replace(score_of(scored), version=0, route="fallback")
    found = replay(scored, logged(scored, constant))
    assert not found.same
    assert kinds(found) == ["environment"]
    assert "declared as None now" in found.causes[0].reason


def test_an_unknown_score(scored: LocalServices) -> None:
    with pytest.raises(NotFoundError, match="There is no prediction 'x'"):
        replay(scored, "x")


def test_cause_model_binary_damaged(scored: LocalServices) -> None:
    version = scored.metadata.find(ModelVersion)[0]
    onnx = scored.artifacts.path(version.package) / "model.onnx"
    onnx.chmod(0o644)
    onnx.write_bytes(onnx.read_bytes()[:-1] + b"?")
    found = replay(scored, score_of(scored).prediction_id)
    assert (found.same, found.from_stored) == (False, None)
    assert set(kinds(found)) == {"model binary"}


def test_cause_model_binary_replaced(scored: LocalServices) -> None:
    """Another model under a manifest that still names the first one's hash."""
    other = load_served(scored, "direction", 1).manifest.files["model.onnx"]
    repackage(
        scored,
        lambda manifest: msgspec.structs.replace(
            manifest, files={**manifest.files, "model.onnx": other[::-1]}
        ),
    )
    found = replay(scored, score_of(scored).prediction_id)
    assert (found.same, found.from_stored) == (False, None)
    reasons = [cause.reason for cause in found.causes]
    assert "model.onnx is not the file that was registered" in reasons


def test_cause_feature_list(scored: LocalServices) -> None:
    score = score_of(scored)
    shorter = msgspec.structs.replace(score, features=score.features[1:])
    found = replay(scored, logged(scored, shorter))
    assert not found.same
    assert kinds(found)[0] == "feature list"
    assert "4 features were logged, but the model takes 5" in found.causes[0].reason


def test_cause_feature_list_that_the_definitions_do_not_give(scored: LocalServices) -> None:
    repackage(
        scored,
        lambda manifest: msgspec.structs.replace(
            manifest, features=(*manifest.features[:4], "momentum.gone")
        ),
    )
    found = replay(scored, score_of(scored).prediction_id)
    assert not found.same
    assert kinds(found) == ["feature list"]
    assert "momentum.gone" in found.causes[0].reason


def test_cause_feature_code_definition(scored: LocalServices) -> None:
    def longer(manifest: Manifest) -> Manifest:
        text = msgspec.json.encode(manifest.definitions).replace(b'"6h"', b'"12h"')
        return msgspec.structs.replace(manifest, definitions=msgspec.json.decode(text))

    repackage(scored, longer)
    found = replay(scored, score_of(scored).prediction_id)
    assert not found.same
    assert kinds(found) == ["feature code"]
    assert [one.name for one in found.features if not one.same] == ["momentum.mean_ret_6h"]


def test_cause_feature_code_function(
    scored: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "def ret(close, open_):\n    return close / open_ - 1\n"
    path = scored.home / f"{MODULE}.py"
    path.write_text(body)
    monkeypatch.syspath_prepend(str(scored.home))
    try:
        module = __import__(MODULE)
        repackage(scored, lambda manifest: with_function(manifest, module.ret))
        assert replay(scored, score_of(scored).prediction_id).same
        path.write_text(body.replace("- 1", "- 2"))
        found = replay(scored, score_of(scored).prediction_id)
    finally:
        sys.modules.pop(MODULE, None)
    assert not found.same
    assert kinds(found) == ["feature code"]
    assert "source changed" in found.causes[0].reason


def with_function(manifest: Manifest, body: Callable[..., object]) -> Manifest:
    """The same view, whose return is computed by a function of the user."""
    view = view_in(manifest)
    changed = msgspec.structs.replace(view, derive={"ret": ps.function(body, "close", "open")})
    definitions = {**manifest.definitions, "feature_view/momentum": to_document(changed)}
    views = {"momentum": fingerprint(changed)}
    return msgspec.structs.replace(manifest, definitions=definitions, views=views)


def view_in(manifest: Manifest) -> ps.FeatureView:
    (view,) = views_of(manifest)
    assert isinstance(view, ps.FeatureView)
    return view


def test_cause_feature_data_lost(scored: LocalServices) -> None:
    """Records under a batch's number that the batch never stored."""
    raw = scored.tables.scan("raw/candles").filter(pl.col("_batch") == 2).collect()
    forged = raw.with_columns(pl.col("close") * 2)
    scored.tables.append("raw/candles", forged, app="forger", number=1)
    found = replay(scored, score_of(scored).prediction_id)
    assert not found.same
    assert kinds(found) == ["feature data"]
    assert "has 2 records of batch candles-2" in found.causes[0].reason


def test_cause_feature_data_served_otherwise(scored: LocalServices) -> None:
    """The model saw something that raw data does not give: the online features were altered."""
    score = score_of(scored)
    features = (123.0, *score.features[1:])
    prediction = predict(scored, features)
    altered = msgspec.structs.replace(score, features=features, prediction=prediction)
    found = replay(scored, logged(scored, altered))
    assert not found.same
    assert found.from_stored == pytest.approx(prediction, abs=1e-6)
    assert found.from_raw == pytest.approx(score.prediction, abs=1e-6)
    assert kinds(found) == ["feature data"]


def predict(services: LocalServices, features: tuple[float | None, ...]) -> float:
    values = [float("nan") if value is None else value for value in features]
    return float(load_served(services, "direction", 1).predict(np.array([values]))[0])


def test_cause_environment(scored: LocalServices) -> None:
    repackage(
        scored,
        lambda manifest: msgspec.structs.replace(
            manifest, dependencies={**manifest.dependencies, "numpy": "0.1"}
        ),
    )
    score = score_of(scored)
    assert replay(scored, score.prediction_id).same, "another version alone explains nothing"
    other = msgspec.structs.replace(score, prediction=score.prediction + 0.01)
    found = replay(scored, logged(scored, other))
    assert not found.same
    assert kinds(found) == ["environment"]
    assert "numpy 0.1 ->" in found.causes[0].reason
