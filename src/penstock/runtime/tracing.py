"""Tracing as the settings and OpenTelemetry's standard environment variables have it."""

from __future__ import annotations

import os
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import NotSupportedError, SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Spans

    from .settings import Settings

__all__ = ["Sampling", "open_spans", "read_sampling", "reads_context"]

SAMPLERS = (
    "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
    "parentbased_traceidratio",
)  # fmt: skip
BY_PARENT = "parentbased_"
MASK = (1 << 64) - 1
EXPORTERS, PROTOCOLS = ("otlp", "none"), ("http/protobuf",)
PROPAGATORS = ("tracecontext", "baggage", "none")
PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
ANY_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
LIBRARY = "opentelemetry.exporter.otlp.proto.http"


class Sampling(NamedTuple):
    """Which requests are traced.

    Attributes:
        share: Of the requests whose client says nothing of it; by the trace's id, so that every
            process that takes part in a trace decides alike.
        by_parent: Whether the client decides for its own.
    """

    share: float
    by_parent: bool = True

    def takes(self, trace_id: int, *, parent: bool | None = None) -> bool:
        """Whether a request is traced.

        Args:
            trace_id: Its trace.
            parent: Whether its client traces it; none where it says nothing.
        """
        if self.by_parent and parent is not None:
            return parent
        return (trace_id & MASK) < self.share * (MASK + 1)


def read_sampling(settings: Settings, environment: Mapping[str, str] = os.environ) -> Sampling:
    """Which requests are traced: ``OTEL_TRACES_SAMPLER``, else the client's will and a share.

    Args:
        settings: ``traces_share`` is the share.
        environment: The variables.

    Raises:
        SettingsError: There is no such sampler, or its share is none.
    """
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not name:
        return Sampling(settings.traces_share)
    _need(environment, "OTEL_TRACES_SAMPLER", SAMPLERS)
    by_parent = name.startswith(BY_PARENT)
    kind = name.removeprefix(BY_PARENT)
    if kind != "traceidratio":
        return Sampling(1.0 if kind == "always_on" else 0.0, by_parent)
    given = environment.get("OTEL_TRACES_SAMPLER_ARG", "1")
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SettingsError(
            f"OTEL_TRACES_SAMPLER_ARG={given!r} is no share. Give a number from 0 to 1."
        )
    return Sampling(share, by_parent)


def open_spans(
    settings: Settings, *, kind: str, environment: Mapping[str, str] = os.environ
) -> Spans | None:
    """Where spans go; none where nothing is to be traced.

    Args:
        settings: ``traces`` switches it on.
        kind: What kind of process this is.
        environment: The variables.

    Raises:
        NotSupportedError: The library is not installed, or traces shall go another way than OTLP
            over HTTP.
        SettingsError: A variable cannot be read.
    """
    if not settings.traces or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    _need(environment, "OTEL_TRACES_EXPORTER", EXPORTERS)
    _need(environment, PROTOCOL if environment.get(PROTOCOL) else ANY_PROTOCOL, PROTOCOLS)
    for name in environment.get("OTEL_PROPAGATORS", "").split(","):
        _need({"OTEL_PROPAGATORS": name}, "OTEL_PROPAGATORS", PROPAGATORS)
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return None
    _need_library()
    from penstock.adapters.opentelemetry import OtlpSpans  # noqa: PLC0415 - an extra

    return OtlpSpans(
        {"service.name": f"penstock-{kind}", "service.version": installed_version("penstock")},
        most=_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
        batch=_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        every_s=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", 5_000) / 1_000,
    )


def reads_context(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the client's ``traceparent`` counts."""
    given = environment.get("OTEL_PROPAGATORS", "")
    return not given.strip() or "tracecontext" in given.lower()


def _need(environment: Mapping[str, str], name: str, known: tuple[str, ...]) -> None:
    given = environment.get(name, "").strip().lower()
    if given and given not in known:
        raise NotSupportedError(
            f"{name}={given!r}. Give {' or '.join(map(repr, known))}. {nearest(given, known)}"
        )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    given = environment.get(name, "").strip()
    if not given:
        return default
    if not given.isdecimal() or not int(given):
        raise SettingsError(f"{name}={given!r}. Give a whole number from 1 on.")
    return int(given)


def _need_library() -> None:
    try:
        found = find_spec(LIBRARY)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise NotSupportedError(
            "traces = true, and OpenTelemetry's exporter is not installed. Run "
            "pip install 'penstock[otel]', or leave the setting out.",
            extra="otel",
        )
