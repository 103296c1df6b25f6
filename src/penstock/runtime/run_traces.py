"""Traces of runs: a span for each time a process executes one, and for each step that it does."""

from __future__ import annotations

import hashlib
from contextlib import closing, contextmanager
from random import Random
from typing import TYPE_CHECKING

import structlog

from penstock.errors import PenstockError
from penstock.ports import RunWatch, Watch
from penstock.records import Span, SpanContext

from .tracing import open_spans, read_sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from penstock.ports import Clock, Spans
    from penstock.records import Attribute

    from .services import LocalServices
    from .tracing import Sampling

__all__ = ["RunTraces", "trace_of_run", "tracing_runs"]

TRACE_BYTES = 16


def trace_of_run(run_id: str) -> str:
    """The trace of a run: always the same, so that whoever goes on with it goes on with its trace.

    Args:
        run_id: The run.
    """
    return hashlib.blake2b(run_id.encode(), digest_size=TRACE_BYTES).hexdigest()


class RunTraces(Watch):
    """Traces runs as a process executes them. Safe across threads.

    Args:
        spans: Where they go.
        clock: Tells the time.
        sampling: Which runs are traced.
    """

    def __init__(self, spans: Spans, clock: Clock, sampling: Sampling) -> None:
        self._spans = spans
        self._clock = clock
        self._sampling = sampling
        self._new_bits = Random().getrandbits  # noqa: S311 - ids of spans are no secrets
        self._log = structlog.get_logger("penstock.worker")

    def begun(self, run_id: str, *, pipeline: str, subject: str) -> RunWatch | None:
        """Follow a run that begins or goes on here; none where it is not traced."""
        trace_id = trace_of_run(run_id)
        if not self._sampling.takes(int(trace_id, 16)):
            return None
        self._log.info("a run is traced", run=run_id, pipeline=pipeline, trace=trace_id)
        said = {
            "penstock.run_id": run_id, "penstock.pipeline": pipeline, "penstock.subject": subject,
        }  # fmt: skip
        context = SpanContext(trace_id, self._new_span())
        return _RunTrace(self._spans, self._clock, self._new_span, context, said)

    def _new_span(self) -> int:
        return self._new_bits(64) or 1


class _RunTrace(RunWatch):
    """A run while this process executes it."""

    def __init__(
        self,
        spans: Spans,
        clock: Clock,
        new_span: Callable[[], int],
        context: SpanContext,
        said: Mapping[str, Attribute],
    ) -> None:
        self._spans = spans
        self._clock = clock
        self._new_span = new_span
        self._context = context
        self._said = said
        self._began_us = clock.now_us()

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """A step, from its first attempt to its last. It is sent when it ends, before the run."""
        began_us, error = self._clock.now_us(), ""
        try:
            yield
        except BaseException as raised:
            error = _told(raised)
            raise
        finally:
            span = Span(
                name=f"step {name}",
                context=SpanContext(self._context.trace_id, self._new_span()),
                parent=self._context,
                start_us=began_us,
                end_us=self._clock.now_us(),
                attributes={**self._said, "penstock.step": name},
                error=error,
            )
            self._spans.emit(_Made([span]))

    def ended(self, error: BaseException | None) -> None:
        """The run has ended here."""
        span = Span(
            name=f"run {self._said['penstock.pipeline']}",
            context=self._context,
            parent=None,
            start_us=self._began_us,
            end_us=self._clock.now_us(),
            attributes=self._said,
            error="" if error is None else _told(error),
        )
        self._spans.emit(_Made([span]))


class _Made:
    """Spans that are there already: runs are few."""

    def __init__(self, made: Sequence[Span]) -> None:
        self._made = made

    def spans(self) -> Sequence[Span]:
        """See ``Traced``."""
        return self._made


def _told(error: BaseException) -> str:
    """What went wrong, without words of user code: those may hold values of features."""
    return error.plain if isinstance(error, PenstockError) else type(error).__name__


@contextmanager
def tracing_runs(services: LocalServices) -> Generator[Watch | None]:
    """What traces runs, where the settings ask for it; sends what is left at the end.

    Args:
        services: The project.

    Raises:
        NotSupportedError: Traces are asked for, and the library is not installed.
    """
    spans = open_spans(services.settings, kind="worker")
    if spans is None:
        yield None
        return
    with closing(spans):
        yield RunTraces(spans, services.clock, read_sampling(services.settings))
