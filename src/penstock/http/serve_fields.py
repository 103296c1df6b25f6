"""What there is to know of each field of a deployment, from what its version learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import StateError
from penstock.registry import views_of
from penstock.spec import FeatureView, OnDemandView, base_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.records import ColumnBins, Manifest
    from penstock.spec import Aggregate, Described, Expectation, View

__all__ = ["Fields"]

Json = dict[str, object]
KEEPS_RANGE = {"first", "last", "min", "max", "mean", "first_k", "last_k", "decayed_mean",
               "approx_quantile"}  # fmt: skip
FROM_ZERO = {"count", "approx_distinct", "std", "var"}
DIGITS = 6
UNTOLD: Mapping[str, object] = {"string": "A", "int64": 1, "float64": 1.0, "boolean": True}


class Fields:
    """Descriptions, units, expected values and typical values of the fields of a version.

    Args:
        manifest: The version's.
        typical: Whether to tell values that the version has seen; else examples are made up.
    """

    def __init__(self, manifest: Manifest, *, typical: bool) -> None:
        self._manifest = manifest
        self._typical = typical
        try:
            views = views_of(manifest)
        except StateError:  # a version of old, or one made by hand: what is known of it is less
            views = ()
        self._features = {name: about for view in views for name, about in _features(view)}
        self._keys = {name: about for view in base_views(views) for name, about in _keys(view)}

    def feature(self, name: str) -> Json:
        """The schema of a feature."""
        whole = self._manifest.dtypes.get(name) == "int64"
        kind = "integer" if whole else "number"
        bounds: Json = (
            {"minimum": -(1 << 53), "maximum": 1 << 53} if whole else {"format": "double"}
        )
        example = self.example(name)
        shown: Json = {} if example is None else {"examples": [example]}
        return {"type": [kind, "null"], **bounds, **self._features.get(name, {}), **shown}

    def key(self, name: str) -> Json:
        """The schema of an entity's key."""
        return _plain(self._manifest.keys[name]) | self._keys.get(name, {})

    def field(self, name: str) -> Json:
        """The schema of a field of the request."""
        plain = _plain(self._manifest.request[name])
        return plain | {"type": [plain["type"], "null"]}

    def row(self) -> Json:
        """An example of a row whose features are looked up."""
        asked: Json = {"entity": {name: self._key_example(name) for name in self._manifest.keys}}
        request = self._manifest.request
        if request:
            asked["request"] = {name: UNTOLD[dtype] for name, dtype in request.items()}
        return asked

    def handed(self) -> Json:
        """An example of a row with all features."""
        return {"features": {name: self.example(name) for name in self._manifest.features}}

    def example(self, name: str) -> float | None:
        """A value that a feature often has; a made-up one where it is not to be told."""
        whole = self._manifest.dtypes.get(name) == "int64"
        bins = self._manifest.bins.get(name) if self._typical else None
        value = 1.0 if bins is None else _median(bins)
        if value is None:
            return None
        return round(value) if whole else float(f"{value:.{DIGITS}g}")

    def _key_example(self, name: str) -> object:
        allowed = self._keys.get(name, {}).get("x-expected", {})
        options = allowed.get("enum") if isinstance(allowed, dict) else None
        return options[0] if options else UNTOLD[self._manifest.keys[name]]


def _plain(dtype: str) -> Json:
    if dtype == "int64":
        return {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
    kinds = {"string": "string", "float64": "number", "boolean": "boolean"}
    return {"type": kinds[dtype]}


def _median(bins: ColumnBins) -> float | None:
    """The middle edge of the training rows' bins; none where there were no values."""
    return bins.edges[len(bins.edges) // 2] if bins.edges else None


def _features(view: View) -> Iterator[tuple[str, Json]]:
    if isinstance(view, OnDemandView):
        for full, told in zip(view.names, view.described.values(), strict=True):
            meaning = told.description or "Computed from the request when it is asked for."
            yield full, {"description": meaning, **_said(view, told)}
        return
    for feature in view.features:
        allowed = _expected(view, feature)
        words = [feature.description or _meaning(feature), _in_words(allowed)]
        about: Json = {"description": " ".join(word for word in words if word)}
        about |= _said(view, feature)
        if allowed:
            about["x-expected"] = allowed
        for name in feature.names:
            yield f"{view.name}.{name}", about


def _said(view: View, feature: Described) -> Json:
    """The unit of a feature, and whether it is deprecated, where either is said."""
    unit: Json = {"x-unit": feature.unit} if feature.unit else {}
    old: Json = {"deprecated": True} if feature.deprecated or view.deprecated else {}
    return {**unit, **old}


def _keys(view: FeatureView) -> Iterator[tuple[str, Json]]:
    entity = view.source.entity
    about: Json = {"description": entity.description or f"Key of the entity {entity.name}."}
    allowed = _bounds(view.source.expect, entity.name)
    if allowed:
        about["x-expected"] = allowed
        about["description"] = f"{about['description']} {_in_words(allowed)}"
    yield entity.name, about


def _meaning(feature: Aggregate) -> str:
    what = f"{feature.op} of {feature.column}" if feature.column else feature.op
    return f"{what[0].upper()}{what[1:]}{f' over {feature.over}' if feature.over else ''}."


def _expected(view: FeatureView, feature: Aggregate) -> Json:
    """The values that a feature has where its source's records are as expected."""
    if feature.op in FROM_ZERO:
        return {"minimum": 0}
    if feature.op not in KEEPS_RANGE or feature.column in view.derive:
        return {}
    found = _bounds(view.source.expect, feature.column)
    return {name: value for name, value in found.items() if name not in {"enum", "pattern"}}


def _bounds(rules: Sequence[Expectation], column: str) -> Json:
    found: Json = {}
    for rule in rules:
        if rule.columns[0] != column:
            continue
        if rule.rule == "positive":
            found["exclusiveMinimum"] = 0
        elif rule.rule == "between":
            bounds = {"minimum": rule.low, "maximum": rule.high}
            found |= {n: bound for n, bound in bounds.items() if isinstance(bound, (int, float))}
        elif rule.rule == "one_of":
            found["enum"] = list(rule.options)
        elif rule.rule == "matches":
            found["pattern"] = rule.pattern
    return found


def _in_words(allowed: Mapping[str, object]) -> str:
    """What is expected, as a sentence."""
    forms = {
        "exclusiveMinimum": "more than {}",
        "minimum": "at least {}",
        "maximum": "at most {}",
        "enum": "one of {}",
        "pattern": "matching {}",
    }
    told = [
        forms[name].format(", ".join(value) if isinstance(value, list) else value)
        for name, value in allowed.items()
    ]
    return f"Expected: {', '.join(told)}." if told else ""
