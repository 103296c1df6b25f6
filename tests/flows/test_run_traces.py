"""Traces of runs, as a collector of OpenTelemetry's protocol gets them from a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.control import score_run, start
from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.runtime.run_traces import trace_of_run
from penstock.testing.working import working

if TYPE_CHECKING:
    from penstock.testing.collector import Collected
    from penstock.testing.served_project import ServedProject

collecting = pytest.importorskip("penstock.testing.collector", reason="otel is not installed")
pytestmark = pytest.mark.slow

WAIT_S = 60.0


def test_a_run_and_its_steps_are_spans_and_what_goes_wrong_is_told(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting.collector() as found, open_services(served.home, actor="tester") as services:
        monkeypatch.setenv("PENSTOCK_TRACES", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with working(served.home):
            early = services.workflows.wait(
                start(services, score_run("early", "btc")), timeout_s=WAIT_S
            )
            deploy(services, "btc", version=1)
            late = services.workflows.wait(
                start(services, score_run("late", "btc")), timeout_s=WAIT_S
            )

            def ended(spans: list[Collected]) -> bool:
                return sum(span.name == "run score" for span in spans) == 2

            found.wait(ended)
        logged = (services.layout.logs / "worker.log").read_text(encoding="utf-8")

    assert (early.state, late.state) == ("failed", "succeeded")
    bad, good = found.trace(trace_of_run("early")), found.trace(trace_of_run("late"))
    assert list(bad) == ["step pin", "run score"]
    assert list(good) == ["step pin", "step score", "run score"]
    for run_id, spans in (("early", bad), ("late", good)):
        run = spans["run score"]
        about = {
            "penstock.run_id": run_id, "penstock.pipeline": "score", "penstock.subject": "btc",
        }  # fmt: skip
        assert (run.parent_id, run.attributes) == ("", about)
        assert run.resource["service.name"] == "penstock-worker"
        for name, span in spans.items():
            if span is not run:
                assert span.parent_id == run.span_id
                assert span.attributes == {**about, "penstock.step": name.removeprefix("step ")}
                assert run.start_us <= span.start_us <= span.end_us <= run.end_us
        assert run.trace_id in logged
    assert {span.error for span in good.values()} == {""}
    assert len({span.error for span in bad.values()}) == 1
    assert bad["run score"].error in early.error
    assert "btc" in bad["run score"].error
