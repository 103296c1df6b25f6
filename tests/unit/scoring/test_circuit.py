from __future__ import annotations

from penstock.scoring import Circuit

SECOND_US = 1_000_000


def test_a_circuit_opens_after_failures_in_a_row_and_lets_one_try() -> None:
    circuit = Circuit()
    for _ in range(4):
        circuit.failed(0)
    assert circuit.allows(1)

    circuit.failed(1)

    assert not circuit.allows(2)
    assert circuit.allows(600_000)
    assert not circuit.allows(600_001)
    circuit.succeeded()
    assert circuit.allows(600_002)


def test_a_circuit_waits_longer_after_each_failed_try() -> None:
    circuit = Circuit()
    for _ in range(5):
        circuit.failed(0)
    assert circuit.allows(500_000)
    circuit.failed(500_000)

    assert not circuit.allows(1_499_999)
    assert circuit.allows(1_500_000)


def test_those_under_way_when_it_opens_fail_together_and_confirm_nothing() -> None:
    circuit = Circuit()
    for _ in range(64):
        circuit.failed(1)

    assert circuit.is_open
    assert not circuit.is_confirmed
    assert circuit.allows(600_000)  # the pause has not grown


def test_a_try_that_fails_confirms_that_the_version_is_no_good() -> None:
    circuit = Circuit()
    for _ in range(5):
        circuit.failed(1)
    assert circuit.allows(600_000)

    circuit.failed(620_000)
    assert circuit.is_confirmed

    assert circuit.allows(3 * SECOND_US)
    circuit.succeeded()
    assert not circuit.is_confirmed
    assert not circuit.is_open


def test_opening_twice_within_a_minute_confirms_it_too() -> None:
    circuit = Circuit()
    for now_us in (1, 50 * SECOND_US, 200 * SECOND_US):
        for _ in range(5):
            circuit.failed(now_us)
        assert circuit.is_confirmed == (now_us == 50 * SECOND_US)
        circuit.succeeded()


def test_a_version_that_fails_now_and_then_is_found_by_its_share() -> None:
    """A third fails, never five in a row; a fiftieth does not matter."""
    for every, opens in ((3, True), (50, False)):
        circuit = Circuit()
        opened = False
        for call in range(3_000):
            if call % every:
                circuit.succeeded()
            else:
                circuit.failed(1 + call * 1_000)
                opened = opened or circuit.is_open
        assert opened == opens, every


def test_what_was_good_long_ago_hides_nothing() -> None:
    circuit = Circuit()
    for _ in range(100_000):
        circuit.succeeded()
    circuit.failed(1)
    calls = 0
    while not circuit.is_open:
        calls += 1
        now_us = 10 * SECOND_US + calls * 10_000
        if calls % 5 < 2:
            circuit.failed(now_us)
        else:
            circuit.succeeded()

    assert calls < 250
