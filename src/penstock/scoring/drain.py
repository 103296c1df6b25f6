"""From the write-ahead files into the scores table, exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.errors import StateError
from penstock.ports import compact_grown
from penstock.records import Score

from .backlog import note_drained
from .frames import SCORE_SCHEMA, score_frame, scores_in, table_of
from .score_log import finished, segments

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.ports import Services, Tables

__all__ = ["drain_scores", "find_score"]

CHUNK_BYTES = 8 << 20
LINES = msgspec.json.Decoder(Score)


def drain_scores(services: Services, deployment: str | None = None) -> int:
    """Move what serving processes have logged into the tables ``scores/<deployment>``.

    The writer of an append is the file, its number the offset it reaches to, stored in the same
    commit as the rows: killed anywhere and run again, each score is in the table exactly once. A
    file is removed when nobody writes it any more and all of it is in the table. Files
    that are still written are drained as far as they are; a half-written last line is left, and
    dropped once its writer is gone, since its answer was never sent.

    Args:
        services: The score log's folder, tables and locks.
        deployment: Only this one; all of them when left out.

    Returns:
        How many scores were moved.

    Raises:
        StateError: A file is damaged; names it and the place. All others have been moved.
        UnavailableError: Another process is draining the deployment all the time.
    """
    root = services.score_log
    found = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    moved = 0
    damaged: list[StateError] = []
    for folder in found:
        if deployment not in {None, folder.name} or not segments(folder):
            continue
        with services.locks.hold(f"scores/{folder.name}"):
            offsets: dict[str, int] = {}
            table = table_of(folder.name)
            before = services.tables.version(table)
            for path in segments(folder):
                try:
                    rows, offsets[path.name] = _drain_file(services.tables, folder.name, path)
                except StateError as error:
                    damaged.append(error)
                else:
                    moved += rows
            note_drained(folder, offsets)
            compact_grown(services.tables, table, since=before)
    if damaged:
        raise damaged[0]
    return moved


def find_score(services: Services, prediction_id: str) -> Score | None:
    """The score of that id, whether it is in a table yet or not.

    Files are searched before tables: a score leaves its file only after it is in the table, so it
    cannot slip through in between.

    Args:
        services: The score log's folder and tables.
        prediction_id: Its id.
    """
    wanted = f'"prediction_id":"{prediction_id}"'.encode()
    root = services.score_log
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        for path in segments(folder):
            data = _read(path)
            place = data.find(wanted)
            if place >= 0:
                begin = data.rfind(b"\n", 0, place) + 1
                return LINES.decode(data[begin : data.index(b"\n", place)])
    for name in services.tables.names("scores/"):
        rows = services.tables.scan(name).filter(pl.col("prediction_id") == prediction_id)
        scores = scores_in(rows.collect())
        if scores:
            return scores[0]
    return None


def _read(path: Path) -> bytes:
    """The file's whole lines; none when it has just been removed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def _drain_file(tables: Tables, deployment: str, path: Path) -> tuple[int, int]:
    # Asked before the file is read: what is finished now cannot grow afterwards.
    with finished(path) as is_finished:
        found = _drain_lines(tables, deployment, path)
        if is_finished:
            path.unlink(missing_ok=True)
    return found


def _drain_lines(tables: Tables, deployment: str, path: Path) -> tuple[int, int]:
    """Move what is new in a file; returns how many scores, and how far into it that was."""
    table, app = table_of(deployment), f"scores/{deployment}/{path.stem}"
    size_bytes = path.stat().st_size
    done = tables.applied(table, app) if size_bytes else 0
    moved = 0
    if done < size_bytes:
        tables.widen(table, SCORE_SCHEMA)
    while done < size_bytes:
        chunk = _chunk(path, done)
        if not chunk:
            break
        scores = _decode(path, done, chunk)
        done += len(chunk)
        if tables.append(table, score_frame(scores), app=app, number=done):
            moved += len(scores)
    return moved, done


def _chunk(path: Path, offset: int) -> bytes:
    """Whole lines from the offset on, a chunk at most."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(CHUNK_BYTES)
    return data[: data.rfind(b"\n") + 1]


def _decode(path: Path, offset: int, chunk: bytes) -> list[Score]:
    try:
        return LINES.decode_lines(chunk)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StateError(
            f"{path} is damaged after byte {offset}: {error}. Expected one score a line. "
            "Cut the damaged line out of the file, and drain again; the scores before it are "
            "in the table.",
            path=str(path),
            offset=offset,
        ) from error
