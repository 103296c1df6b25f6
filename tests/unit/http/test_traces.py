from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InputError, NotSupportedError
from penstock.http.serve_traces import parent_of, trace_settings

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEX = st.text("0123456789abcdef", min_size=0, max_size=34)
PARTS = st.one_of(st.sampled_from(["00", "01", "ff", TRACE, SPAN, "0" * 32, "0" * 16, "A0"]), HEX)


def _of(*given_values: str) -> object:
    return parent_of([(b"traceparent", value.encode()) for value in given_values])


def test_a_clients_span() -> None:
    headers = [(b"tracestate", b"a=1"), (b"x", b"y"), (b"tracestate", b"b=2")]
    found = parent_of([*headers, (b"traceparent", f"00-{TRACE}-{SPAN}-03".encode())])
    assert found is not None
    assert (found.trace_id, found.span_id) == (TRACE, int(SPAN, 16))
    assert (found.sampled, found.state) == (True, "a=1,b=2")
    unsampled = parent_of([(b"traceparent", f"00-{TRACE}-{SPAN}-02".encode())])
    assert unsampled is not None
    assert not unsampled.sampled
    # A later version may say more.
    assert _of(f"cc-{TRACE}-{SPAN}-01-what-ever") is not None
    assert _of(f"00-{TRACE}-{SPAN}-01-what-ever") is None
    # Nobody can say which of two it is.
    assert _of(f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01") is None


@given(st.lists(PARTS, min_size=3, max_size=5))
def test_any_header_is_read_as_the_standard_has_it_or_left(parts: list[str]) -> None:
    def fits() -> bool:
        if len(parts) < 4 or parts[0] == "ff" or (parts[0] == "00" and len(parts) > 4):
            return False
        lengths = [len(part) for part in parts[:4]] == [2, 32, 16, 2]
        digits = all(re.fullmatch("[0-9a-f]+", part) for part in parts[:4])
        return lengths and digits and bool(set(parts[1]) - {"0"} and set(parts[2]) - {"0"})

    assert (_of("-".join(parts)) is not None) == fits()


@given(st.binary(max_size=80))
def test_no_header_fails(value: bytes) -> None:
    parent_of([(b"traceparent", value)])


def test_where_nothing_is_traced_settings_say_so() -> None:
    told = trace_settings(None, {"trace_level": ["OFF"], "trace_rate": None})
    assert (told["trace_level"], told["trace_rate"]) == (["OFF"], "0")
    with pytest.raises(NotSupportedError, match="Set traces = true"):
        trace_settings(None, {"trace_rate": "5"})
    with pytest.raises(InputError, match="Did you mean 'trace_rate'"):
        trace_settings(None, {"trace_rade": "5"})
