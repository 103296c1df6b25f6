"""Who reads which features: views above them, services, datasets, models, deployments, monitors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, TypeAlias

from penstock.spec import Deployment, Monitor, OnDemandView, key_of, names_below

from .deprecations import users_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.spec import Declaration

__all__ = ["Readers", "readers_of"]

Readers: TypeAlias = Mapping[str, Collection[str]]
"""Each reader by its key, with the full names of the columns that it reads, directly or through
on-demand views."""


def readers_of(
    declarations: Iterable[Declaration], kept: Mapping[str, Collection[str]]
) -> dict[str, set[str]]:
    """The readers of features among declarations, in their order, each with what it reads.

    A model reads what its dataset does, a deployment and a monitor what its model does, and an
    on-demand view what its expressions name.

    Args:
        declarations: The declarations, each after what it refers to.
        kept: Full names of the columns that each selection of features kept, by its id.
    """
    declared = tuple(declarations)
    users = {key: names_below(*reads) for key, reads in users_of(declared, kept).items()}
    return {key: names for value in declared for key, names in _reads(value, users)}


def _reads(value: Declaration, users: Mapping[str, set[str]]) -> Iterator[tuple[str, set[str]]]:
    key = key_of(value)
    if key in users:
        yield key, users[key]
    elif isinstance(value, OnDemandView):
        yield key, names_below([value], value.names) - set(value.names)
    elif isinstance(value, Deployment):
        yield key, users[key_of(value.model)]
    elif isinstance(value, Monitor):
        yield key, users[key_of(value.deployment.model)]
