"""The decision: which features somebody may read, from what is declared and what is granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import AccessError
from penstock.plan import Catalogue, Lock, Locks, locks_of
from penstock.records import AppliedDeclaration, Grant
from penstock.spec import FeatureView, OnDemandView, Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from penstock.ports import Metadata
    from penstock.records import Identity
    from penstock.spec import View

__all__ = ["Permissions"]

SHOWN = 3


class Permissions(msgspec.Struct, frozen=True):
    """Who may read which features, as it is declared and granted at one moment.

    Nothing is protected where no ``Protection`` is applied. Where one is, an admin reads
    everything; anybody else what is not protected, and what they were granted. A feature that is
    not declared, as one of an older version of a model may be, is then for admins alone: nobody can
    say what would protect it.

    Attributes:
        protections: What is protected.
        locks: The locks on each declared feature, by its full name.
        granted: By user, each grant as its kind and name.
    """

    protections: tuple[Protection, ...] = ()
    locks: Mapping[str, Locks] = {}
    granted: Mapping[str, frozenset[tuple[str, str]]] = {}

    @classmethod
    def load(cls, metadata: Metadata) -> Permissions:
        """Read them; cheap where nothing is protected."""
        where = {"declared_kind": "protection"}
        if not metadata.find(AppliedDeclaration, where=where, limit=1):
            return cls()
        return cls.of(Catalogue.load(metadata), metadata.find(Grant))

    @classmethod
    def of(cls, catalogue: Catalogue, grants: Iterable[Grant]) -> Permissions:
        """Put together what is declared and what is granted."""
        protections = catalogue.all(Protection)
        views: list[View] = [*catalogue.all(FeatureView), *catalogue.all(OnDemandView)]
        granted: dict[str, frozenset[tuple[str, str]]] = {}
        for one in grants:
            granted[one.user] = granted.get(one.user, frozenset()) | {(one.what, one.name)}
        return cls(protections, locks_of(views, protections), granted)

    def with_views(self, views: Iterable[View]) -> Self:
        """With further definitions, such as those an older version of a model learned from.

        Where a view is defined twice, the locks of both count.
        """
        if not self.protections:
            return self
        more = locks_of(views, self.protections)
        both = {name: self.locks.get(name, frozenset()) | locks for name, locks in more.items()}
        return msgspec.structs.replace(self, locks={**self.locks, **both})

    def protected_by(self, name: str) -> tuple[Lock, ...]:
        """The locks on a feature, in order; none where everybody may read it.

        Args:
            name: Its full name, ``view.feature``.
        """
        if not self.protections:
            return ()
        unknown = Lock("unknown", name, name, ())
        return tuple(sorted(self.locks.get(name, {unknown})))

    def denied(self, identity: Identity, names: Iterable[str]) -> dict[str, tuple[Lock, ...]]:
        """The features that somebody may not read, each with the locks that stay closed.

        Args:
            identity: Who.
            names: Full names of the features they want.
        """
        if identity.role == "admin" or not self.protections:
            return {}
        granted = self.granted.get(identity.name, frozenset())
        found: dict[str, tuple[Lock, ...]] = {}
        for name in names:
            closed = tuple(lock for lock in self.protected_by(name) if not lock.opened_by(granted))
            if closed:
                found[name] = closed
        return found

    def behind(self) -> dict[str, list[str]]:
        """What protects which features: ``tag pii`` or ``view payments``, to their full names.

        What is computed from a protected feature is among them.
        """
        found: dict[str, list[str]] = {
            f"tag {tag}": [] for one in self.protections for tag in one.tagged
        }
        found |= {f"view {view.name}": [] for one in self.protections for view in one.views}
        for name in self.locks:
            for by in dict.fromkeys((lock.kind, lock.name) for lock in self.protected_by(name)):
                found[" ".join(by)].append(name)
        return found

    def require(self, identity: Identity, names: Iterable[str]) -> None:
        """Refuse somebody who may not read all of the features.

        Raises:
            AccessError: Says which feature, what protects it, and which command grants it;
                ``error.facts`` hold ``name``, ``features`` and ``needed``.
        """
        denied = self.denied(identity, names)
        if denied:
            raise _refusal(identity, denied)


def _refusal(identity: Identity, denied: Mapping[str, tuple[Lock, ...]]) -> AccessError:
    by_reason: dict[str, list[str]] = {}
    for name, locks in denied.items():
        by_reason.setdefault(_reason(name, locks), []).append(name)
    words = [f"{_listed(names)}, {reason}" for reason, names in list(by_reason.items())[:SHOWN]]
    left = sum(len(names) for names in list(by_reason.values())[SHOWN:])
    more = f"; and {left} more" if left else ""
    closed = sorted({lock for locks in denied.values() for lock in locks})
    return AccessError(
        f"{identity.name!r} may not read {'; '.join(words)}{more}. {_remedy(identity, closed)}",
        name=identity.name,
        features=tuple(denied),
        needed=tuple(dict.fromkeys(f"{lock.kind} {lock.name}" for lock in closed)),
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN]))
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def _reason(name: str, locks: tuple[Lock, ...]) -> str:
    """What protects a feature, in words."""
    if locks[0].kind == "unknown":
        return "not declared any more"
    by: dict[str, list[str]] = {}
    for lock in locks:
        by.setdefault(lock.feature, []).append(f"the {lock.kind} {lock.name!r}")
    words = [
        f"{f'computed from {feature!r}, ' * (feature != name)}protected by "
        f"{' and '.join(dict.fromkeys(found))}"
        for feature, found in list(by.items())[:SHOWN]
    ]
    return ", and ".join(words)


def _remedy(identity: Identity, closed: list[Lock]) -> str:
    options = " ".join(dict.fromkeys(_options(closed)))
    if not options:
        return "Use the token of an admin."
    return f"An admin grants it with 'penstock access grant {identity.name} {options}'."


def _options(closed: Iterable[Lock]) -> Iterator[str]:
    for lock in closed:
        if lock.kind != "unknown":
            yield f"--{lock.kind} {lock.name}"
