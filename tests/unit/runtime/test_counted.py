"""What a canary compares by: what versions did, and not what befell them."""

from __future__ import annotations

from penstock.runtime import Family, Measured, Sample
from penstock.runtime.counted import version_counts


def test_scores_that_could_not_be_logged_are_no_errors_of_a_version() -> None:
    labels = {"deployment": "btc", "route": "challenger", "version": "2"}
    samples = [
        Sample({**labels, "kind": kind}, number)
        for kind, number in (("not_logged", 50), ("late", 2), ("user_code", 1))
    ]
    family = Family("penstock_score_errors_total", "counter", "", samples)
    measured = Measured(
        process_id=1, started_at_s=1.0, at_us=1, address="", worker=0, families=[family]
    )
    (found,) = version_counts([measured])
    counts = found.versions["2"]
    assert (counts.errors, counts.late, counts.asked) == (1, 2, 3)
