"""Parts of a computation, as tasks of the executor.

The entities of a view are split into parts, and a part needs nothing of another: its points and its
records give its values. Each is a task. What goes in and what comes out are Arrow files, and tasks
hold their paths alone. The files of one computation lie in one folder, named by a hash of all that
its values depend on. A part whose values are there, whole and under their own name, is done: a
computation that was killed anywhere and is run again with the same inputs computes only the others.
The folder goes when whatever the values were wanted for has been stored.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec
import numpy as np
import polars as pl

from penstock.algebra import Tombstones
from penstock.ports import Task
from penstock.spec import FeatureView, fingerprint

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from penstock.algebra import BoolArray, FloatArray, IntArray
    from penstock.ports import Executor, Services

__all__ = [
    "Part",
    "PartJob",
    "PartValues",
    "Parts",
    "drop_old_parts",
    "load_part",
    "load_tombstones",
    "parts_of",
    "save_values",
]

COMPUTE = "penstock.features.part_worker:compute"
TOMBSTONES, WANTED = "tombstones.arrow", "wanted"
LAYOUT = 2
"""Number of this layout of the files; those of another are not looked at."""


class Part(NamedTuple):
    """Some of the entities, with all of their points.

    Attributes:
        known: The keys of the entities, each once.
        codes: Place of each point's entity among them, -1 for none.
        at_us: Time of each point.
        batches: Last raw batch of each point, where they differ.
    """

    known: pl.Series
    codes: IntArray
    at_us: IntArray
    batches: IntArray | None


class PartValues(NamedTuple):
    """What came out of a part.

    Attributes:
        values: float64 ``[points, features]``, NaN for null.
        met: Whether each of its entities has a record.
    """

    values: FloatArray
    met: BoolArray


@dataclass(frozen=True)
class PartJob:
    """A computation that is split.

    Attributes:
        view: The view.
        table: Name of the raw table.
        version: Its version.
        wanted: Which of its records.
        records: All of its records, deleted ones too.
        tombstones: The deletions that count, as version and ``wanted`` say; none for none.
        as_known: Whether only what had arrived by a point's time counts.
        whole: All points.
        count: How many parts.
        columns_at_once: Columns of newest values that are read at once; no value depends on it.
    """

    view: FeatureView
    table: str
    version: int
    wanted: pl.Expr
    records: pl.LazyFrame
    tombstones: Tombstones | None
    as_known: bool
    whole: Part
    count: int
    columns_at_once: int

    def rows(self, place: int) -> IntArray | slice:
        """The places of a part's points among all."""
        if self.count == 1:
            return slice(None)
        return np.flatnonzero(np.maximum(self.whole.codes, 0) % self.count == place)

    def part(self, place: int) -> Part:
        """One part: every so manieth of the entities."""
        rows = self.rows(place)
        known, codes, at_us, batches = self.whole
        # The places of a part's entities among its own are their places among all, without gaps.
        own = np.where(codes[rows] < 0, -1, codes[rows] // self.count)
        upto = None if batches is None else batches[rows]
        return Part(known.gather_every(self.count, place), own, at_us[rows], upto)


class Parts:
    """Computes the parts of computations as tasks, and keeps their values until all is stored.

    A context manager. Whoever opens it holds a lock of what the values are for, so that all that
    lies in the folder is its own, now or of an earlier time; left without an error, it is emptied.

    Args:
        executor: Where they are computed.
        folder: Where files go: on a disk that the executor's workers see under the same path.
        at_once: How many are computed side by side; each has its share of the memory.
    """

    def __init__(self, executor: Executor, folder: Path, *, at_once: int) -> None:
        self._executor = executor
        self._folder = folder
        self.at_once = at_once

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, job: PartJob) -> Iterator[tuple[int, PartValues]]:
        """Compute the parts that are not there yet; yields (place, values) of every one.

        Raises:
            UserCodeError: A function of the user failed.
            UnavailableError: A worker died; what others computed is kept.
        """
        folder = self._folder / _id_of(job)
        rest: list[int] = []
        for place in range(job.count):
            if _is_done(folder, place):
                yield place, _values(folder, place)
            else:
                rest.append(place)
        if not rest:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "records", job.records.serialize())
        _write(folder / WANTED, job.wanted.meta.serialize())
        if job.tombstones is not None:
            _write_frame(folder / TOMBSTONES, job.tombstones.frame)
        tasks = [_task(folder, job, place) for place in rest]
        for index, _ in self._executor.run(tasks, at_once=self.at_once):
            yield rest[index], _values(folder, rest[index])


