"""The features that a model saw, told to those who may read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.registry import views_of
from penstock.spec import key_of

from .serve_scoring import reach

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.errors import AccessError
    from penstock.records import Manifest

    from .serve_call import Call
    from .serve_keeper import Keeper
    from .serve_schema import Schema
    from .serve_scoring import Answering

__all__ = ["Echo", "Seen"]


class Seen(NamedTuple):
    """A deployment whose features the caller may be told of.

    Attributes:
        answering: Answers.
        schema: What requests have to fit.
        manifests: Of the versions whose features may be told, by their number; what another one
            saw that comes meanwhile stays untold.
    """

    answering: Answering
    schema: Schema
    manifests: Mapping[int, Manifest]


class Echo:
    """Decides who is told what a model saw.

    Args:
        keeper: What is served, and who may ask.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def reach(self, call: Call, name: str) -> Seen:
        """A deployment, for a caller who may read the features of all its versions.

        Any of them may answer, so who may not read them all is refused before anything is scored.

        Raises:
            AccessError: The caller may not.
            PenstockError: It cannot answer.
        """
        answering, schema = await reach(self._keeper, name)
        manifests = answering.manifests
        refused = self.refusal(call, manifests)
        if refused is not None:
            subject = key_of(answering.declared)
            await self._keeper.guard.refuse(refused, call.authorization, subject)
        return Seen(answering, schema, manifests)

    def refusal(self, call: Call, manifests: Mapping[int, Manifest]) -> AccessError | None:
        """Why the caller may not see the features of a deployment; none where they may.

        Args:
            call: The request.
            manifests: Of the versions of the deployment, by their number.
        """
        served = [manifests[number] for number in sorted(manifests)]
        return self._keeper.guard.refusal(
            call.authorization,
            " ".join(f"{one.model}@{one.version}" for one in served),
            lambda: dict.fromkeys(name for one in served for name in one.features),
            lambda: [view for one in served for view in views_of(one)],
        )
