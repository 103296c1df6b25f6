"""What the Open Inference Protocol tells of a server and its models: a deployment is a model.

The layouts are those of the protocol and of Triton's extensions for model configuration, model
repository and statistics, which its clients read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from penstock.records import Manifest
    from penstock.scoring import Lane, LaneCounts

    from .serve_door import Door

__all__ = [
    "EXTENSIONS",
    "model_config",
    "model_index",
    "model_metadata",
    "model_statistics",
    "server_metadata",
    "together",
]

Json = dict[str, object]
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository",
              "model_repository(unload_dependents)", "statistics", "logging", "trace")  # fmt: skip
OUTPUTS = (("prediction", "FP64"), ("prediction_id", "BYTES"))
RESTS = "not loaded; the next request to it has it loaded"
NS_PER_US = 1_000
US_PER_MS = 1_000
LAST, BATCHES, SIZE = "last_inference", "batch_stats", "batch_size"


def server_metadata(version: str) -> Json:
    """What ``GET /v2`` says."""
    return {"name": "penstock", "version": version, "extensions": EXTENSIONS}


def model_metadata(name: str, manifest: Manifest, versions: Mapping[int, Lane]) -> Json:
    """What ``GET /v2/models/<name>`` says.

    Args:
        name: Name of the deployment.
        manifest: Of the version that is asked for, or that answers by default.
        versions: The versions that may be asked for by their number.
    """
    return {
        "name": name,
        "versions": [str(number) for number in sorted(versions)],
        "platform": _platform(manifest),
        "inputs": [
            {"name": feature, "datatype": _datatype(manifest, feature), "shape": [-1]}
            for feature in manifest.features
        ],
        "outputs": [
            {"name": output, "datatype": datatype, "shape": [-1]} for output, datatype in OUTPUTS
        ],
    }


def model_config(name: str, manifest: Manifest) -> Json:
    """What ``GET /v2/models/<name>/config`` says, in Triton's layout.

    Args:
        name: Name of the deployment.
        manifest: Of the version.
    """
    parameters = {"task": manifest.task, "label": manifest.label, "entity": manifest.entity}
    return {
        "name": name,
        "platform": _platform(manifest),
        "backend": "penstock",
        "version_policy": {"specific": {"versions": [manifest.version]}},
        "max_batch_size": 0,  # the first dimension of every tensor is its rows already
        "input": [
            {"name": feature, "data_type": f"TYPE_{_datatype(manifest, feature)}", "dims": [-1]}
            for feature in manifest.features
        ],
        "output": [
            {
                "name": output,
                "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
                "dims": [-1],
            }
            for output, datatype in OUTPUTS
        ],
        "instance_group": [{"name": name, "kind": "KIND_CPU", "count": 1}],
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
    }


def model_index(
    doors: Mapping[str, Door], unloaded: Mapping[str, str], resting: Iterable[str] = ()
) -> list[Json]:
    """What ``POST /v2/repository/index`` answers: every version, or why there is none.

    Args:
        doors: The deployments served, by name.
        unloaded: Why others are not, by name.
        resting: Names of those that are loaded by need, and are not.
    """
    told = [_unavailable(name, reason) for name, reason in unloaded.items()]
    told += [_unavailable(name, RESTS) for name in resting]
    for name, door in doors.items():
        if door.schema is None:
            told.append(_unavailable(name, door.endpoint.no_champion))
        told += [
            Json(name=name, version=str(number), state="READY", reason="")
            for number in sorted(door.endpoint.versions)
        ]
    return sorted(told, key=lambda one: str(one["name"]))


def model_statistics(done: Mapping[str, Mapping[int, LaneCounts]]) -> list[Json]:
    """What one process says at ``GET /v2/models/stats``, a line for each version.

    A request is a row here, and times are nanoseconds.

    Args:
        done: What has been done, by deployment and version.
    """
    return [
        _statistics(name, number, counts)
        for name, versions in sorted(done.items())
        for number, counts in sorted(versions.items())
    ]


def together(told: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The statistics of several processes as one: what was counted is added up.

    Args:
        told: Those of each, as ``model_statistics`` has them.
    """
    found: dict[tuple[str, int], Json] = {}
    for one in told:
        key = (str(one["name"]), int(one["version"]))
        found[key] = _added(found[key], one) if key in found else dict(one)
    return [found[key] for key in sorted(found)]


def _added(left: Mapping[str, Any], right: Mapping[str, Any]) -> Json:
    """Two statistics as one: numbers add up, of two times the later is the last."""
    found: Json = {}
    for name, value in left.items():
        other = right[name]
        if name == LAST:
            found[name] = max(value, other)
        elif name == BATCHES:
            found[name] = _batches([*value, *other])
        elif isinstance(value, dict):
            found[name] = _added(value, other)
        else:
            found[name] = value + other if isinstance(value, int) else value
    return found


def _batches(sizes: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Statistics by the size of batches, one for each size."""
    found: dict[int, Json] = {}
    for one in sizes:
        size = one[SIZE]
        found[size] = _added(found[size], one) | {SIZE: size} if size in found else dict(one)
    return [found[size] for size in sorted(found)]


def _statistics(name: str, number: int, counts: LaneCounts) -> Json:
    return {
        "name": name,
        "version": str(number),
        LAST: counts.last_us // US_PER_MS,
        "inference_count": counts.rows,
        "execution_count": counts.batches,
        "inference_stats": {
            "success": _took(counts.answers, counts.total_us),
            "fail": _took(counts.failed, 0),
            "queue": _took(counts.answers, counts.queued_us),
            "compute_input": _took(counts.batches, 0),
            "compute_infer": _took(counts.batches, counts.computed_us),
            "compute_output": _took(counts.batches, 0),
            "cache_hit": _took(0, 0),
            "cache_miss": _took(0, 0),
        },
        "response_stats": {},
        BATCHES: list(_by_size(counts)),
        "memory_usage": [],
    }


def _by_size(counts: LaneCounts) -> Iterator[Json]:
    for size, (batches, took_us) in sorted(counts.sizes.items()):
        yield {
            SIZE: size,
            "compute_input": _took(batches, 0),
            "compute_infer": _took(batches, took_us),
            "compute_output": _took(batches, 0),
        }


def _took(count: int, took_us: int) -> Json:
    return {"count": count, "ns": took_us * NS_PER_US}


def _unavailable(name: str, reason: str) -> Json:
    return {"name": name, "version": "", "state": "UNAVAILABLE", "reason": reason}


def _platform(manifest: Manifest) -> str:
    engine = manifest.engine.engine if manifest.engine else "native"
    if engine == "onnx":
        return "onnxruntime_onnx"
    return "penstock_trees" if engine == "trees" else f"penstock_{manifest.native}"


def _datatype(manifest: Manifest, feature: str) -> str:
    return "INT64" if manifest.dtypes.get(feature) == "int64" else "FP64"
