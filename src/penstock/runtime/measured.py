"""What processes measure, as values: written to files, added up, shown as Prometheus text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Family", "Histogram", "Measured", "Sample", "exposition"]

Labels = Mapping[str, str]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """A number.

    Attributes:
        labels: What tells it from others of its family.
        value: The number.
    """

    labels: Labels
    value: float


class Histogram(msgspec.Struct, frozen=True, array_like=True):
    """How something is distributed.

    Attributes:
        labels: What tells it from others of its family.
        counts: How many were at most each bound and more than the one before, and the rest.
        total: Their sum.
    """

    labels: Labels
    counts: Sequence[int]
    total: float


class Family(msgspec.Struct, frozen=True):
    """Numbers that mean the same of different things.

    Attributes:
        name: Its name, with the unit; of a counter, with ``_total``.
        kind: What may be done with the numbers.
        text: What they are.
        samples: Counters and gauges.
        histograms: Histograms.
        bounds: Upper bounds of the histograms' buckets, without the last, which has none.
        shared: Whether every process says the same, so that one speaks for all.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    samples: Sequence[Sample] = ()
    histograms: Sequence[Histogram] = ()
    bounds: Sequence[float] = ()
    shared: bool = False


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one process has measured.

    Attributes:
        process_id: Operating-system id of the process.
        started_at_s: When it started, in seconds since 1970 UTC.
        at_us: When it said so, in microseconds since 1970 UTC.
        address: Where it answers.
        worker: Its place among the processes that answer there: 0, 1, 2 ...
        families: The numbers.
        models: What was done by model and version, as the inference protocol tells of it.
    """

    process_id: int
    started_at_s: float
    at_us: int
    address: str
    worker: int
    families: Sequence[Family]
    models: Sequence[Mapping[str, Any]] = ()


def exposition(measured: Iterable[Measured]) -> bytes:
    """The text that Prometheus reads.

    What each process counts for itself has the label ``worker``, and is never added up here: a
    counter must not fall when one of them dies. Queries add up.

    Args:
        measured: What the processes measure; whoever answers first.
    """
    every = list(measured)
    by_name: dict[str, list[tuple[str, Family]]] = {}
    for one in every:
        for family in one.families:
            if family.shared and one is not every[0]:
                continue
            worker = "" if family.shared else f'worker="{one.worker}"'
            by_name.setdefault(family.name, []).append((worker, family))
    lines: list[str] = []
    for name, found in sorted(by_name.items()):
        first = found[0][1]
        lines += [f"# HELP {name} {first.text}", f"# TYPE {name} {first.kind}"]
        for worker, family in found:
            lines += _samples(family, worker)
    return ("\n".join(lines) + "\n").encode()


def _samples(family: Family, worker: str) -> Iterator[str]:
    for sample in family.samples:
        yield f"{family.name}{_braces(sample.labels, worker)} {_number(sample.value)}"
    for one in family.histograms:
        total = 0
        for bound, count in zip((*family.bounds, None), one.counts, strict=True):
            total += count
            le = 'le="+Inf"' if bound is None else f'le="{bound:g}"'
            yield f"{family.name}_bucket{_braces(one.labels, worker, le)} {total}"
        braces = _braces(one.labels, worker)
        yield f"{family.name}_sum{braces} {_number(one.total)}"
        yield f"{family.name}_count{braces} {total}"


def _braces(labels: Labels, *more: str) -> str:
    told = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    inside = ",".join([*told, *filter(None, more)])
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
