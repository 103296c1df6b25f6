from __future__ import annotations

from typing import NamedTuple

import pytest

from penstock.ports import merge_below


class _Simulated(NamedTuple):
    """What a table that takes one file of a size at a time comes to."""

    most_files: int
    written: float  # bytes that mergers wrote for each that was appended


def _simulated(appends: int, size_bytes: int) -> _Simulated:
    files: list[int] = []
    most, rewritten = 0, 0
    for number in range(1, appends + 1):
        files.append(size_bytes)
        most = max(most, len(files))
        below = merge_below(number - 1, number)
        if below is None:
            continue
        small = [size for size in files if size < below]
        files = [size for size in files if size >= below]
        merged = 0
        for size in small:
            merged += size
            if merged >= below:
                files.append(merged)
                merged = 0
        files += [merged] if merged else []
        rewritten += sum(small)
    return _Simulated(most, rewritten / (appends * size_bytes))


@pytest.mark.parametrize("size_bytes", [1_000, 20_000, 200_000])
def test_a_table_has_few_small_files_and_rewrites_each_row_a_few_times(size_bytes: int) -> None:
    found = _simulated(80_000, size_bytes)
    large = 80_000 * size_bytes // (100 << 20)
    assert found.most_files - large < 700
    assert found.written < 13


def test_it_is_time_when_a_table_has_grown_past_a_multiple() -> None:
    assert merge_below(0, 255) is None
    assert merge_below(255, 256) == 4 << 20
    assert merge_below(256, 511) is None
    assert merge_below(200, 700) == 4 << 20
    assert merge_below(4_095, 4_096) == 32 << 20
    assert merge_below(65_000, 65_600) == 128 << 20
