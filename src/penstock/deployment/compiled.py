"""Compiled trees: forests computed by machine code that is made when a version is loaded.

The code is ours and the same for every forest (``kernels.ll``); LLVM compiles it for the processor
at hand in some 40 ms, once for each process. A package holds arrays alone, so nothing is loaded
from it that could run, no compiler has to be installed, and a million nodes take no longer to
compile than a hundred.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import NotSupportedError

from .engine import Engine
from .forest import MISSING_RIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .forest import Forest

__all__ = ["TreesEngine", "compile_kernels"]

LANES = 8
MOST_LEAVES = 64
LINKS = {"identity": 0, "sigmoid": 1, "exponential": 2}
FEATURE = np.int32(2**31 - 1)
KERNEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
    ctypes.c_void_p,
)  # fmt: skip


class _Model(ctypes.Structure):
    """The type ``%model`` of the kernels."""

    _fields_ = (
        ("features", ctypes.c_int64),
        ("prepares", ctypes.c_int64),
        ("fill", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("rounded", ctypes.c_int64),
        ("padded_trees", ctypes.c_int64),
        ("roots", ctypes.c_void_p),
        ("threshold", ctypes.c_void_p),
        ("feature", ctypes.c_void_p),
        ("left", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("trees", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("group", ctypes.c_void_p),
        ("cut", ctypes.c_void_p),
        ("cut_tree", ctypes.c_void_p),
        ("cut_mask", ctypes.c_void_p),
        ("leaves", ctypes.c_void_p),
        ("base", ctypes.c_double),
        ("slope", ctypes.c_double),
        ("link", ctypes.c_int64),
    )


class TreesEngine(Engine):
    """A forest in machine code, in float64 with one thread. Safe across threads.

    Args:
        forest: The trees; every index in it has been checked.

    Raises:
        NotSupportedError: llvmlite is not installed, or knows no such processor.
    """

    name = "trees"

    def __init__(self, forest: Forest) -> None:
        self._code, few, many = compile_kernels()
        self._few, self._many = KERNEL(few), KERNEL(many)
        self._width = forest.width
        self._arrays = _walked(forest) | _cut(forest)  # kept alive: the kernels hold addresses only
        places = {name: one.ctypes.data for name, one in self._arrays.items()}
        prepares = forest.prepares or forest.rounded
        self._prepared = forest.width if prepares else 0
        self._alive = LANES * len(forest.roots) if "cut" in places else 0
        self._model = _Model(
            features=forest.width,
            prepares=prepares,
            rounded=forest.rounded,
            padded_trees=len(self._arrays["roots"]),
            trees=len(forest.roots),
            groups=len(self._arrays.get("group", ())),
            base=forest.base,
            slope=forest.slope,
            link=LINKS[forest.link],
            **places,
        )
        self._address = ctypes.addressof(self._model)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows; see ``Engine``."""
        rows = np.ascontiguousarray(x, dtype=np.float64)
        count, width = rows.shape
        if width != self._width:
            raise ValueError(f"{width} features for trees that take {self._width}")
        # One piece of memory for the answer and all that is put down on the way.
        space = np.empty(count * (1 + self._prepared) + self._alive)
        if count:
            start = space.ctypes.data
            rest = start + 8 * count
            run = self._many if self._alive and count > 1 else self._few
            run(
                rows.ctypes.data,
                count,
                self._address,
                start,
                rest,
                rest + 8 * count * self._prepared,
            )
        return space[:count]


@cache  # the kernels hold nothing of a forest: thousands of them need be compiled once
def compile_kernels() -> tuple[object, int, int]:
    """The kernels for this processor: what keeps them alive, and where they begin."""
    try:
        import llvmlite.binding as llvm  # noqa: PLC0415 - an extra, and 0.1 s to load
    except ImportError as error:
        raise NotSupportedError(
            "Compiled trees need llvmlite, which is not installed. "
            "Install it with: pip install 'penstock[trees]'",
            extra="trees",
        ) from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    text = files("penstock.deployment").joinpath("kernels.ll").read_text(encoding="utf-8")
    module: Any = llvm.parse_assembly(text)
    module.verify()
    machine: Any = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    engine: Any = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine, engine.get_function_address("few"), engine.get_function_address("many")


