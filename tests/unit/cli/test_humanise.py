from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from penstock.cli.humanise import ago, count, measured, moment, number, pairs, plural, size, span

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.43, "430 ms"),
        (2.12, "2.1 s"),
        (180, "3 min"),
        (18_000, "5 h"),
        (2e5, "2 d"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (3.0, "3"),
        (2233.62, "2,233.6"),
        (-0.00151234, "-0.0015123"),
        (61_234.56, "61,235"),
        (1_234_567.8, "1,234,568"),
        (1e-9, "1e-09"),
        (1e300, "1e+300"),
    ],
)
def test_a_number_of_any_size_has_few_digits(value: float | None, text: str) -> None:
    assert measured(value) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(12, "12 B"), (1_200_000, "1.2 MB"), (3.4e15, "3400.0 TB")]
)
def test_size(size_bytes: float, text: str) -> None:
    assert size(size_bytes) == text


def test_ago() -> None:
    assert ago(None, NOW) == "-"
    assert ago(NOW - timedelta(minutes=5), NOW) == "5 min ago"
    assert ago(NOW + timedelta(hours=5), NOW) == "in 5 h"
    assert ago(NOW - timedelta(milliseconds=10), NOW) == "now"


def test_numbers() -> None:
    assert count(1_234_567) == "1,234,567"
    assert number(None) == "-"
    assert number(0.123456) == "0.1235"
    assert number(-200_000.4) == "-200,000"
    assert plural(1, "row") == "1 row"
    assert plural(2_000, "row") == "2,000 rows"
    assert [plural(2, noun) for noun in ("batch", "entry", "day")] == [
        "2 batches",
        "2 entries",
        "2 days",
    ]
    assert pairs({"rows": 5, "share": 0.25, "error": ""}) == "rows=5 share=0.25"
    assert pairs({"a": {"x": 0.1234567, "y": [1, 2]}}) == "a=(x 0.1235, y (1, 2))"


def test_moment() -> None:
    assert moment(None) == "-"
    assert moment(1_700_000_000_000_000) == "2023-11-14 22:13:20"
