"""What a source expects of its records. A record that breaks one goes to quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .base import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Expectation", "between", "matches", "one_of", "positive", "unique"]

Rule = Literal["positive", "between", "unique", "one_of", "matches"]


class Expectation(Value, frozen=True, omit_defaults=True):
    """One rule over a record.

    Attributes:
        rule: Which rule.
        columns: The columns it reads; for ``unique``, the columns that identify a record.
        low: Smallest allowed value of ``between``: a number, or a column's name.
        high: Largest allowed value of ``between``: a number, or a column's name.
        options: The values that ``one_of`` allows.
        pattern: The regular expression that ``matches`` searches for.
    """

    rule: Rule
    columns: tuple[str, ...]
    low: float | str | None = None
    high: float | str | None = None
    options: tuple[str, ...] = ()
    pattern: str = ""

    @property
    def name(self) -> str:
        """The reason that quarantine gives: ``"positive(close)"``."""
        if self.rule == "between":
            return f"between({self.columns[0]}, {self.low}, {self.high})"
        return f"{self.rule}({', '.join(self.columns)})"

    @property
    def reads(self) -> frozenset[str]:
        """Every column the rule reads."""
        bounds = {bound for bound in (self.low, self.high) if isinstance(bound, str)}
        return frozenset(self.columns) | bounds

    def _subject(self) -> str:
        return f"expectation {self.rule}"

    def _faults(self) -> Iterator[str]:
        if not self.columns:
            yield "it names no column"
        if self.rule == "between" and self.low is None and self.high is None:
            yield "between needs a low or a high bound"
        if self.rule == "one_of" and not self.options:
            yield "one_of needs at least one value"
        if self.rule == "matches" and not self.pattern:
            yield "matches needs a pattern"


def positive(column: str) -> Expectation:
    """The value is greater than zero."""
    return Expectation(rule="positive", columns=(column,))


def between(column: str, low: float | str | None, high: float | str | None) -> Expectation:
    """``low <= value <= high``; a bound is a number, another column's name, or None."""
    return Expectation(rule="between", columns=(column,), low=low, high=high)


def unique(*columns: str) -> Expectation:
    """These columns identify a record.

    A record that comes again unchanged is a duplicate and is counted; one that comes with other
    values goes to quarantine.
    """
    return Expectation(rule="unique", columns=columns)


def one_of(column: str, *options: str) -> Expectation:
    """The value is one of these texts."""
    return Expectation(rule="one_of", columns=(column,), options=options)


def matches(column: str, pattern: str) -> Expectation:
    """The pattern (Rust regular expression) is found in the text."""
    return Expectation(rule="matches", columns=(column,), pattern=pattern)
