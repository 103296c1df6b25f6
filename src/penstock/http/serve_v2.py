"""The Open Inference Protocol (V2) over REST, with the extensions that Triton's clients call.

``infer`` answers ``prediction`` (FP64: the probability of true, or the value) and
``prediction_id`` (BYTES). Without a version in the path the deployment's routes choose who
answers; with one, that version does, and no other falls back.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.errors import (
    InputError,
    NotFoundError,
    NotSupportedError,
    UnavailableError,
    nearest,
)

from .serve_errors import Answer
from .serve_orders import Obedience
from .serve_scoring import check_resting, named, reach_version, score_all
from .serve_traces import trace_settings
from .serve_v2_about import (
    model_config,
    model_index,
    model_metadata,
    server_metadata,
)
from .serve_v2_parameters import check_load, check_unload
from .serve_v2_rows import rows_of_tensors
from .serve_v2_wire import HEADER_LENGTH, read_request, told_scores
from .serve_ways import model_named

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from penstock.records import Score
    from penstock.runtime import OrderBook

    from .serve_call import Call
    from .serve_keeper import Keeper
    from .serve_meter import Meter
    from .serve_scoring import Asked
    from .serve_traces import Tracing
    from .serve_v2_wire import InferRequest

__all__ = ["V2", "V2_PATHS", "InferenceDoor"]

V2 = "/v2"
V2_PATHS = (
    "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}", "/v2/models/{name}/infer",
    "/v2/models/{name}/ready", "/v2/models/{name}/config", "/v2/models/{name}/stats",
    "/v2/models/{name}/versions/{version}/infer", "/v2/models/stats", "/v2/repository/index",
    "/v2/repository/models/{name}/load", "/v2/repository/models/{name}/unload", "/v2/logging",
    "/v2/trace/setting",
)  # fmt: skip
HEALTH = {"/v2/health/live", "/v2/health/ready"}
US_PER_S = 1_000_000
MODELS, REPOSITORY = "/v2/models/", "/v2/repository/models/"
LEVELS = (
    ("log_info", logging.INFO),
    ("log_warning", logging.WARNING),
    ("log_error", logging.ERROR),
)
SWITCHES = frozenset(name for name, _ in LEVELS)
LOG_NAMES = ("log_info", "log_warning", "log_error", "log_verbose_level", "log_file", "log_format")


class InferenceDoor:
    """Answers below ``/v2``.

    Args:
        keeper: What is served, and who may ask.
        version: Penstock's version.
        meter: Tells what was done.
        tracing: Traces requests; left out where nothing is traced.
        orders: What all processes of the address were told; left out for one that is alone.

    Attributes:
        obedience: Has all processes do what one of them was told.
        traces: What traces requests; none where nothing is traced.
    """

    def __init__(
        self,
        keeper: Keeper,
        version: str,
        meter: Meter,
        tracing: Tracing | None = None,
        orders: OrderBook | None = None,
    ) -> None:
        self._keeper = keeper
        self._meter = meter
        self.obedience = Obedience(keeper, orders, tracing)
        self.traces = tracing
        self._version = version
        self._encode = msgspec.json.Encoder().encode

    async def answer(self, call: Call) -> Answer:
        """Answer a request.

        Raises:
            PenstockError: It is refused, or cannot be answered.
        """
        path = call.scope["path"].rstrip("/")
        if path in HEALTH:
            call.need("GET")
        if path == "/v2/health/live":
            return self._json({"live": True})
        if path == "/v2/health/ready":
            ready = self._keeper.ready
            return Answer(200 if ready else 503, self._encode({"ready": ready}))
        if path.startswith(MODELS) and path != "/v2/models/stats":
            return await self._model(call, *model_named(path))
        if path.startswith(REPOSITORY):
            return await self._repository(call, path[len(REPOSITORY) :])
        changed = {"/v2/logging": self.log_settings, "/v2/trace/setting": self.tracing}.get(path)
        if changed is not None:
            return await self._settings(call, changed)
        return await self._about(call, path)

    async def _about(self, call: Call, path: str) -> Answer:
        self._keeper.guard.check(call.authorization, "reader")
        if path == "/v2":
            call.need("GET")
            return self._json(server_metadata(self._version))
        if path == "/v2/models/stats":
            call.need("GET")
            return self._json(await self.statistics())
        if path == "/v2/repository/index":
            call.need("POST")
            return self._json(self.index(ready=_ready_alone(await call.body())))
        if "sharedmemory" in path:
            raise NotSupportedError("Shared memory is not supported. Send tensors in the body.")
        raise NotFoundError.of("path", path, V2_PATHS)

    def index(self, *, ready: bool = False) -> list[dict[str, object]]:
        """What ``/v2/repository/index`` lists.

        Args:
            ready: Only what answers.
        """
        told = model_index(self._keeper.doors, self._keeper.unloaded, self._keeper.resting)
        return [one for one in told if one["state"] == "READY"] if ready else told

    async def _model(self, call: Call, name: str, number: str, what: str) -> Answer:
        guard = self._keeper.guard
        if what == "infer":
            guard.check(call.authorization, "writer")
            call.need("POST")
            return await self._infer(call, name, number)
        if what == "trace/setting":
            return await self._settings(call, lambda given: self.tracing(given, name))
        guard.check(call.authorization, "reader")
        call.need("GET")
        check_resting(self._keeper, name, number)
        if what == "ready":
            if name not in self._keeper.resting:  # a request has it loaded
                named(self._keeper, name, number)
            return self._json({"name": name, "ready": True})
        await self._keeper.waking.need(name)
        door, manifest, _ = named(self._keeper, name, number)
        if what == "config":
            return self._json(model_config(name, manifest))
        if what == "stats":
            return self._json(await self.statistics(name, number))
        if what:
            raise NotFoundError.of("path", call.scope["path"], V2_PATHS)
        return self._json(model_metadata(name, manifest, door.endpoint.versions))

    async def _infer(self, call: Call, name: str, number: str) -> Answer:
        request = call.read or read_request(await call.body(), call.header(HEADER_LENGTH))
        call.request_id = request.id or call.request_id
        scores, task = await self.infer(name, number, request, call)
        return told_scores(name, request, task, scores)

    async def infer(
        self, name: str, number: str, request: InferRequest, asked: Asked
    ) -> tuple[list[Score], str]:
        """Score what a request asks for.

        Args:
            name: The deployment.
            number: The version; empty for whichever its routes give.
            request: The request.
            asked: Where it came from.

        Returns:
            The scores of its rows, and what the model does.

        Raises:
            PenstockError: It does not fit, or cannot be answered; or not in the time it allows.
        """
        if not request.timeout_us:
            return await self._scored(name, number, request, asked)
        try:
            async with asyncio.timeout(request.timeout_us / US_PER_S):
                return await self._scored(name, number, request, asked)
        except TimeoutError:
            raise UnavailableError(
                f"There was no answer within the {request.timeout_us} microseconds that the "
                "request allows by its parameter 'timeout'. Allow more, or try again.",
                retry_after_s=1,
            ) from None

    async def _scored(
        self, name: str, number: str, request: InferRequest, asked: Asked
    ) -> tuple[list[Score], str]:
        answering, manifest = await reach_version(self._keeper, name, number)
        rows = rows_of_tensors(manifest, request.tensors)
        return await score_all(answering, rows, asked), manifest.task

    async def _repository(self, call: Call, rest: str) -> Answer:
        """Load or unload a deployment in all processes of the address."""
        who = self._keeper.guard.check(call.authorization, "admin")
        call.need("POST")
        name, _, what = rest.partition("/")
        if what == "load":
            check_load(_parameters_of(await call.body()))
            await self._keeper.load(name, actor=who.name)
        elif what == "unload":
            check_unload(_parameters_of(await call.body()))
            await self._keeper.unload(name, actor=who.name)
        else:
            raise NotFoundError.of("path", call.scope["path"], V2_PATHS)
        return Answer(200, b"{}")

    async def _settings(
        self,
        call: Call,
        change: Callable[[Mapping[str, Any]], Coroutine[None, None, Mapping[str, object]]],
    ) -> Answer:
        """Tell settings, or change them."""
        if call.scope["method"] in {"GET", "HEAD"}:
            self._keeper.guard.check(call.authorization, "reader")
            return self._json(await change({}))
        self._keeper.guard.check(call.authorization, "admin")
        call.need("GET", "POST")
        try:
            given = msgspec.json.decode(await call.body(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"The body is no object of settings: {error}.") from None
        return self._json(await change(given))

    async def statistics(self, name: str = "", number: str = "") -> Mapping[str, object]:
        """What all processes of the address have done.

        Args:
            name: Only of this deployment; of all when empty.
            number: Only of this version; of all when empty.
        """
        told = await asyncio.to_thread(self._meter.statistics)
        number = str(int(number)) if number else ""
        wanted = [
            one for one in told if name in {"", one["name"]} and number in {"", one["version"]}
        ]
        return {"model_stats": wanted}

    async def log_settings(self, given: Mapping[str, Any]) -> Mapping[str, object]:
        """What all processes log at least, as switches, after some were changed.

        Raises:
            PenstockError: What ``_logging`` raises, or another process has not followed in time.
        """
        told = _logging(given)
        if given:
            await self.obedience.share_log_level()
        return told

    async def tracing(self, given: Mapping[str, Any], model: str = "") -> Mapping[str, object]:
        """The settings of tracing of all processes; see ``trace_settings``."""
        told = trace_settings(self.traces, given, model)
        if given and not model:
            await self.obedience.share_sampling()
        return told

    def _json(self, value: object) -> Answer:
        return Answer(200, self._encode(value))


def _ready_alone(body: bytes) -> bool:
    """Whether a request for the index asks for what is ready alone.

    Raises:
        InputError: It is no such request.
    """
    ready = _object_of(body).get("ready", False)
    if not isinstance(ready, bool):
        raise InputError(f"ready={ready!r}. Give true or false.")
    return ready


def _parameters_of(body: bytes) -> Mapping[str, Any]:
    """The parameters of a request to load or unload.

    Raises:
        InputError: It is no such request.
    """
    parameters = _object_of(body).get("parameters", {})
    if not isinstance(parameters, dict):
        raise InputError(f"parameters={parameters!r}. Give an object, or leave them out.")
    return parameters


def _object_of(body: bytes) -> Mapping[str, Any]:
    """A body that may be left out.

    Raises:
        InputError: It is no object.
    """
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The body is no object: {error}. Send {{}}.") from None


def _logging(given: Mapping[str, Any]) -> Mapping[str, object]:
    """The least severity that this process logs, as switches, after some were changed.

    Raises:
        InputError: There is no such switch, or its value is of another type.
        NotSupportedError: It cannot be changed.
    """
    root = logging.getLogger()
    now: dict[str, Any] = {name: root.level <= level for name, level in LEVELS}
    now["log_verbose_level"] = int(root.level <= logging.DEBUG)
    for name, value in given.items():
        if name not in now:
            raise _setting_fault(name, LOG_NAMES)
        if name in SWITCHES and not isinstance(value, bool):
            raise InputError(f"{name}={value!r}. Give true or false.")
        if name not in SWITCHES and not isinstance(value, int):
            raise InputError(f"{name}={value!r}. Give a whole number.")
        now[name] = value
    if given:
        on = [level for name, level in LEVELS if now[name]]
        least = min(on, default=logging.CRITICAL)
        root.setLevel(logging.DEBUG if now["log_verbose_level"] else least)
    return now | {"log_file": "", "log_format": "default"}


def _setting_fault(name: str, known: Mapping[str, object] | tuple[str, ...]) -> Exception:
    if name in known:
        return NotSupportedError(f"{name} cannot be changed while the server runs.")
    return InputError(f"There is no setting {name!r}. {nearest(name, known)}")
