"""The messages of ``inference.GRPCInferenceService``, in a pool of descriptors of our own.

Clients of this service bring the same messages under the same names. In the process-wide pool of
protobuf two such sets cannot be together, so a process that imports one of them could not serve.
Field numbers are those of the Open Inference Protocol and of Triton's extensions:
https://github.com/triton-inference-server/common/tree/main/protobuf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HEALTH", "SERVICE", "message"]

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

# A field is "number type name"; a star says that there are many, a type in capitals is a message,
# "<X" a map from text to that message, and fields of one choice are told by "|".
MESSAGES: Mapping[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 bool ready",
    "ModelReadyRequest": "1 string name, 2 string version",
    "ModelReadyResponse": "1 bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 string name, 2 string version, 3 *string extensions",
    "ModelMetadataRequest": "1 string name, 2 string version",
    "TensorMetadata": "1 string name, 2 string datatype, 3 *int64 shape",
    "ModelMetadataResponse": "1 string name, 2 *string versions, 3 string platform, "
    "4 *TensorMetadata inputs, 5 *TensorMetadata outputs",
    "InferParameter": "1 |bool bool_param, 2 |int64 int64_param, 3 |string string_param, "
    "4 |double double_param, 5 |uint64 uint64_param",
    "InferTensorContents": "1 *bool bool_contents, 2 *int32 int_contents, 3 *int64 int64_contents, "
    "4 *uint32 uint_contents, 5 *uint64 uint64_contents, 6 *float fp32_contents, "
    "7 *double fp64_contents, 8 *bytes bytes_contents",
    "InferInputTensor": "1 string name, 2 string datatype, 3 *int64 shape, "
    "4 <InferParameter parameters, 5 InferTensorContents contents",
    "InferRequestedOutputTensor": "1 string name, 2 <InferParameter parameters",
    "ModelInferRequest": "1 string model_name, 2 string model_version, 3 string id, "
    "4 <InferParameter parameters, 5 *InferInputTensor inputs, "
    "6 *InferRequestedOutputTensor outputs, 7 *bytes raw_input_contents",
    "InferOutputTensor": "1 string name, 2 string datatype, 3 *int64 shape, "
    "4 <InferParameter parameters, 5 InferTensorContents contents",
    "ModelInferResponse": "1 string model_name, 2 string model_version, 3 string id, "
    "4 <InferParameter parameters, 5 *InferOutputTensor outputs, 6 *bytes raw_output_contents",
    "ModelStreamInferResponse": "1 string error_message, 2 ModelInferResponse infer_response",
    "ModelConfigRequest": "1 string name, 2 string version",
    "ModelInput": "1 string name, 2 DataType data_type, 4 *int64 dims",
    "ModelOutput": "1 string name, 2 DataType data_type, 3 *int64 dims",
    "Specific": "1 *int64 versions",
    "ModelVersionPolicy": "3 Specific specific",
    "ModelInstanceGroup": "1 string name, 2 int32 count, 4 Kind kind",
    "ModelParameter": "1 string string_value",
    "ModelConfig": "1 string name, 2 string platform, 3 ModelVersionPolicy version_policy, "
    "4 int32 max_batch_size, 5 *ModelInput input, 6 *ModelOutput output, "
    "7 *ModelInstanceGroup instance_group, 14 <ModelParameter parameters, 17 string backend",
    "ModelConfigResponse": "1 ModelConfig config",
    "ModelStatisticsRequest": "1 string name, 2 string version",
    "StatisticDuration": "1 uint64 count, 2 uint64 ns",
    "InferStatistics": "1 StatisticDuration success, 2 StatisticDuration fail, "
    "3 StatisticDuration queue, 4 StatisticDuration compute_input, "
    "5 StatisticDuration compute_infer, 6 StatisticDuration compute_output, "
    "7 StatisticDuration cache_hit, 8 StatisticDuration cache_miss",
    "InferBatchStatistics": "1 uint64 batch_size, 2 StatisticDuration compute_input, "
    "3 StatisticDuration compute_infer, 4 StatisticDuration compute_output",
    "ModelStatistics": "1 string name, 2 string version, 3 uint64 last_inference, "
    "4 uint64 inference_count, 5 uint64 execution_count, 6 InferStatistics inference_stats, "
    "7 *InferBatchStatistics batch_stats",
    "ModelStatisticsResponse": "1 *ModelStatistics model_stats",
    "ModelRepositoryParameter": "1 |bool bool_param, 2 |int64 int64_param, 3 |string string_param, "
    "4 |bytes bytes_param",
    "RepositoryIndexRequest": "1 string repository_name, 2 bool ready",
    "ModelIndex": "1 string name, 2 string version, 3 string state, 4 string reason",
    "RepositoryIndexResponse": "1 *ModelIndex models",
    "RepositoryModelLoadRequest": "1 string repository_name, 2 string model_name, "
    "3 <ModelRepositoryParameter parameters",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "1 string repository_name, 2 string model_name, "
    "3 <ModelRepositoryParameter parameters",
    "RepositoryModelUnloadResponse": "",
    "TraceSetting": "1 *string value",
    "TraceSettingRequest": "1 <TraceSetting settings, 2 string model_name",
    "TraceSettingResponse": "1 <TraceSetting settings",
    "LogSetting": "1 |bool bool_param, 2 |uint32 uint32_param, 3 |string string_param",
    "LogSettingsRequest": "1 <LogSetting settings",
    "LogSettingsResponse": "1 <LogSetting settings",
}
ENUMS: Mapping[str, tuple[str, ...]] = {
    "DataType": (
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64",
        "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32",
        "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
    ),
    "Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
}  # fmt: skip

HEALTH_MESSAGES: Mapping[str, str] = {
    "HealthCheckRequest": "1 string service",
    "HealthCheckResponse": "1 int32 status",  # an enumeration, which is sent in the same way
}

FIELD = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "double": FIELD.TYPE_DOUBLE, "float": FIELD.TYPE_FLOAT, "int64": FIELD.TYPE_INT64,
    "uint64": FIELD.TYPE_UINT64, "int32": FIELD.TYPE_INT32, "uint32": FIELD.TYPE_UINT32,
    "bool": FIELD.TYPE_BOOL, "string": FIELD.TYPE_STRING, "bytes": FIELD.TYPE_BYTES,
}  # fmt: skip


def message(name: str, service: str = SERVICE) -> Any:  # noqa: ANN401 - a class that protobuf makes
    """The class of a message of a service."""
    package = service.rpartition(".")[0]
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{package}.{name}"))


def _file(
    service: str, messages: Mapping[str, str], enums: Mapping[str, tuple[str, ...]]
) -> descriptor_pb2.FileDescriptorProto:
    package = service.rpartition(".")[0]
    file = descriptor_pb2.FileDescriptorProto(
        name=f"penstock/{package}.proto", package=package, syntax="proto3"
    )
    for name, values in enums.items():
        enum = file.enum_type.add(name=name)
        for place, value in enumerate(values):
            enum.value.add(name=value, number=place)
    for name, fields in messages.items():
        made = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            number, kind, title = field.split()
            _add(package, made, int(number), kind, title)
    return file


def _add(
    package: str, made: descriptor_pb2.DescriptorProto, number: int, kind: str, name: str
) -> None:
    if kind.startswith("<"):
        entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        nested = made.nested_type.add(name=entry)
        nested.options.map_entry = True
        _add(package, nested, 1, "string", "key")
        _add(package, nested, 2, kind[1:], "value")
        kind = f"*{made.name}.{entry}"
    field = made.field.add(name=name, number=number)
    many = kind.startswith("*")
    field.label = FIELD.LABEL_REPEATED if many else FIELD.LABEL_OPTIONAL
    if kind.startswith("|"):
        if not made.oneof_decl:
            made.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    kind = kind.lstrip("*|")
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type = FIELD.TYPE_ENUM if kind in ENUMS else FIELD.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"


POOL = descriptor_pool.DescriptorPool()
POOL.AddSerializedFile(_file(SERVICE, MESSAGES, ENUMS).SerializeToString())
POOL.AddSerializedFile(_file(HEALTH, HEALTH_MESSAGES, {}).SerializeToString())
