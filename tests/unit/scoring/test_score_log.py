from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from penstock.adapters.system import SystemClock, UlidIds
from penstock.errors import StateError, UnavailableError
from penstock.records import Score
from penstock.runtime import open_services
from penstock.scoring import (
    SCORE_SCHEMA,
    ScoreLog,
    drain_scores,
    find_score,
    score_frame,
    scores_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    (tmp_path / ".penstock").mkdir()
    with open_services(tmp_path) as opened:
        yield opened


def _scores(count: int, first: int = 0, deployment: str = "btc") -> list[Score]:
    return [
        Score(
            prediction_id=f"{number:026d}",
            deployment=deployment,
            model="m",
            version=1,
            route="champion",
            engine="onnx",
            entity=f"é{number}",
            at_us=number,
            features=(1.5, None, float(number)),
            prediction=0.25,
            scored_at_us=number + 1,
            duration_us=7,
            progress={"v": number},
        )
        for number in range(first, first + count)
    ]


def _log(services: LocalServices, *, limit_bytes: int = 1 << 20) -> ScoreLog:
    return ScoreLog(services.score_log / "btc", services.ids, limit_bytes=limit_bytes)


def _stored(services: LocalServices) -> list[Score]:
    frame = services.tables.scan("scores/btc").sort("prediction_id").collect()
    return scores_in(frame)


def _files(services: LocalServices) -> list[Path]:
    return sorted((services.score_log / "btc").glob("*.jsonl"))


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    features=st.lists(st.none() | finite, max_size=5),
    prediction=finite,
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    progress=st.dictionaries(st.text("ab_", min_size=1), st.integers(0, 2**40), max_size=3),
)
def test_a_score_survives_the_table(
    features: list[float | None], prediction: float, text: str, progress: dict[str, int]
) -> None:
    score = Score(
        prediction_id="p", deployment="d", model="m", version=2, route="champion", engine="onnx",
        entity=text, at_us=-5, features=tuple(features), prediction=prediction, scored_at_us=1,
        duration_us=0, progress=progress, origin="request", reason=text, request_id=text,
    )  # fmt: skip

    frame = score_frame([score])

    assert frame.schema == pl.Schema(SCORE_SCHEMA)
    assert scores_in(frame) == [score]


def test_a_growing_file_is_drained_as_far_as_it_is(services: LocalServices) -> None:
    log = _log(services)
    log.append(_scores(3))
    assert drain_scores(services) == 3
    log.append(_scores(2, first=3))
    log.append(_scores(1, first=5))

    assert drain_scores(services) == 3
    assert drain_scores(services) == 0

    assert _stored(services) == _scores(6)
    assert len(_files(services)) == 1
    log.close()


