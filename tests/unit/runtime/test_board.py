from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from penstock.adapters.system import SystemClock
from penstock.runtime import Board, Family, Histogram, Sample, exposition, read_boards

if TYPE_CHECKING:
    from pathlib import Path

HERE = "http://127.0.0.1:8001"
OTHER = """
import sys
from pathlib import Path
from penstock.adapters.system import SystemClock
from penstock.runtime import Board, Family, Sample
board = Board(Path(sys.argv[1]), sys.argv[2], SystemClock())
board.publish([Family("asked_total", "counter", "Asked.", [Sample({}, 7)])])
print(board.worker, flush=True)
sys.stdin.read()
"""


def _asked(number: int) -> list[Family]:
    return [Family("asked_total", "counter", "Asked.", [Sample({"by": "me"}, number)])]


def test_processes_of_an_address_are_told_together(tmp_path: Path) -> None:
    first, second = (Board(tmp_path, HERE, SystemClock()) for _ in range(2))
    elsewhere = Board(tmp_path, "http://127.0.0.1:8002", SystemClock())
    assert [first.worker, second.worker, elsewhere.worker] == [0, 1, 0]
    second.publish(_asked(4))
    elsewhere.publish(_asked(100))

    text = exposition([first.publish(_asked(3)), *first.others()]).decode()

    assert text == (
        "# HELP asked_total Asked.\n# TYPE asked_total counter\n"
        'asked_total{by="me",worker="0"} 3\nasked_total{by="me",worker="1"} 4\n'
    )
    assert [(one.address, one.worker) for one in read_boards(tmp_path)] == [
        (HERE, 0), (HERE, 1), ("http://127.0.0.1:8002", 0)
    ]  # fmt: skip


def test_what_all_see_alike_is_told_once(tmp_path: Path) -> None:
    first, second = (Board(tmp_path, HERE, SystemClock()) for _ in range(2))
    lag = [Family("lag_seconds", "gauge", "Lag.", [Sample({}, 1.5)], shared=True)]
    second.publish(lag)

    assert exposition([first.publish(lag), *first.others()]).decode().splitlines()[2:] == [
        "lag_seconds 1.5"
    ]


def test_a_killed_process_is_told_no_more_and_its_place_is_free(tmp_path: Path) -> None:
    mine = Board(tmp_path, HERE, SystemClock())
    command = [sys.executable, "-c", OTHER, str(tmp_path), HERE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        assert [one.worker for one in mine.others()] == [1]

        other.kill()
        other.wait()

    assert mine.others() == []
    successor = Board(tmp_path, HERE, SystemClock())
    assert successor.worker == 1


def test_a_process_that_ends_takes_its_numbers_away(tmp_path: Path) -> None:
    board = Board(tmp_path, HERE, SystemClock())
    board.publish(_asked(1))
    board.close()

    assert read_boards(tmp_path) == []
    assert Board(tmp_path, HERE, SystemClock()).worker == 0


def test_a_damaged_file_hides_nobody_else(tmp_path: Path) -> None:
    first, second = (Board(tmp_path, HERE, SystemClock()) for _ in range(2))
    second.publish(_asked(1))
    (path,) = tmp_path.rglob("1.json")
    path.write_bytes(b"{")

    assert first.others() == []
    second.publish(_asked(2))
    assert len(first.others()) == 1


@pytest.mark.parametrize("value", [0.5, 3.0, 1e-7, 2**60])
def test_numbers_and_histograms_are_what_they_were(tmp_path: Path, value: float) -> None:
    spread = Histogram({"of": "x"}, [1, 0, 2], value)
    family = Family("took_seconds", "histogram", "Took.", (), [spread], (0.001, 10.0))
    board = Board(tmp_path, HERE, SystemClock())

    (found,) = text_string_to_metric_families(exposition([board.publish([family])]).decode())

    told = {(one.name, one.labels.get("le")): one.value for one in found.samples}
    assert told == {
        ("took_seconds_bucket", "0.001"): 1, ("took_seconds_bucket", "10"): 1,
        ("took_seconds_bucket", "+Inf"): 3, ("took_seconds_sum", None): value,
        ("took_seconds_count", None): 3,
    }  # fmt: skip


def test_what_cannot_be_written_is_told_and_said_once(tmp_path: Path) -> None:
    board = Board(tmp_path, HERE, SystemClock())
    in_its_place = board.folder / "0.json.draft"
    in_its_place.mkdir()
    with capture_logs() as said:
        texts = {exposition([board.publish(_asked(3))]) for _ in range(3)}
    assert b"asked_total" in texts.pop()
    assert [one["event"] for one in said] == ["what is measured cannot be written"]
    in_its_place.rmdir()
    board.publish(_asked(4))
    assert (board.folder / "0.json").is_file()
