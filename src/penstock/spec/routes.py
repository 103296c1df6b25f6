"""Routes of a deployment: who answers which requests, and what answers when nobody does in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from penstock.errors import nearest

from .base import Value
from .durations import duration_us
from .expressions import Expression, columns_of, expression_text, is_condition, leads_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = [
    "ALIASES",
    "Fallback",
    "FallbackStep",
    "Route",
    "by_header",
    "by_rule",
    "cached",
    "challenger",
    "champion",
    "precomputed",
    "shadow",
]

FallbackStep = Literal["previous", "cached", "constant"]
STEPS = get_args(FallbackStep)
HEADER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
RESERVED = ("authorization", "cookie", "content-type", "content-length", "content-encoding")

ALIASES = ("champion", "challenger", "previous", "candidate")
"""The registry's aliases: each points to one version of a model, or to none."""


class Route(Value, frozen=True, omit_defaults=True):
    """A share of the traffic, and who answers it.

    Attributes:
        role: ``champion`` takes what others leave; ``challenger`` takes ``share`` of the entities;
            ``header`` takes the requests that have ``header`` with ``value``; ``rule`` those that
            fulfil ``when``; ``cached`` answers with the last score of the same entity by the same
            version while it is young enough; ``precomputed`` with the newest batch score of the
            entity by the champion; ``shadow`` scores everything, after the answer, and
            answers nothing. Headers come before rules, rules before shares, each in the order
            declared.
        alias: The registry's alias whose version serves; empty where ``version`` names one.
        share: Share of the entities, by hash of their key: the same entity always meets the same
            route.
        version: The version that serves, whatever the alias points to; 0 to follow the alias.
        header: Name of a header of HTTP or of a key of gRPC metadata, in lower case.
        value: What it has to be.
        when: A condition on the entities' keys and the fields of the request.
        max_age: How old a score may be that answers again, such as ``"30s"``; of a precomputed one,
            how old its features.
        salt: Gives a challenger an order of the entities of its own, whatever the deployment's is.
    """

    LATER: ClassVar[tuple[str, ...]] = ("version", "header", "value", "when", "max_age", "salt")

    role: Literal["champion", "challenger", "shadow", "header", "rule", "cached", "precomputed"]
    alias: str
    share: float = 0.0
    version: int = 0
    header: str = ""
    value: str = ""
    when: Expression | None = None
    max_age: str = ""
    salt: str = ""

    @property
    def target(self) -> str:
        """Whom it leads to, in a word: the alias, or ``@3`` for a version."""
        return self.alias or f"@{self.version}"

    @property
    def label(self) -> str:
        """What tells it from others of its role: the header, the condition, or the target."""
        if self.role == "header":
            return f"{self.header}={self.value}"
        return self.target if self.when is None else expression_text(self.when)

    @property
    def why(self) -> str:
        """Why it answers, for the score; empty for the champion, which takes the rest."""
        texts = {
            "challenger": f"share {self.share:g}",
            "header": f"header {self.label}",
            "rule": f"rule {self.label}",
        }
        return texts.get(self.role, "")

    @property
    def max_age_us(self) -> int:
        """How old a score may be that answers again, in microseconds."""
        return duration_us(self.max_age)

    def unknown(self, known: Collection[str]) -> Iterator[str]:
        """Yield what its condition reads that no request says.

        Args:
            known: The entities' keys and the request fields.
        """
        if self.when is not None:
            for name in sorted(columns_of(self.when) - set(known)):
                hint = nearest(name, known)
                yield f"the rule {self.label} reads {name!r}, which no request says. {hint}"

    def _faults(self) -> Iterator[str]:
        if self.role == "challenger" and not 0 < self.share < 1:
            yield f"challenger's share={self.share} is not between 0 and 1"
        if self.role in {"cached", "precomputed"}:
            yield from _duration_faults("max_age", self.max_age)
        elif self.version < 0 or not (self.alias or self.version):
            yield f"{self.role} leads to no version; give alias='candidate', or version=3"
        if self.alias and self.alias not in ALIASES:
            yield f"there is no alias {self.alias!r}. {nearest(self.alias, ALIASES)}"
        yield from self._header_faults()
        if self.role == "rule":
            if self.when is None or not is_condition(self.when):
                yield "a rule is a condition, such as ps.col('amount') > 100"
            elif leads_of(self.when):
                yield "a rule cannot look ahead; only the expression of a label may"

    def _header_faults(self) -> Iterator[str]:
        if self.role != "header":
            return
        if not self.header or not set(self.header) <= HEADER:
            yield f"header {self.header!r} is no name of a header, such as 'x-group'"
        elif self.header in RESERVED:
            yield f"header {self.header!r} has a meaning of its own; take another"
        if not self.value:
            yield "it says no value that the header has to have"


