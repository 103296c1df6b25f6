"""Good bytes with something wrong, for tests of what reads bytes of strangers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["damaged"]

JUNK = (b"\x00" * 8, b"\xff" * 8, (1 << 40).to_bytes(8, "little"), b"\xff\xff\xff\x7f")


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """A good body with bytes altered, overwritten, taken out or cut off."""
    body = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(body) - 1, 0)))
        what = draw(st.sampled_from(["alter", "overwrite", "remove", "cut"]))
        if what == "alter" and body:
            body[place] = draw(st.integers(0, 255))
        elif what == "overwrite":
            junk = draw(st.sampled_from(JUNK))
            body[place : place + len(junk)] = junk
        elif what == "remove":
            del body[place : place + draw(st.integers(1, 8))]
        else:
            del body[place:]
    return bytes(body)
