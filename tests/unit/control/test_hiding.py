"""What a user's function said of the data is kept from those who may not read it."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.access import identify
from penstock.control import check_served, lineage, replay, shown_run
from penstock.control.hiding import hides_words, shown_values
from penstock.plan import Catalogue, apply
from penstock.ports import RunInfo
from penstock.ports.workflows import StepInfo
from penstock.records import ModelVersion
from penstock.registry import read_manifest
from penstock.scoring import drain_scores
from penstock.testing.protecting import protect

from .test_replay import MODULE, logged, repackage, score_of, with_function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices

SAID = "the close was 123.5"
BODY = f"def ret(close, open_):\n    raise ValueError('{SAID}')\n"


@pytest.fixture
def ana(scored: LocalServices) -> LocalServices:
    """The ports for ana, who has no grant, of a project that protects its view."""
    token = protect(scored, "momentum")
    return scored.acting(identify(scored.metadata, token))


@pytest.fixture
def failing(scored: LocalServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The version's view is computed by a function that fails, and says a value."""
    path = scored.home / f"{MODULE}.py"
    path.write_text(BODY)
    monkeypatch.syspath_prepend(str(scored.home))
    module = __import__(MODULE)
    repackage(scored, lambda manifest: with_function(manifest, module.ret))
    yield
    sys.modules.pop(MODULE, None)


@pytest.mark.usefixtures("failing")
def test_a_replay_does_not_repeat_what_a_function_said(
    scored: LocalServices, ana: LocalServices
) -> None:
    found = score_of(scored).prediction_id
    assert SAID in replay(scored, found).causes[0].reason
    (cause,) = replay(ana, found).causes
    assert cause.kind == "feature code"
    assert cause.reason == "A function of the user failed."


@pytest.mark.usefixtures("failing")
def test_a_report_that_is_kept_repeats_it_to_nobody(scored: LocalServices) -> None:
    logged(scored, msgspec.structs.replace(score_of(scored), origin="online"))
    drain_scores(scored)
    report = check_served(scored, "btc", from_us=0, to_us=scored.clock.now_us(), sample=10)
    assert report.skipped == {"direction@1": "A function of the user failed."}


def test_a_run_is_shown_without_it(scored: LocalServices, ana: LocalServices) -> None:
    def run(error: str) -> RunInfo:
        step = StepInfo(name="fit", state="failed", error=error)
        return RunInfo(
            run_id="train-1",
            pipeline="train",
            subject="direction",
            state="failed",
            parameters={},
            created_at=scored.clock.now(),
            steps=(step,),
            error=error,
        )

    of_user, ours = run(f"UserCodeError: {SAID}"), run("NotReadyError: no records yet")
    assert shown_run(scored, of_user) == of_user
    assert shown_run(ana, ours) == ours
    shown = shown_run(ana, of_user)
    assert SAID not in repr(shown)
    assert shown.error == shown.steps[0].error
    assert shown.error.startswith("UserCodeError: a function failed; what it said may hold")


def test_where_nothing_is_protected_everything_is_told(scored: LocalServices) -> None:
    token = protect(scored, "momentum")
    ana = scored.acting(identify(scored.metadata, token))
    assert hides_words(ana)
    assert not hides_words(scored)
    rest = [
        one
        for one in Catalogue.load(scored.metadata).declarations.values()
        if not isinstance(one, ps.Protection)
    ]
    project = ps.Project("protected", declarations=rest)
    apply(scored.metadata, project, actor="t", now=scored.clock.now())
    assert not hides_words(ana)


def test_a_version_whose_package_is_gone_hides_all_of_its_values(
    scored: LocalServices, ana: LocalServices
) -> None:
    score = score_of(scored)
    (version,) = scored.metadata.find(ModelVersion, where={"model": "direction", "version": 1})
    shutil.rmtree(scored.artifacts.path(version.package), ignore_errors=True)
    told = lineage(ana, score.prediction_id).detail["features"]
    assert told == ["protected"] * len(score.features)
    assert lineage(scored, score.prediction_id).detail["features"] == list(score.features)


def test_a_manifest_without_definitions_hides_what_is_protected_now(
    scored: LocalServices, ana: LocalServices
) -> None:
    (version,) = scored.metadata.find(ModelVersion, where={"model": "direction", "version": 1})
    manifest = read_manifest(scored.artifacts.path(version.package))
    score, bare = score_of(scored), msgspec.structs.replace(manifest, definitions={})
    for whose in (manifest, bare):
        assert shown_values(scored, whose, score) == list(score.features)
        assert shown_values(ana, whose, score) == ["protected"] * len(score.features)
