"""A score is explained by the version that answered, from what was logged, to who may read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.access import identify
from penstock.control import explain
from penstock.errors import AccessError, NotFoundError, NotSupportedError
from penstock.testing.protecting import protect

from .test_replay import logged, score_of

if TYPE_CHECKING:
    from penstock.runtime import LocalServices


def test_a_score_is_explained_from_what_was_logged(scored: LocalServices) -> None:
    score = score_of(scored)
    found = explain(scored, score.prediction_id)
    one = found.explanation
    assert (found.version, found.deployment, found.entity) == ("direction@1", "btc", "BTC")
    assert found.logged == score.prediction
    assert one.prediction == pytest.approx(score.prediction, abs=1e-6)
    assert (one.method, one.space) == ("linear", "log_odds")
    assert tuple(part.value for part in one.contributions) == score.features
    total = sum(part.contribution for part in one.contributions)
    assert one.base + total == pytest.approx(one.output, abs=1e-9)
    assert explain(scored, score.prediction_id, in_worker=True) == found


def test_the_version_that_answered_explains(scored: LocalServices) -> None:
    other = msgspec.structs.replace(score_of(scored), version=2)
    found = explain(scored, logged(scored, other))
    assert found.version == "direction@2"
    assert found.explanation.method == "trees"


def test_what_cannot_be_explained_says_why(scored: LocalServices) -> None:
    with pytest.raises(NotFoundError, match="There is no prediction 'nothing'"):
        explain(scored, "nothing")
    constant = msgspec.structs.replace(score_of(scored), version=0, features=(), reason="late")
    with pytest.raises(NotSupportedError, match="was answered by the constant"):
        explain(scored, logged(scored, constant))


def test_who_may_not_read_the_features_is_told_no_contributions(scored: LocalServices) -> None:
    token = protect(scored, "momentum")
    ana = scored.acting(identify(scored.metadata, token))
    with pytest.raises(AccessError, match="momentum"):
        explain(ana, score_of(scored).prediction_id)
    told = scored.metadata.audit()[-1]
    assert (told.actor, told.action, told.subject) == ("ana", "deny", "deployment/btc")
