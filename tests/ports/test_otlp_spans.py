"""Spans on their way to a collector."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from penstock.adapters.opentelemetry import OtlpSpans
from penstock.records import Span, SpanContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.testing.collector import Collector

collecting = pytest.importorskip("penstock.testing.collector", reason="otel is not installed")

TRACE = "00000000000000000000000000000abc"


class One:
    """One span of a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def spans(self) -> Iterator[Span]:
        """The span."""
        yield Span(
            name=self.name,
            kind="server",
            context=SpanContext(TRACE, 7, state="a=b"),
            parent=SpanContext(TRACE, 6),
            start_us=1_000_001,
            end_us=2_000_002,
            attributes={"text": "ä", "flag": True, "number": 3, "real": 0.5, "list": ["x", "y"]},
            links=[SpanContext(TRACE.replace("c", "d"), 8)],
            error="it broke",
        )


class Broken(One):
    """Cannot be made into spans."""

    def spans(self) -> Iterator[Span]:
        """Fails."""
        raise ValueError(self.name)


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting.collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.address)
        yield found


def _gone(spans: OtlpSpans, number: int) -> tuple[int, int]:
    end_s = time.monotonic() + 20
    while sum(spans.counts()) < number and time.monotonic() < end_s:
        time.sleep(0.01)
    return spans.counts()


def test_a_span_arrives_as_it_was(collected: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1")
    spans = OtlpSpans({"service.name": "penstock-serve", "service.version": "1.2"}, every_s=60)
    spans.emit(One("done"))
    spans.close()  # sends what waits, at once

    found = collected.spans[0]
    assert (found.name, found.trace_id, found.span_id) == ("done", TRACE, "0000000000000007")
    assert (found.parent_id, found.state, found.server) == ("0000000000000006", "a=b", True)
    assert (found.start_us, found.end_us, found.error) == (1_000_001, 2_000_002, "it broke")
    assert found.attributes == {
        "text": "ä", "flag": True, "number": 3, "real": 0.5, "list": ["x", "y"],
    }  # fmt: skip
    assert found.links == [(TRACE.replace("c", "d"), "0000000000000008")]
    assert found.resource["service.name"] == "ours"
    assert found.resource["service.version"] == "1.2"
    assert spans.counts() == (1, 0)


def test_a_full_batch_does_not_wait(collected: Collector) -> None:
    spans = OtlpSpans({}, batch=3, every_s=60)
    for number in range(3):
        spans.emit(One(str(number)))
    assert _gone(spans, 3) == (3, 0)
    assert [span.name for span in collected.spans] == ["0", "1", "2"]
    spans.close()


def test_what_is_lost_is_counted(collected: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    spans = OtlpSpans({}, most=4, batch=2, every_s=60)
    began_s = time.monotonic()
    for number in range(50):
        spans.emit(One(str(number)))
    assert time.monotonic() - began_s < 0.5
    assert _gone(spans, 50) == (0, 50)
    spans.close()
    assert not collected.spans


def test_closing_waits_once_for_who_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.adapters.opentelemetry.spans.LAST_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        spans = OtlpSpans({}, most=8, batch=2, every_s=60)
        for number in range(8):
            spans.emit(One(str(number)))
        sending, _ = silent.accept()
        with sending:
            spans.close()
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert spans.counts() == (0, 8)


def test_closing_does_not_wait_for_who_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without giving up it would take as long as the exporter tries: half a minute.
    monkeypatch.setattr("penstock.adapters.opentelemetry.spans.LAST_S", 60.0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    spans = OtlpSpans({}, every_s=60)
    for number in range(3):
        spans.emit(One(str(number)))
    began_s = time.monotonic()
    spans.close()
    assert time.monotonic() - began_s < 15  # to start a process on a busy machine
    assert spans.counts() == (0, 3)


def test_the_first_is_sent_at_once_so_that_closing_finds_a_process_at_work(
    collected: Collector,
) -> None:
    spans = OtlpSpans({}, every_s=60)
    spans.emit(One("first"))
    assert _gone(spans, 1) == (1, 0)
    spans.emit(One("second"))
    began_s = time.monotonic()
    spans.close()
    assert time.monotonic() - began_s < 1
    assert [span.name for span in collected.spans] == ["first", "second"]


def test_a_collector_that_was_away_gets_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    spans = OtlpSpans({}, every_s=60)
    spans.emit(One("first"))
    time.sleep(1)  # tried in vain by then, on most machines
    with collecting.collector(port) as found:
        assert _gone(spans, 1) == (1, 0)
        spans.emit(One("second"))
        spans.close()
        assert [span.name for span in found.spans] == ["first", "second"]


def test_one_that_cannot_be_made_and_a_child_that_dies_lose_their_batch_alone(
    collected: Collector,
) -> None:
    spans = OtlpSpans({}, batch=1, every_s=60)
    spans.emit(Broken("no"))
    assert _gone(spans, 1) == (0, 1)
    spans.emit(One("first"))
    assert _gone(spans, 2) == (1, 1)
    child = spans._child  # noqa: SLF001 - nobody else knows it  # pyright: ignore[reportPrivateUsage]
    assert child is not None
    child.kill()
    child.wait()
    spans.emit(One("lost"))
    assert _gone(spans, 3) == (1, 2)
    spans.emit(One("second"))
    assert _gone(spans, 4) == (2, 2)
    assert [span.name for span in collected.spans] == ["first", "second"]
    spans.close()


def test_the_parent_does_not_load_the_library() -> None:
    code = (
        "import sys, penstock.adapters.opentelemetry, penstock.http.serve_process\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'opentelemetry'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
