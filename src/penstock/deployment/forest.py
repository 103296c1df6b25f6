"""Forests as arrays: trees of any library in one layout, which holds data and no code.

treelite reads the trees of scikit-learn, XGBoost and LightGBM. What comes of it is compared with
the native model like any other engine, so a misreading serves nobody.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.errors import NotSupportedError, StateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import Manifest

__all__ = ["MISSING_RIGHT", "Forest", "pack_fields", "pack_forest", "parts_of", "preparation",
           "read_forest", "unpack_forest"]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Link = Literal["identity", "sigmoid", "exponential"]

MISSING_RIGHT = np.int32(-(2**31))
MOST_NODES = 2_000_000
LESS_THAN, AT_MOST = 2, 3  # operators of treelite
SIGMOID = "sigmoid"
LINKS: dict[str, Link] = {
    "identity": "identity",
    "identity_multiclass": "identity",
    "sigmoid": "sigmoid",
    "exponential": "exponential",
}


class Forest(msgspec.Struct, frozen=True, kw_only=True):
    """Trees, and what stands before and after them.

    A node asks whether a feature is at most its threshold. Yes leads to ``left``, no to the node
    after that. A leaf leads to itself for every value: its threshold is infinite.

    Attributes:
        threshold: ``float64[nodes]``.
        feature: ``int32[nodes]``; with ``MISSING_RIGHT`` set where a missing value means no.
        left: ``int32[nodes]``; greater than the node's own place, but in a leaf.
        value: ``float64[nodes]``: what a leaf adds to the sum; 0 elsewhere.
        roots: ``int32[trees]``.
        fill: ``float64[features]``: what stands in for a missing value; NaN for nothing.
        mean: ``float64[features]``, taken from each value that was there or filled.
        scale: ``float64[features]``, by which that is divided.
        rounded: Whether the trees see their inputs rounded to float32.
        base: Added to the sum.
        link: What makes a prediction of the sum.
        slope: What the sum is multiplied with before a sigmoid.
    """

    threshold: Floats
    feature: Ints
    left: Ints
    value: Floats
    roots: Ints
    fill: Floats
    mean: Floats
    scale: Floats
    rounded: bool
    base: float
    link: Link
    slope: float

    @property
    def width(self) -> int:
        """How many features it takes."""
        return len(self.fill)

    @property
    def prepares(self) -> bool:
        """Whether anything is filled or scaled before the trees."""
        plain = np.isnan(self.fill) & (self.mean == 0.0) & (self.scale == 1.0)
        return not bool(plain.all())


def read_forest(estimator: object, manifest: Manifest) -> Forest:
    """Read the trees of a native model.

    Args:
        estimator: The fitted estimator or pipeline, or the booster.
        manifest: Says what it is and how many features it takes.

    Raises:
        NotSupportedError: It is no model of trees, or one that cannot be read; says why.
    """
    steps, final = parts_of(estimator)
    width = len(manifest.features)
    model = _open(final, manifest)
    try:
        return _build(model, final, manifest, preparation(steps, width))
    except NotSupportedError:
        raise
    except Exception as error:
        # A library's fields of a model it read itself: whatever they lack is no fault of the model.
        raise NotSupportedError(
            f"the trees of {manifest.estimator} cannot be read: {type(error).__name__}: {error}"
        ) from error


def parts_of(estimator: Any) -> tuple[list[Any], Any]:  # noqa: ANN401 - models have no common type
    """The steps that stand before an estimator, and the estimator."""
    named = getattr(estimator, "steps", None)
    if named is None:
        return [], estimator
    return [step for _, step in named[:-1] if step != "passthrough"], named[-1][1]


def _open(final: Any, manifest: Manifest) -> Any:  # noqa: ANN401 - see parts_of
    import treelite  # noqa: PLC0415 - only packaging needs it: serving reads arrays

    try:
        if manifest.native == "ubj":
            return treelite.frontend.from_xgboost(final)
        if manifest.native == "lgb":
            return treelite.frontend.from_lightgbm(final)
        return treelite.sklearn.import_model(final)
    except Exception as error:
        # treelite raises what comes to it for a model that it does not know.
        text = str(error).strip().splitlines()
        raise NotSupportedError(
            f"{manifest.estimator} is no model of trees that treelite reads: "
            f"{text[0][:200] if text else type(error).__name__}"
        ) from error


def preparation(steps: Sequence[Any], width: int) -> tuple[Floats, Floats, Floats]:
    """Fill, mean and scale of the steps before an estimator.

    Args:
        steps: The steps.
        width: How many features there are.

    Raises:
        NotSupportedError: Others than filling and scaling stand there.
    """
    fill, mean, scale = np.full(width, np.nan), np.zeros(width), np.ones(width)
    kinds = [type(step).__name__ for step in steps]
    if kinds not in (
        [],
        ["SimpleImputer"],
        ["StandardScaler"],
        ["SimpleImputer", "StandardScaler"],
    ):
        raise NotSupportedError(f"the steps {', '.join(kinds)} stand before it")
    for step in steps:
        if type(step).__name__ == "SimpleImputer":
            fill = np.asarray(step.statistics_, dtype=np.float64)
            if step.add_indicator or len(fill) != width or np.isnan(fill).any():
                raise NotSupportedError("the filling of nulls adds or drops columns")
        else:
            mean = mean if step.mean_ is None else np.asarray(step.mean_, dtype=np.float64)
            scale = scale if step.scale_ is None else np.asarray(step.scale_, dtype=np.float64)
    return fill, mean, scale


def _build(
    model: Any,  # noqa: ANN401 - a model of treelite, whose fields have no types
    final: Any,  # noqa: ANN401 - see parts_of
    manifest: Manifest,
    prepared: tuple[Floats, Floats, Floats],
) -> Forest:
    head = model.get_header_accessor()
    after = str(head.get_field("postprocessor"))
    if after not in LINKS:
        raise NotSupportedError(f"its trees end in {after}, which is not known here")
    place = 0
    if len(head.get_field("base_scores")) > 1:
        place = list(final.classes_).index(1) if manifest.task == "classification" else -1
    if place < 0:
        raise NotSupportedError("its trees have several outputs")
    trees = [model.get_tree_accessor(number).get_field for number in range(int(model.num_tree))]
    total = sum(int(field("num_nodes")[0]) for field in trees)
    if total > MOST_NODES:
        raise NotSupportedError(f"it has {total:,} nodes, and no more than {MOST_NODES:,} are read")
    parts, first, roots = [], 0, []
    for field in trees:
        roots.append(first)
        parts.append(_tree(field, first, place))
        first += len(parts[-1][0])
    threshold, feature, left, value = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    average = bool(head.get_field("average_tree_output")[0])
    return Forest(
        threshold=threshold,
        feature=feature,
        left=left,
        value=value / len(trees) if average else value,
        roots=np.array(roots, dtype=np.int32),
        fill=prepared[0],
        mean=prepared[1],
        scale=prepared[2],
        # HistGradientBoosting and LightGBM compare in float64, all others round first.
        rounded=not (manifest.native == "lgb" or type(final).__name__.startswith("Hist")),
        base=float(head.get_field("base_scores")[place]),
        link=LINKS[after],
        slope=float(head.get_field("sigmoid_alpha")[0]) if after == SIGMOID else 1.0,
    )


def _tree(field: Any, first: int, place: int) -> tuple[Floats, Ints, Ints, Floats]:  # noqa: ANN401 - see _build
    """One tree, its nodes numbered anew so that the two below a node stand side by side."""
    if field("has_categorical_split")[0]:
        raise NotSupportedError("its trees split by sets of categories")
    low, high = field("cleft"), field("cright")
    split = np.flatnonzero(low >= 0)
    compared = field("cmp")[split]
    if not np.isin(compared, (LESS_THAN, AT_MOST)).all():
        raise NotSupportedError("its trees compare otherwise than by < and <=")
    order = np.arange(len(split), dtype=np.int32)
    spot = np.zeros(len(low), dtype=np.int32)
    spot[low[split]], spot[high[split]] = 1 + 2 * order, 2 + 2 * order

    def placed(values: NDArray[Any], of: NDArray[Any], rest: NDArray[Any]) -> NDArray[Any]:
        rest[spot[of]] = values
        return rest

    count = len(low)
    threshold = field("threshold")[split].astype(np.float64)
    # x < t is x <= the number before t.
    threshold = np.where(compared == LESS_THAN, np.nextafter(threshold, -np.inf), threshold)
    right = np.where(field("default_left")[split] == 0, MISSING_RIGHT, np.int32(0))
    feature = field("split_index")[split].astype(np.int32) | right
    leaf = np.flatnonzero(low < 0)
    found = field("leaf_value")[leaf].astype(np.float64)
    vectors = field("leaf_vector")
    if len(vectors):
        found = vectors[field("leaf_vector_begin")[leaf].astype(np.int64) + place]
    here = np.arange(count, dtype=np.int32) + np.int32(first)
    left = placed(first + 1 + 2 * order, split, here)
    if not (left[spot[split]] > first + spot[split]).all():
        raise NotSupportedError("the nodes of its trees are not in order")
    return (
        placed(threshold, split, np.full(count, np.inf)),
        placed(feature, split, np.zeros(count, dtype=np.int32)),
        left,
        placed(found, leaf, np.zeros(count)),
    )


def pack_forest(forest: Forest) -> bytes:
    """The forest as the bytes of a file."""
    return pack_fields(forest)


def pack_fields(value: msgspec.Struct) -> bytes:
    """The fields of a value as the bytes of a file: arrays in NumPy's own format, never pickled.

    Args:
        value: Its fields are arrays, numbers and texts.
    """
    file = io.BytesIO()
    fields = {name: np.asarray(getattr(value, name)) for name in value.__struct_fields__}
    np.savez(file, allow_pickle=False, **cast("dict[str, Any]", fields))
    return file.getvalue()


def unpack_forest(content: bytes) -> Forest:
    """The forest that ``pack_forest`` made bytes of, checked: what computes it trusts every index.

    Raises:
        StateError: These bytes hold no forest.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            fields = {name: file[name] for name in Forest.__struct_fields__}
        plain = {name: one.item() if one.ndim == 0 else one for name, one in fields.items()}
        forest = Forest(**plain)
        sound = _sound(forest)
    except Exception as error:
        # A file of any content: what reads it raises anything.
        raise StateError(
            f"The trees of this package cannot be read: {error}. Package the version again."
        ) from error
    if not sound:
        raise StateError(
            "The trees of this package lead to nodes or features that are not there. "
            "Package the version again."
        )
    return forest


def _sound(forest: Forest) -> bool:
    count, width = len(forest.threshold), forest.width
    here = np.arange(count)
    leaf = forest.left == here
    arrays = (forest.feature, forest.left, forest.value)
    feature = forest.feature & np.int32(2**31 - 1)
    kinds = ((forest.threshold, np.float64), (forest.value, np.float64), (forest.feature, np.int32),
             (forest.left, np.int32), (forest.roots, np.int32))  # fmt: skip
    return bool(
        count > 0
        and width > 0
        and all(array.dtype == kind and array.ndim == 1 for array, kind in kinds)
        and all(len(array) == count for array in arrays)
        and len(forest.mean) == len(forest.scale) == width
        and forest.link in LINKS
        and (feature < width).all()
        and (leaf | ((forest.left > here) & (forest.left < count - 1))).all()
        and (np.isposinf(forest.threshold[leaf]) & (forest.feature[leaf] == 0)).all()
        and len(forest.roots) > 0
        and ((forest.roots >= 0) & (forest.roots < count)).all()
    )
