from __future__ import annotations

from random import Random

import pytest

from penstock.errors import NotSupportedError, PenstockError, SettingsError
from penstock.runtime import Sampling, Settings, open_spans, read_sampling
from penstock.runtime import tracing as tracing_module

ON = Settings(traces=True)


def test_nothing_is_opened_where_nothing_is_to_be_traced() -> None:
    assert open_spans(Settings(), kind="serve", environment={}) is None
    for off in ({"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}):
        assert open_spans(ON, kind="serve", environment=off) is None


@pytest.mark.parametrize(
    ("environment", "error", "text"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, NotSupportedError, "'otlp' or 'none'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, NotSupportedError, "'http/protobuf'"),
        ({"OTEL_PROPAGATORS": "b3"}, NotSupportedError, "'tracecontext'"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, SettingsError, "whole number"),
    ],
)
def test_what_cannot_be_done_is_refused(
    environment: dict[str, str], error: type[PenstockError], text: str
) -> None:
    with pytest.raises(error, match=text):
        open_spans(ON, kind="serve", environment=environment)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "LIBRARY", "opentelemetry_missing.exporter")
    with pytest.raises(NotSupportedError, match=r"penstock\[otel\]"):
        open_spans(ON, kind="serve", environment={})


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("", "0.5", Sampling(0.25)),
        ("always_on", "", Sampling(1.0, by_parent=False)),
        ("always_off", "", Sampling(0.0, by_parent=False)),
        ("traceidratio", "0.125", Sampling(0.125, by_parent=False)),
        ("parentbased_always_off", "", Sampling(0.0)),
        ("parentbased_traceidratio", "0.5", Sampling(0.5)),
    ],
)
def test_samplers(name: str, argument: str, expected: Sampling) -> None:
    environment = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert read_sampling(Settings(traces_share=0.25), environment) == expected


def test_wrong_samplers() -> None:
    for environment, text in (
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "always_on"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "no share"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"}, "no share"),
    ):
        with pytest.raises(PenstockError, match=text):
            read_sampling(ON, environment)


def test_the_same_traces_are_taken_everywhere() -> None:
    """A share is decided by the trace alone, as OpenTelemetry's own sampler decides."""
    sampling = pytest.importorskip("opentelemetry.sdk.trace.sampling")
    bits = Random(1).getrandbits  # noqa: S311 - the same numbers each time
    for share in (0.0, 0.01, 0.5, 1.0):
        theirs = sampling.TraceIdRatioBased(share)
        ours = Sampling(share, by_parent=False)
        numbers = [bits(128) for _ in range(500)]
        for number in numbers:
            taken = theirs.should_sample(None, number, "x").decision.is_sampled()
            assert ours.takes(number) == ours.takes(number, parent=True) == taken
        assert Sampling(share).takes(numbers[0], parent=True)
        assert not Sampling(share).takes(numbers[0], parent=False)
