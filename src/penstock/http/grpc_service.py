"""The Open Inference Protocol over gRPC: ``inference.GRPCInferenceService``.

It runs in the event loop of the process and puts rows into the same batches as HTTP. Whoever calls
brings a token as metadata: ``authorization: Bearer ...``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import structlog
from google.protobuf.json_format import ParseDict

from penstock.errors import (
    AccessError,
    ConflictError,
    InputError,
    NotFoundError,
    NotReadyError,
    NotSupportedError,
    PenstockError,
    RetryableError,
    UnavailableError,
    UserCodeError,
)

from .grpc_hands import private_of, take_calls
from .grpc_health import health_handlers
from .grpc_messages import SERVICE, message
from .grpc_streams import refused, streamed, until_told
from .grpc_tensors import chosen, infer_answer, infer_request
from .serve_call import BODY_LIMIT_BYTES
from .serve_scoring import check_resting, named
from .serve_v2_about import (
    model_config,
    model_metadata,
    server_metadata,
)
from .serve_v2_parameters import check_load, check_unload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from typing import TypeAlias

    from penstock.records import Manifest, Role
    from penstock.scoring import RequestTrace

    from .serve_door import Door
    from .serve_keeper import Keeper
    from .serve_v2 import InferenceDoor
    from .tls import Certificates, Pem

    Handler: TypeAlias = Callable[[Any, "Context"], Awaitable[Any]]
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

__all__ = ["GrpcServer"]

CODES: tuple[tuple[type[PenstockError], grpc.StatusCode], ...] = (
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (ConflictError, grpc.StatusCode.FAILED_PRECONDITION),
    (NotSupportedError, grpc.StatusCode.UNIMPLEMENTED),
    (NotReadyError, grpc.StatusCode.UNAVAILABLE),
    (RetryableError, grpc.StatusCode.UNAVAILABLE),
)
INFER = f"{SERVICE}/ModelInfer"
BROKEN = "The server failed; its log says where. Try again, or report it."
GRACE_S = 10.0


class _Origin(NamedTuple):
    arrived_us: int
    request_id: str
    context: Context
    trace: RequestTrace | None

    def header(self, wanted: bytes) -> bytes:
        """A key of the metadata, which stands for a header; empty where there is none."""
        return _metadata_of(self.context, wanted.decode())


class GrpcServer:
    """Answers on a port of its own.

    Args:
        keeper: What is served, and who may ask.
        inference: Scores, and changes settings.
        version: Penstock's.
        host: The address to bind to.
        port: The port.
        tls: Its certificate, which may change; none for no TLS.
        limit_bytes: How long a message may be.
        shared: Whether other processes of this user may have the port too.
    """

    def __init__(  # noqa: PLR0913 - what a server is made of
        self,
        keeper: Keeper,
        inference: InferenceDoor,
        version: str,
        *,
        host: str,
        port: int,
        tls: Certificates | None = None,
        limit_bytes: int = BODY_LIMIT_BYTES,
        shared: bool = False,
    ) -> None:
        self._keeper = keeper
        self._inference = inference
        self._clock = keeper.ports.clock
        self._tracing = inference.traces
        self._version = version
        self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._tls = tls
        self._limit_bytes = limit_bytes
        self._shared = shared
        self._server: grpc.aio.Server | None = None
        self._ending: asyncio.Future[None]
        self._log = structlog.get_logger("penstock.serve")

    async def start(self) -> None:
        """Begin to answer.

        Raises:
            UnavailableError: The port is taken, or the address is not this machine's.
        """
        self._ending = asyncio.get_running_loop().create_future()
        options = [
            ("grpc.max_receive_message_length", self._limit_bytes),
            ("grpc.so_reuseport", int(self._shared)),
        ]
        server = grpc.aio.server(options=options)
        handlers = self._handlers()
        infer = handlers["ModelInfer"]
        health = health_handlers(lambda: self._keeper.ready, self._ending)
        answering = grpc.method_handlers_generic_handler(SERVICE, handlers)
        server.add_generic_rpc_handlers((answering, health))
        private = private_of(server)
        if private is not None:
            server.add_registered_method_handlers(SERVICE, {"ModelInfer": infer})
        try:
            if self._tls is None:
                server.add_insecure_port(self._where)
            else:
                server.add_secure_port(self._where, _credentials(self._tls))
        except RuntimeError as error:
            raise UnavailableError(
                f"Online scoring cannot listen for gRPC on {self._where}. Stop what uses the port, "
                "or choose another with the setting serve_grpc_port.",
                address=self._where,
            ) from error
        await server.start()
        if private is not None:
            take_calls(private, f"/{INFER}", infer)
        self._server = server
        self._log.info("serving gRPC", address=self._where)

    async def stop(self) -> None:
        """Answer what is under way, then end."""
        if self._server is not None:
            self._ending.set_result(None)
            await self._server.stop(GRACE_S)

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        unary = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._statistics,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            "LogSettings": self._log_settings,
            "TraceSetting": self._trace_settings,
        }
        made = {
            name: grpc.unary_unary_rpc_method_handler(
                self._answering(handler),
                request_deserializer=message(f"{name}Request").FromString,
                response_serializer=_serialized,
            )
            for name, handler in unary.items()
        }
        made["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=message("ModelInferRequest").FromString,
            response_serializer=_serialized,
        )
        return made

    def _answering(self, handler: Handler) -> Callable[[Any, Context], Awaitable[Any]]:
        """A handler whose errors become statuses."""

        async def answer(request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
            code, text = grpc.StatusCode.INTERNAL, BROKEN
            # A request must never end without an answer, whatever goes wrong in here.
            try:
                return await handler(request, context)
            except PenstockError as error:
                code, text = self._status_of(error)
            except Exception:  # noqa: BLE001 - see above; the log has all of it
                self._log.exception("a gRPC request failed")
            return await context.abort(code, text)

        return answer

    def _status_of(self, error: PenstockError) -> tuple[grpc.StatusCode, str]:
        if isinstance(error, UserCodeError):
            # What a function said may hold values that the caller may not read.
            self._log.error("a function of the user failed", error=error.message)
            return grpc.StatusCode.INTERNAL, error.plain
        return _code_of(error), error.message

    def _check(self, context: Context, role: Role) -> str:
        return self._keeper.guard.check(_token_of(context), role).name

    async def _live(self, _: Any, __: Context) -> Any:  # noqa: ANN401 - messages
        return message("ServerLiveResponse")(live=True)

    async def _ready(self, _: Any, __: Context) -> Any:  # noqa: ANN401 - messages
        return message("ServerReadyResponse")(ready=self._keeper.ready)

    async def _metadata(self, _: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "reader")
        return _from_json("ServerMetadataResponse", server_metadata(self._version))

    async def _model_ready(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "reader")
        keeper, name, number = self._keeper, request.name, request.version
        try:
            check_resting(keeper, name, number)
            if name not in keeper.resting:  # a request has it loaded
                named(keeper, name, number)
        except (NotFoundError, NotReadyError):
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=True)

    async def _model_metadata(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "reader")
        door, manifest = await self._named(request)
        told = model_metadata(request.name, manifest, door.endpoint.versions)
        return _from_json("ModelMetadataResponse", told)

    async def _model_config(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "reader")
        _, manifest = await self._named(request)
        told = model_config(request.name, manifest)
        return _from_json("ModelConfigResponse", {"config": told})

    async def _statistics(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "reader")
        if not request.name:  # and then a version is nobody's
            return _from_json("ModelStatisticsResponse", await self._inference.statistics())
        await self._named(request)
        told = await self._inference.statistics(request.name, request.version)
        return _from_json("ModelStatisticsResponse", told)

    async def _named(self, request: Any) -> tuple[Door, Manifest]:  # noqa: ANN401 - a message
        """The deployment and the version that a request is about, loaded."""
        check_resting(self._keeper, request.name, request.version)
        await self._keeper.waking.need(request.name)
        door, manifest, _ = named(self._keeper, request.name, request.version)
        return door, manifest

    async def _infer(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        arrived_us = self._clock.now_us()
        tracing = self._tracing
        trace = tracing.begin(_headers_of(context), arrived_us) if tracing else None
        origin = _Origin(arrived_us, request.id, context, trace)
        if tracing is None or trace is None:
            return await self._scored(request, origin)
        error: BaseException | None = None
        try:
            return await self._scored(request, origin)
        except BaseException as raised:
            error = raised
            raise
        finally:
            tracing.called(trace, INFER, request.id, _code_of(error))

    async def _scored(self, request: Any, origin: _Origin) -> Any:  # noqa: ANN401 - messages
        self._check(origin.context, "writer")
        wanted = infer_request(request)
        name, number = request.model_name, request.model_version
        scores, task = await self._inference.infer(name, number, wanted, origin)
        return infer_answer(request, wanted, task, scores)

    async def _stream(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        """Answer requests in the order they come; one that fails ends none of the others."""
        async for request in until_told(requests, self._ending):
            try:
                yield streamed(await self._infer(request, context))
            except PenstockError as error:
                yield refused(request, self._status_of(error)[1])
            except Exception:  # noqa: BLE001 - as in _answering
                self._log.exception("a gRPC request failed")
                yield refused(request, BROKEN)

    async def _index(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "reader")
        models = self._inference.index(ready=request.ready)
        return _from_json("RepositoryIndexResponse", {"models": models})

    async def _load(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        who = self._check(context, "admin")
        check_load(request.parameters)
        await self._keeper.load(request.model_name, actor=who)
        return message("RepositoryModelLoadResponse")()

    async def _unload(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        who = self._check(context, "admin")
        check_unload(request.parameters)
        await self._keeper.unload(request.model_name, actor=who)
        return message("RepositoryModelUnloadResponse")()

    async def _log_settings(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "admin" if request.settings else "reader")
        given = {name: chosen(one) for name, one in request.settings.items()}
        told = await self._inference.log_settings(given)
        answer = message("LogSettingsResponse")()
        for name, value in told.items():
            setattr(answer.settings[name], _choice_for(value), value)
        return answer

    async def _trace_settings(self, request: Any, context: Context) -> Any:  # noqa: ANN401 - messages
        self._check(context, "admin" if request.settings else "reader")
        given: dict[str, Any] = {}
        for name, one in request.settings.items():
            values = list(one.value)
            given[name] = values if name == "trace_level" else (values or [None])[0]
        answer = message("TraceSettingResponse")()
        told = await self._inference.tracing(given, request.model_name)
        for name, value in told.items():
            answer.settings[name].value.extend(value if isinstance(value, list) else [value])
        return answer


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """A certificate that is the newest with each connection."""
    taken = certificates.pem

    def newest() -> Any:  # noqa: ANN401 - the stubs know no way to say that nothing has changed
        nonlocal taken
        if certificates.pem is taken:
            return None
        taken = certificates.pem
        return _configuration(taken)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(taken), newest, certificates.client_ca is not None
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.client_ca or None)


def _serialized(answer: Any) -> bytes:  # noqa: ANN401 - a message
    found: bytes = answer.SerializeToString()
    return found


def _from_json(name: str, told: Mapping[str, object]) -> Any:  # noqa: ANN401 - a message
    """A message from the same thing as JSON has it; what only JSON has is left out."""
    return ParseDict(dict(told), message(name)(), ignore_unknown_fields=True)


def _choice_for(value: object) -> str:
    if isinstance(value, bool):
        return "bool_param"
    return "uint32_param" if isinstance(value, int) else "string_param"


def _code_of(error: BaseException | None) -> grpc.StatusCode:
    """The status that says what became of a request."""
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, asyncio.CancelledError):  # by the client, or past its deadline
        return grpc.StatusCode.CANCELLED
    if isinstance(error, AccessError):
        known = "needed" in error.facts
        return grpc.StatusCode.PERMISSION_DENIED if known else grpc.StatusCode.UNAUTHENTICATED
    internal = grpc.StatusCode.INTERNAL
    return next((code for kind, code in CODES if isinstance(error, kind)), internal)


def _headers_of(context: Context) -> Iterator[tuple[bytes, bytes]]:
    """The metadata, as headers are."""
    for name, value in context.invocation_metadata() or ():
        yield name.encode(), value.encode() if isinstance(value, str) else bytes(value)


def _token_of(context: Context) -> bytes:
    return _metadata_of(context, "authorization")


def _metadata_of(context: Context, wanted: str) -> bytes:
    for name, value in context.invocation_metadata() or ():
        if name == wanted:
            return value.encode() if isinstance(value, str) else bytes(value)
    return b""
