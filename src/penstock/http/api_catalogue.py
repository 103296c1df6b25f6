"""Routes of the feature catalogue: features, views, profiles, services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from penstock.access import require_features
from penstock.control import list_features, overview, profiled_columns
from penstock.features import PROFILE_DAYS, profiles_of
from penstock.plan import Catalogue, search
from penstock.spec import FeatureView, key_of

from .api_answers import answer
from .api_guard import Reader  # noqa: TC001 - FastAPI reads the annotations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    from penstock.control import Listing
    from penstock.features import ColumnProfile
    from penstock.plan import FeatureEntry, ServiceEntry
    from penstock.spec import View

    Entry = TypeVar("Entry", FeatureEntry, ServiceEntry)

__all__ = ["catalogue_routes"]

Limit = Annotated[int, Query(ge=1, le=1_000, description="At most so many")]
After = Annotated[str, Query(description="Those that come after this name; the last of a page")]
Question = Annotated[str, Query(min_length=1, max_length=500, description="Words to look for")]
Days = Annotated[int, Query(ge=1, le=3_660, description="The newest so many profiled days")]
Tags = Annotated[list[str], Query(description="All of these are among its tags")]


def catalogue_routes() -> APIRouter:
    """The routes of the feature catalogue."""
    router = APIRouter(prefix="/v1", tags=["features"])
    router.get("/features")(list_entries)
    router.get("/features/search")(search_entries)
    router.get("/feature-views")(list_views)
    router.get("/feature-views/{view}")(show_view)
    router.get("/feature-views/{view}/profile")(show_profile)
    router.get("/feature-views/{view}/features/{feature}")(show_feature)
    router.get("/feature-services")(list_services)
    router.get("/feature-services/{name}")(show_service)
    return router


def list_entries(  # noqa: PLR0913, PLR0917 - one parameter for each of the query's
    acting: Reader,
    tag: Tags = [],  # noqa: B006 - FastAPI reads it and never changes it
    owner: str = "",
    view: str = "",
    unused: bool = False,  # noqa: FBT001, FBT002 - a parameter of the query
    deprecated: bool = False,  # noqa: FBT001, FBT002 - a parameter of the query
    after: After = "",
    limit: Limit = 100,
) -> Response:
    """Features by name, with who uses them; what is given holds of each."""
    found = list_features(acting).where(
        tags=tag, owner=owner, view=view, unused=unused, deprecated=deprecated
    )
    return answer(_page(found.features, after, limit))


def search_entries(acting: Reader, q: Question, limit: Limit = 20) -> Response:
    """Features and services by words of all that is said of them, the best first."""
    found = list_features(acting)
    return answer(search([*found.features, *found.services], q)[:limit])


def list_views(acting: Reader, after: After = "", limit: Limit = 100) -> Response:
    """Feature views and on-demand views by name, with how they stand online."""
    listing = list_features(acting)
    views = {view.name: view for view in Catalogue.load(acting.metadata).views}
    names = sorted(name for name in views if name > after)[:limit]
    return answer([_view(views[name], listing) for name in names])


def show_view(view: str, acting: Reader) -> Response:
    """All that is known of a view: features, versions, users, origins, its newest days.

    How protected features lie is left out for whoever may not read them; ``hidden`` names them.
    """
    return answer(overview(acting, _view_name(acting, view)))


def show_feature(view: str, feature: str, acting: Reader) -> Response:
    """All that is known of one feature of a view."""
    return answer(overview(acting, f"{_view_name(acting, view)}.{feature}"))


def show_profile(
    view: str, acting: Reader, feature: str = "", days: Days = PROFILE_DAYS
) -> Response:
    """How the features of a view lie, day by day, as far as it is profiled.

    Takes the permission to read the features that are asked for.
    """
    name = _view_name(acting, view)
    found, columns = profiled_columns(acting, f"{name}.{feature}" if feature else name)
    require_features(acting, columns, subject=key_of(found))
    profiles = profiles_of(acting.tables, found, days=days)
    return answer([_profile(one) for one in profiles if one.feature in columns])


def list_services(acting: Reader, after: After = "", limit: Limit = 100) -> Response:
    """Feature services by name, with who uses them."""
    return answer(_page(list_features(acting).services, after, limit))


def show_service(name: str, acting: Reader) -> Response:
    """All that is known of a feature service: features, versions, users, origins."""
    return answer(overview(acting, name, service=True))


def _page(entries: Sequence[Entry], after: str, limit: int) -> list[Entry]:
    """Of entries by name, those after a name."""
    ordered = sorted(entries, key=lambda one: one.name)
    return [one for one in ordered if one.name > after][:limit]


def _view_name(acting: Reader, name: str) -> str:
    """The name of a view, seen to be there."""
    catalogue = Catalogue.load(acting.metadata)
    known = {view.name for view in catalogue.views}
    return name if name in known else catalogue.view(name).name


def _view(view: View, listing: Listing) -> dict[str, object]:
    features = [one for one in listing.features if one.view == view.name]
    return {
        "name": view.name,
        "kind": features[0].kind,
        "description": view.description,
        "owner": view.owner,
        "tags": view.tags,
        "entities": features[0].entities,
        "source": view.source.name if isinstance(view, FeatureView) else None,
        "features": len(features),
        "deprecated": view.deprecated,
        "state": next((one for one in listing.states if one.view == view.name), None),
    }


def _profile(one: ColumnProfile) -> dict[str, object]:
    return {
        "feature": one.feature,
        "day": one.day,
        "points": one.points,
        "null_rate": one.null_rate,
        "spread": one.spread,
        "batch": one.batch,
    }
