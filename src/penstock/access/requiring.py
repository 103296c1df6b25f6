"""What every door that shows feature values asks first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import AccessError

from .denials import tell_denial
from .permissions import Permissions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.ports import Services
    from penstock.spec import View

__all__ = ["hidden_features", "require_features"]


def require_features(
    services: Services, names: Iterable[str], *, subject: str, views: Iterable[View] = ()
) -> None:
    """Refuse whoever acts through the ports where they may not read all of the features.

    For doors that are asked for features by name. A refusal goes to the audit table, once a minute
    at most for each caller and subject.

    Args:
        services: The ports; ``services.caller`` is who asks.
        names: Full names of the features.
        subject: What was asked for, such as ``feature_view/momentum``; it exists.
        views: Definitions that count beside those applied, such as those of an older version.

    Raises:
        AccessError: Says which feature, what protects it, and which command grants it.
    """
    caller = services.caller
    try:
        Permissions.load(services.metadata).with_views(views).require(caller, names)
    except AccessError as error:
        tell_denial(services.metadata, services.clock, error, user=caller.name, subject=subject)
        raise


def hidden_features(
    services: Services, names: Iterable[str], *, views: Iterable[View] = ()
) -> frozenset[str]:
    """Those of the features that whoever acts through the ports may not read.

    For doors that show features by the way, such as lineage: they leave the values out, and say
    that they do.

    Args:
        services: The ports; ``services.caller`` is who asks.
        names: Full names of the features.
        views: Definitions that count beside those applied, such as those of an older version.
    """
    permissions = Permissions.load(services.metadata).with_views(views)
    return frozenset(permissions.denied(services.caller, names))