class Fallback(Value, frozen=True, omit_defaults=True):
    """What answers when a route is late or fails.

    Attributes:
        deadline: Longest wait for an answer, such as ``"20ms"``; then something else answers. 10
            seconds when left out.
        to: What is tried, in order: ``previous`` answers with the version before the champion (for
            a challenger, with the champion), ``cached`` with the last score of the same entity,
            ``constant`` with ``value``. One word means that, and then ``value`` where there is one.
        value: The constant; none makes the request fail with 503.
        max_age: How old a score may be that ``cached`` answers with, such as ``"10m"``; as long as
            it is kept when left out.
        slow_after: How long a version may take over a batch before that counts against it as a
            failure does, such as ``"50ms"``. Its answers are given all the same; only where it is
            slow again and again is something else asked. Nothing is slow when left out.
    """

    LATER: ClassVar[tuple[str, ...]] = ("max_age", "slow_after")

    deadline: str = "10s"
    to: FallbackStep | Sequence[FallbackStep] = "previous"
    value: float | None = None
    max_age: str = ""
    slow_after: str = ""

    @property
    def deadline_us(self) -> int:
        """Longest wait in microseconds."""
        return duration_us(self.deadline)

    @property
    def slow_us(self) -> int | None:
        """How long a version may take over a batch, in microseconds; none for any time."""
        return duration_us(self.slow_after) if self.slow_after else None

    @property
    def max_age_us(self) -> int | None:
        """How old a cached score may be, in microseconds; none for any age."""
        return duration_us(self.max_age) if self.max_age else None

    @property
    def steps(self) -> tuple[FallbackStep, ...]:
        """What is tried, in order."""
        named: tuple[FallbackStep, ...] = (self.to,) if isinstance(self.to, str) else tuple(self.to)
        last: tuple[FallbackStep, ...] = () if self.value is None else ("constant",)
        return named if "constant" in named else named + last

    def _faults(self) -> Iterator[str]:
        yield from _duration_faults("deadline", self.deadline)
        yield from self._slow_faults()
        steps = (self.to,) if isinstance(self.to, str) else tuple(self.to)
        for step in steps:
            if step not in STEPS:
                yield f"to has {step!r}; give {', '.join(map(repr, STEPS))}"
        if not steps or len(set(steps)) < len(steps):
            yield "to names nothing, or one twice; name each step once"
        if "constant" in steps and self.value is None:
            yield "to='constant' needs a value"
        if "constant" in steps[:-1]:
            yield "to has steps after 'constant', which always answers; put it last"
        if self.max_age:
            yield from _duration_faults("max_age", self.max_age)
            if "cached" not in steps:
                yield "max_age is for 'cached', which to does not name"

    def _slow_faults(self) -> Iterator[str]:
        if not self.slow_after:
            return
        faults = list(_duration_faults("slow_after", self.slow_after))
        yield from faults
        if not (faults or list(_duration_faults("deadline", self.deadline))):
            slow_us = duration_us(self.slow_after)
            if not 0 < slow_us < self.deadline_us:
                yield (
                    f"slow_after={self.slow_after!r} is not above zero and below the deadline of "
                    f"{self.deadline}, at which an answer is cut"
                )


def _duration_faults(name: str, text: str) -> Iterator[str]:
    try:
        duration_us(text)
    except ValueError as error:
        yield f"{name}: {error}"


def champion() -> Route:
    """The version that the alias ``champion`` points to."""
    return Route(role="champion", alias="champion")


def challenger(*, share: float, alias: str = "", version: int = 0) -> Route:
    """A version for a share of the entities.

    Args:
        share: Of the entities, between 0 and 1.
        alias: The alias whose version it is; ``challenger`` when no version is named either.
        version: The version, by its number.
    """
    named = alias or ("" if version else "challenger")
    return Route(role="challenger", alias=named, share=share, version=version)


def shadow(alias: str = "", *, version: int = 0) -> Route:
    """A version that scores everything and answers nothing.

    Args:
        alias: The alias whose version it is.
        version: The version, by its number, where no alias is named.
    """
    return Route(role="shadow", alias=alias, version=version)


def by_header(name: str, value: str, *, alias: str = "", version: int = 0) -> Route:
    """A version for the requests whose header, or gRPC metadata, has a value.

    Args:
        name: Of the header; upper and lower case are the same.
        value: What it has to be, exactly.
        alias: The alias whose version it is; ``challenger`` when no version is named either.
        version: The version, by its number.
    """
    named = alias or ("" if version else "challenger")
    return Route(role="header", header=name.lower(), value=value, alias=named, version=version)


def by_rule(condition: Expression, *, alias: str = "", version: int = 0) -> Route:
    """A version for the requests that fulfil a condition; null is no.

    Args:
        condition: On the entities' keys and the fields of the request, such as
            ``ps.col("amount") > 100``.
        alias: The alias whose version it is; ``challenger`` when no version is named either.
        version: The version, by its number.
    """
    named = alias or ("" if version else "challenger")
    return Route(role="rule", when=condition, alias=named, version=version)


def cached(*, max_age: str) -> Route:
    """Answer with the last score of the same request by the same version while it is young enough.

    Each process keeps the scores it gave last, for requests by entity that name no time.

    Args:
        max_age: How old it may be, such as ``"30s"``.
    """
    return Route(role="cached", alias="", max_age=max_age)


def precomputed(*, max_age: str) -> Route:
    """Answer with the newest batch score of the entity, where the champion gave it.

    The deployment scores batches (``batch=``), which keep each entity's newest score ready in the
    online store. The champion answers where there is none, where it is too old, or another
    version's, and requests that name a time or bring features.

    Args:
        max_age: How old the features of the score may be, such as ``"1d"``: how long ago the row
            was known that was scored.
    """
    return Route(role="precomputed", alias="", max_age=max_age)
