"""Spans gathered in a thread and sent by a process of their own.

OpenTelemetry's exporter takes some thirty microseconds of Python for a span, as much as a request
itself takes: in this process it would hold up every answer. Here a span is made and encoded, which
takes a few, and a child process does the rest. Where spans go, with which headers, certificate,
compression and time limit, the child reads from the standard variables ``OTEL_EXPORTER_OTLP_*``;
what the process is called, from ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES``.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.ports import SpanCounts, Spans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Traced

__all__ = ["OtlpSpans"]

LAST_S = 5.0
"""How long closing waits for what is left to be sent, where somebody can be reached."""
TICK_S = 0.05
CHILD = "penstock.adapters.opentelemetry.child"


class OtlpSpans(Spans):
    """Gathers what was traced, and sends it every few seconds or as soon as a batch is full.

    The first thing is sent at once: so the process that sends is there when a short command ends,
    and it is known by then whether anybody collects.

    Args:
        resource: What the process is, by OpenTelemetry's names; the environment may say otherwise.
        most: How many things may wait to be sent; what comes then is lost.
        batch: How many are sent at once.
        every_s: How long they wait at most, where there are fewer.
    """

    def __init__(
        self,
        resource: Mapping[str, str],
        *,
        most: int = 2_048,
        batch: int = 512,
        every_s: float = 5.0,
    ) -> None:
        self._resource = msgspec.json.encode(resource).decode()
        self._most, self._batch, self._every_s = most, min(batch, most), every_s
        self._waiting: deque[Traced] = deque()
        self._exported = self._lost = 0
        self._dropped = 0  # by whoever emits; the other two are the thread's
        self._wanted = threading.Event()
        self._closing = self._given_up = False
        self._begun = self._alone = False
        self._heard = True
        self._encode = msgspec.msgpack.Encoder().encode
        self._child: subprocess.Popen[bytes] | None = None
        self._log = structlog.get_logger("penstock.traces")
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def emit(self, told: Traced) -> None:
        """Take something; never waits, never raises."""
        waiting = len(self._waiting)
        if waiting >= self._most:
            self._dropped += 1
            return
        self._waiting.append(told)
        if waiting + 1 == self._batch or not self._begun:
            self._begun = True
            self._wanted.set()

    def counts(self) -> SpanCounts:
        """What has become of what was emitted so far."""
        return SpanCounts(self._exported, self._lost + self._dropped)

    def close(self) -> None:
        """Send what is left, for a few seconds at most; not where nobody can be reached."""
        self._closing = True
        self._wanted.set()
        end_s = time.monotonic() + LAST_S
        while self._thread.is_alive() and not self._alone and time.monotonic() < end_s:
            self._thread.join(TICK_S)
        self._given_up = True
        while self._thread.is_alive():  # nobody takes what is left
            if (child := self._child) is not None:
                child.kill()
            self._thread.join(TICK_S)

    def _run(self) -> None:
        while True:
            self._wanted.wait(self._every_s)
            self._wanted.clear()
            closing = self._closing
            while self._waiting and not self._given_up:
                self._send()
            if closing:
                self._lost += len(self._waiting)
                self._end()
                return

    def _send(self) -> None:
        """Send a batch; whatever goes wrong, what is traced must not notice."""
        taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
        try:
            was_taken = self._sent(taken)
        except Exception as error:  # noqa: BLE001 - see above
            if not self._given_up:  # else the process that sends them was ended on purpose
                self._log.warning("spans could not be made or sent", error=str(error))
            self._end()
            was_taken = False
        if was_taken:
            self._exported += len(taken)
        else:
            self._lost += len(taken)
        if was_taken is not self._heard:
            self._heard = was_taken
            said = "traces are collected again" if was_taken else "nobody collects traces: lost"
            self._log.warning(said, lost=self._lost + self._dropped)

    def _sent(self, taken: list[Traced]) -> bool:
        """Have the child send a batch; whether it was taken. Waiting for it costs nobody time."""
        frame = self._encode([span for told in taken for span in told.spans()])
        child = self._started()
        if child.stdin is None or child.stdout is None:
            return False
        child.stdin.write(len(frame).to_bytes(4, "little"))
        child.stdin.write(frame)
        child.stdin.flush()
        while (answer := child.stdout.read(1)) == b"?":
            self._alone = True
        if not answer:
            raise OSError("the process that sends them has ended")
        self._alone = self._alone and answer != b"1"
        return answer == b"1"

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", CHILD, self._resource],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # who stops this process in a terminal stops it alone
            )
        return self._child

    def _end(self) -> None:
        """Let the child go; another is started where there is more to send."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not written is lost
                    pipe.close()
        child.wait()
