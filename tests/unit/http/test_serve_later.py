"""What is let go of is closed once: when its time has come, or at the end."""

from __future__ import annotations

import asyncio

from penstock.http.serve_later import Later


def test_it_is_closed_when_its_time_has_come_or_at_the_end() -> None:
    closed: list[str] = []

    async def run() -> None:
        later = Later()
        later.close(lambda: closed.append("soon"), 0.01)
        later.close(lambda: closed.append("late"), 60)
        await asyncio.sleep(0.1)
        assert closed == ["soon"]
        later.finish()
        assert closed == ["soon", "late"]
        later.finish()

    asyncio.run(run())
    assert closed == ["soon", "late"]