def parts_of(services: Services, subject: str) -> Parts:
    """What computes parts of a subject with the project's executor, in its scratch folder.

    Args:
        services: The executor, the scratch folder, and how many are computed side by side.
        subject: What they are for, such as ``dataset/direction``.
    """
    folder = services.scratch / "parts" / subject
    return Parts(services.executor, folder, at_once=services.features_at_once)


def drop_old_parts(scratch: Path, *, before_s: float) -> int:
    """Remove what computations left that were killed and never run again; says how many.

    Args:
        scratch: The project's scratch folder.
        before_s: What nobody has written to since then, in seconds since 1970.
    """
    dropped = 0
    for folder in (scratch / "parts").glob("*/*/*"):
        written = [file.stat().st_mtime for file in (folder, *folder.glob("*")) if file.exists()]
        if folder.is_dir() and max(written, default=before_s) < before_s:
            shutil.rmtree(folder, ignore_errors=True)
            dropped += 1
    return dropped


def load_tombstones(folder: Path, view: FeatureView) -> Tombstones | None:
    """The deletions that count in a computation."""
    if not (folder / TOMBSTONES).is_file():
        return None
    source = view.source
    return Tombstones(pl.read_ipc(folder / TOMBSTONES), source.entity.name, source.timestamp)


def load_part(folder: Path, place: int) -> tuple[pl.LazyFrame, pl.Expr, Part]:
    """The records of the table, which of them a computation wants, and one of its parts."""
    records = pl.LazyFrame.deserialize(folder / "records")
    wanted = pl.Expr.deserialize(folder / WANTED)
    points = pl.read_ipc(folder / f"{place}.points.arrow")
    known = pl.read_ipc(folder / f"{place}.keys.arrow")["key"]
    batches = points["batch"].to_numpy() if "batch" in points.columns else None
    return records, wanted, Part(known, points["code"].to_numpy(), points["at"].to_numpy(), batches)


def save_values(folder: Path, place: int, found: PartValues) -> None:
    """Keep what came out of a part; it is done once the last file has its name."""
    _write_frame(folder / f"{place}.met.arrow", pl.DataFrame({"met": found.met}), lasting=True)
    width = found.values.shape[1]
    columns = {str(column): found.values[:, column] for column in range(width)}
    _write_frame(folder / f"{place}.values.arrow", pl.DataFrame(columns), lasting=True)


def _task(folder: Path, job: PartJob, place: int) -> Task:
    part = job.part(place)
    points = {"code": part.codes, "at": part.at_us}
    points |= {} if part.batches is None else {"batch": part.batches}
    _write_frame(folder / f"{place}.points.arrow", pl.DataFrame(points))
    _write_frame(folder / f"{place}.keys.arrow", part.known.rename("key").to_frame())
    return Task(
        function=COMPUTE,
        arguments={
            "view": msgspec.to_builtins(job.view),
            "as_known": job.as_known,
            "columns_at_once": job.columns_at_once,
            "folder": str(folder),
            "place": place,
        },
    )


def _is_done(folder: Path, place: int) -> bool:
    return (folder / f"{place}.values.arrow").is_file()


def _values(folder: Path, place: int) -> PartValues:
    values = pl.read_ipc(folder / f"{place}.values.arrow")
    met = pl.read_ipc(folder / f"{place}.met.arrow")["met"]
    return PartValues(values.to_numpy(), met.to_numpy())


def _id_of(job: PartJob) -> str:
    """A hash of all that the values depend on: meaning, records, points, split, and the code."""
    told = [LAYOUT, version("penstock"), fingerprint(job.view), job.table, job.version]
    digest = hashlib.sha256(msgspec.json.encode([*told, job.as_known, job.count]))
    digest.update(job.wanted.meta.serialize())
    known, *arrays = job.whole
    digest.update(msgspec.json.encode(known.to_list()))
    for array in arrays:
        digest.update(b"none" if array is None else np.ascontiguousarray(array).data)
    return f"{job.view.name}-{digest.hexdigest()[:16]}"


def _write_frame(path: Path, frame: pl.DataFrame, *, lasting: bool = False) -> None:
    with _making(path, lasting=lasting) as file:
        frame.write_ipc(file)


def _write(path: Path, data: bytes) -> None:
    with _making(path, lasting=False) as file:
        file.write(data)


@contextmanager
def _making(path: Path, *, lasting: bool) -> Generator[BinaryIO]:
    """A file that gets its name once it is whole, and one that is to last once it is on disk.

    Until then it has a name of this process's own, as a task that was given up may still be at
    work. What goes into a part need not last: it is written again whenever a part is computed.
    """
    making = path.with_name(f"{path.name}.{os.getpid()}.new")
    with making.open("wb") as file:
        yield file
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    making.replace(path)