def _walked(forest: Forest) -> dict[str, NDArray[Any]]:
    """The arrays of the kernel that walks: eight trees of like depth beside each other."""
    roots = forest.roots[np.argsort(_depths(forest), kind="stable")]
    nothing = len(forest.threshold)  # a leaf worth 0, in place of trees that are not there
    return {
        "fill": np.ascontiguousarray(forest.fill),
        "mean": np.ascontiguousarray(forest.mean),
        "scale": np.ascontiguousarray(forest.scale),
        "roots": np.append(roots, np.full(-len(roots) % LANES, nothing)).astype(np.int32),
        "threshold": np.append(forest.threshold, np.inf),
        "feature": np.append(forest.feature, 0).astype(np.int32),
        "left": np.append(forest.left, nothing).astype(np.int32),
        "value": np.append(forest.value, 0.0),
    }


def _depths(forest: Forest) -> NDArray[np.int64]:
    """Depth of each tree."""
    depths = np.zeros(len(forest.roots), dtype=np.int64)
    tree, node = np.arange(len(forest.roots)), forest.roots
    while len(node):
        below = forest.left[node]
        deeper = below != node
        tree, below = tree[deeper], below[deeper]
        depths[tree] += 1  # once for each tree, however many of its nodes are there
        tree, node = np.tile(tree, 2), np.append(below, below + 1)
    return depths


def _cut(forest: Forest) -> dict[str, NDArray[Any]]:
    """The arrays of the kernel of bits; none where a tree has more than 64 leaves."""
    leaves = np.zeros((len(forest.roots), MOST_LEAVES))
    nodes: list[tuple[int, int, float, int, int]] = []
    for tree, root in enumerate(forest.roots.tolist()):
        if not _order(forest, tree, root, leaves, nodes):
            return {}
    nodes.sort()
    groups: list[list[int]] = []
    for place, (feature, right, *_) in enumerate(nodes):
        if not groups or groups[-1][:2] != [feature, right]:
            groups.append([feature, right, place, place])
        groups[-1][3] = place + 1
    if not groups:  # stumps without a split: the kernel wants one node at least
        return {}
    return {
        "leaves": leaves,
        "group": np.array(groups, dtype=np.int64),
        "cut": np.array([node[2] for node in nodes]),
        "cut_tree": np.array([node[3] for node in nodes], dtype=np.int32),
        "cut_mask": np.array([node[4] for node in nodes], dtype=np.uint64),
    }


def _order(
    forest: Forest,
    tree: int,
    root: int,
    leaves: NDArray[np.float64],
    nodes: list[tuple[int, int, float, int, int]],
) -> bool:
    """Number the leaves of a tree from left to right, and say what each node clears.

    Returns:
        False where there are too many leaves.
    """
    count = 0
    waiting = [(root, -1)]  # a node, and the first leaf below it once its left side is done
    while waiting:
        node, first = waiting.pop()
        left = int(forest.left[node])
        if left == node:
            if count == MOST_LEAVES:
                return False
            leaves[tree, count] = forest.value[node]
            count += 1
        elif first < 0:
            waiting += [(node, count), (left, -1)]
        else:
            kept = ~(((1 << count) - 1) ^ ((1 << first) - 1)) & (2**64 - 1)
            code = int(forest.feature[node])
            right = int(forest.feature[node] & MISSING_RIGHT != 0)
            nodes.append((code & int(FEATURE), right, float(forest.threshold[node]), tree, kept))
            waiting.append((left + 1, -1))
    return True
