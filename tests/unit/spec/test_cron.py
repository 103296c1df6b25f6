from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.spec import cron_times

MINUTE = timedelta(minutes=1)
NUMBERS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}


@st.composite
def fields(draw: st.DrawFn, name: str) -> tuple[str, frozenset[int] | None]:
    """A field's text and the numbers it means; none for no restriction."""
    low, high = NUMBERS[name]
    kind = draw(st.sampled_from(["star", "star", "step", "number", "range", "list"]))
    if kind == "star":
        return "*", None
    a = draw(st.integers(low, high))
    b = draw(st.integers(a, high))
    by = draw(st.integers(1, 20))
    if kind == "step":
        return f"*/{by}", frozenset(range(low, high + 1, by))
    if kind == "number":
        return str(a), frozenset({a})
    if kind == "range":
        return f"{a}-{b}/{by}", frozenset(range(a, b + 1, by))
    return f"{a},{b}", frozenset({a, b})


def naive(moment: datetime, sets: list[frozenset[int] | None]) -> bool:
    """Whether cron fires in that minute, read from its manual page."""
    minute, hour, day, month, weekday = sets
    weekdays = None if weekday is None else {number % 7 for number in weekday}
    if minute is not None and moment.minute not in minute:
        return False
    if hour is not None and moment.hour not in hour:
        return False
    if month is not None and moment.month not in month:
        return False
    by_day = day is not None and moment.day in day
    by_weekday = weekdays is not None and (moment.weekday() + 1) % 7 in weekdays
    if day is None or weekdays is None:
        return (day is None or by_day) and (weekdays is None or by_weekday)
    return by_day or by_weekday


def can_happen(sets: list[frozenset[int] | None]) -> bool:
    _, _, day, month, weekday = sets
    if day is None or weekday is not None:
        return True
    longest = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return any(min(day) <= longest[number - 1] for number in month or range(1, 13))


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(
    st.tuples(*(fields(name) for name in NUMBERS)),
    st.datetimes(datetime(1999, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - UTC below
)
def test_the_latest_occasion_is_the_one_found_by_walking_back(
    parts: tuple[tuple[str, frozenset[int] | None], ...], start: datetime
) -> None:
    text = " ".join(text for text, _ in parts)
    if not can_happen([numbers for _, numbers in parts]):
        with pytest.raises(ValueError, match="never happens"):
            cron_times(text)
        return
    times = cron_times(text)
    at = start.replace(tzinfo=UTC)
    sets = [numbers for _, numbers in parts]
    moment = at.replace(second=0, microsecond=0)
    expected = None
    for _ in range(3_000):  # two days: the rest of the way is the same
        if naive(moment, sets):
            expected = us(moment)
            break
        moment -= MINUTE
    found = times.latest_us(us(at))
    assert found is not None
    if expected is None:
        assert found < us(moment + MINUTE)
        assert naive(datetime.fromtimestamp(found / 1e6, tz=UTC), sets)
    else:
        assert found == expected


def test_months_have_names() -> None:
    assert cron_times("0 0 1 feb,dec *") == cron_times("0 0 1 2,12 *")


def test_both_seven_and_zero_are_sunday() -> None:
    assert cron_times("0 0 * * 7") == cron_times("0 0 * * 0") == cron_times("0 0 * * SUN")
    assert cron_times("0 0 * * mon-fri").weekdays == {1, 2, 3, 4, 5}


def test_the_leap_day_is_found_across_a_century_without_one() -> None:
    found = cron_times("30 12 29 2 *").latest_us(us(datetime(2104, 2, 28, tzinfo=UTC)))
    assert found == us(datetime(2096, 2, 29, 12, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("0 3 *", "has 3 fields"),
        ("60 * * * *", "minute '60' is not one of 0 to 59"),
        ("* * * foo *", "not one of 1 to 12 or jan"),
        ("* * 0 * *", "day '0' is not one of 1 to 31"),
        ("*/0 * * * *", "minute '*/0' is no range"),
        ("9-3 * * * *", "minute '9-3' is no range"),
        ("1,,2 * * * *", "minute '' is not"),
        ("0 0 30 2 *", "never happens"),
    ],
)
def test_what_is_no_expression_says_why(expression: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("*", r"\*")):
        cron_times(expression)