def test_small_files_of_the_table_are_merged_now_and_then(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.ports.compaction.EVERY", 4)
    log = ScoreLog(services.score_log / "btc", services.ids)
    for number in range(12):
        log.append(_scores(1, number))
        assert drain_scores(services) == 1
    table = DeltaTable(services.layout.tables / "scores" / "btc")
    assert len(table.file_uris()) < 6
    found = services.tables.scan("scores/btc").sort("prediction_id").collect()
    assert scores_in(found) == _scores(12)
    log.close()


def test_a_finished_file_is_removed_after_it_is_drained(services: LocalServices) -> None:
    log = _log(services)
    log.append(_scores(3))
    log.close()

    assert drain_scores(services, "btc") == 3

    assert _files(services) == []
    assert _stored(services) == _scores(3)


def test_only_the_deployment_asked_for_is_drained(services: LocalServices) -> None:
    log = _log(services)
    log.append(_scores(3))

    assert drain_scores(services, "eth") == 0
    assert drain_scores(services, "btc") == 3
    log.close()


def test_a_new_file_begins_at_the_limit(services: LocalServices) -> None:
    log = _log(services, limit_bytes=1_000)
    for number in range(10):
        log.append(_scores(1, first=number))

    assert len(_files(services)) > 1
    assert drain_scores(services) == 10
    assert len(_files(services)) == 1
    assert _stored(services) == _scores(10)
    log.close()


def test_draining_in_small_chunks_loses_nothing(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.scoring.drain.CHUNK_BYTES", 800)
    log = _log(services)
    log.append(_scores(10))
    log.close()

    assert drain_scores(services) == 10
    assert _stored(services) == _scores(10)


def test_a_drain_that_dies_after_its_append_does_nothing_twice(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _log(services)
    log.append(_scores(4))
    log.close()
    append = services.tables.append

    def die_after(name: str, frame: pl.DataFrame, *, app: str, number: int) -> bool:
        append(name, frame, app=app, number=number)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(services.tables, "append", die_after)
        with pytest.raises(KeyboardInterrupt):
            drain_scores(services)

    assert len(_files(services)) == 1
    assert drain_scores(services) == 0
    assert _stored(services) == _scores(4)
    assert _files(services) == []


def test_the_torn_last_line_of_a_dead_process_is_dropped(services: LocalServices) -> None:
    log = _log(services)
    log.append(_scores(2))
    log.close()
    (path,) = _files(services)
    path.write_bytes(path.read_bytes() + b'{"prediction_id":"half')

    assert drain_scores(services) == 2
    assert _files(services) == []
    assert _stored(services) == _scores(2)


def test_a_damaged_line_is_named_and_nothing_is_removed(services: LocalServices) -> None:
    log = _log(services)
    log.append(_scores(1))
    log.close()
    (path,) = _files(services)
    path.write_bytes(path.read_bytes() + b"garbage\n")

    log.append(_scores(2, first=5))
    log.close()

    with pytest.raises(StateError, match=f"{path.name} is damaged"):
        drain_scores(services)

    assert _files(services) == [path]
    assert _stored(services) == _scores(2, first=5), "the other files are not held up"


def test_a_score_is_found_before_and_after_it_is_drained(services: LocalServices) -> None:
    log = _log(services)
    log.append(_scores(5))
    wanted = _scores(1, first=3)[0]

    assert find_score(services, wanted.prediction_id) == wanted
    log.close()
    drain_scores(services)
    assert find_score(services, wanted.prediction_id) == wanted
    assert find_score(services, "nobody") is None


def test_a_full_disk_keeps_nothing_of_the_batch(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _log(services)
    log.append(_scores(1))
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(
            "penstock.scoring.score_log.os.write", lambda file, data: write(file, data[:9])
        )
        with pytest.raises(UnavailableError, match="No space left"):
            log.append(_scores(1, first=1))
    log.append(_scores(1, first=2))
    log.close()

    assert drain_scores(services) == 2
    assert [score.at_us for score in _stored(services)] == [0, 2]


def test_a_file_that_is_just_being_made_is_not_removed(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain finds the file between its making and its locking, and goes on to remove it."""
    lock, unlink = fcntl.flock, Path.unlink
    about_to_remove = threading.Event()
    drains: list[threading.Thread] = []

    def drain_first(file: int, how: int) -> None:
        if how == fcntl.LOCK_EX and not drains:
            drains.append(threading.Thread(target=drain_scores, args=(services,)))
            drains[0].start()
            about_to_remove.wait()
        lock(file, how)

    def remove_late(path: Path, *, missing_ok: bool = False) -> None:
        if path.suffix == ".jsonl":
            about_to_remove.set()
            time.sleep(0.1)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr("penstock.scoring.score_log.fcntl.flock", drain_first)
    monkeypatch.setattr(Path, "unlink", remove_late)
    log = _log(services)
    log.append(_scores(3))
    drains[0].join()
    log.close()

    drain_scores(services)
    assert _stored(services) == _scores(3)


def test_what_was_read_before_it_was_taken_back_hides_nothing(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full; a drain sees the lines that were written before they are taken back."""
    log = _log(services)
    log.append(_scores(1))
    write, cut = os.write, os.ftruncate
    drained: list[int] = []

    def write_less(file: int, data: bytes) -> int:
        return write(file, data[:-9] if b"prediction_id" in data else data)

    def drain_first(file: int, size_bytes: int) -> None:
        if not drained:  # draining takes a lock, whose file is cut as well
            drained.append(file)
            drain_scores(services)
        cut(file, size_bytes)

    with monkeypatch.context() as patched:
        patched.setattr("penstock.scoring.score_log.os.write", write_less)
        patched.setattr("penstock.scoring.score_log.os.ftruncate", drain_first)
        with pytest.raises(UnavailableError, match="No space left"):
            log.append(_scores(3, first=1))
    log.append(_scores(2, first=9))
    log.close()

    drain_scores(services)
    assert [score.at_us for score in _stored(services)][-2:] == [9, 10]


WRITER = """
import os, sys
from pathlib import Path
from penstock.adapters.system import SystemClock, UlidIds
from penstock.records import Score
from penstock.scoring.score_log import ScoreLog

log = ScoreLog(Path(sys.argv[1]), UlidIds(SystemClock()))
number = 0
while True:
    log.append([Score(prediction_id=f"{number + n:026d}", deployment="btc", model="m", version=1,
                      route="champion", engine="onnx", entity="", at_us=0, features=(),
                      prediction=0.5, scored_at_us=0, duration_us=0) for n in range(3)])
    number += 3
    os.write(1, f"{number}\\n".encode())
"""


@pytest.mark.slow
def test_what_a_killed_process_has_answered_is_there(services: LocalServices) -> None:
    folder = str(services.score_log / "btc")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(200):
        writer.stdout.readline()
    drain_scores(services)
    assert len(_files(services)) == 1
    writer.kill()
    said = [int(line) for line in writer.stdout.read().split() if line]
    writer.wait()
    writer.stdout.close()

    drain_scores(services)

    stored = [int(score.prediction_id) for score in _stored(services)]
    assert stored == list(range(len(stored)))
    assert len(stored) >= max(said)
    assert _files(services) == []


def test_ids_of_files_are_never_used_again(tmp_path: Path) -> None:
    ids = UlidIds(SystemClock())
    names: set[str] = set()
    for _ in range(3):
        log = ScoreLog(tmp_path, ids)
        log.append(_scores(1))
        log.close()
        names |= {path.name for path in tmp_path.glob("*.jsonl")}

    assert len(names) == 3
