from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import penstock as ps
from penstock.control import retry_failed, start, train_run
from penstock.errors import InputError
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.testing.graph_versions import declare_more

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Call = Callable[..., Said]


def _failing(_: Mapping[str, object], __: Mapping[str, object]) -> Mapping[str, object]:
    raise InputError("the disk is full")


def test_a_failed_run_says_when_it_is_tried_again(served: ServedProject, call: Call) -> None:
    shown = ("runs", "show", "nightly", "--home", served.home)
    with open_services(served.home, actor="tester") as services:
        model = Catalogue.load(services.metadata).model("direction")
        once = ps.Retry(times=1, after="1h")
        declare_more(services, ps.Trigger(model, on=[ps.cron("0 3 * * *")], retry=once))
        services.workflows.launch({"train.pin": _failing})
        start(services, train_run("nightly", "direction", asked_by="trigger/direction"))
        services.workflows.wait("nightly", timeout_s=20)
        assert "retry 1 of 1" in call(*shown).out
        later_us = services.clock.now_us() + int(timedelta(hours=2) / timedelta(microseconds=1))
        assert [one.became for one in retry_failed(services, now_us=later_us)] == ["queued"]
        services.workflows.wait("nightly", timeout_s=20)
        assert "not by itself: 1 of 1 retries were made" in call(*shown).out
        start(services, train_run("by-hand", "direction"))
        services.workflows.wait("by-hand", timeout_s=20)
    assert "again" not in call("runs", "show", "by-hand", "--home", served.home).out
