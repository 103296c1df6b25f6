"""``penstock up``: starts all processes of one project folder and keeps them running."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx

from penstock.errors import PenstockError, UnavailableError

from .addresses import check_port, url_of
from .children import Child, ProcessStatus
from .heartbeat import Heartbeat, living_processes
from .services import LocalServices, open_services
from .stopping import stop_on_signals

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from .children import ProcessState

    Listener = Callable[[Sequence[ProcessStatus]], None]

__all__ = ["Supervisor", "Ward", "supervise"]

HEALTH_PATH = "/v2/health/live"
TICK_S = 0.2
ASK_EVERY_S = 0.25
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0
STEADY_S = 30.0
STOP_WITHIN_S = 10.0


def supervise(
    home: Path,
    *,
    processes: Sequence[str],
    on_change: Listener | None = None,
    stop: threading.Event | None = None,
) -> None:
    """See ``penstock.runtime.up``."""
    with ExitStack() as stack:
        services = stack.enter_context(open_services(home, kind="up"))
        stack.enter_context(_alone(services))
        wards = [ward for name in processes for ward in _wards(services, name)]
        told = stop or stack.enter_context(stop_on_signals())
        stack.enter_context(Heartbeat(services))
        Supervisor(services, wards, on_change or _deaf).run(told)


@contextmanager
def _alone(services: LocalServices) -> Generator[None]:
    """Be the only one that starts the processes of the folder while the context is open.

    Raises:
        UnavailableError: Another one is at it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(services.locks.hold("up", wait_s=0))
        except UnavailableError as error:
            raise UnavailableError(
                f"The processes of {services.home} run already, started by "
                f"{error.facts.get('holder')}. 'penstock status' shows them. To start them anew, "
                "stop that one first.",
                **error.facts,
            ) from error
        yield


class Ward:
    """A child and what its supervisor knows of it.

    Args:
        child: The child, not started yet.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self.state: ProcessState = "stopped"
        self.restarts = 0
        self.detail = ""
        self.failures = 0
        self.started_s = 0.0
        self.start_at_s = 0.0
        self.ask_at_s = 0.0

    @property
    def status(self) -> ProcessStatus:
        """Where it stands."""
        return ProcessStatus(
            name=self.child.name,
            state=self.state,
            process_id=self.child.process_id if self.child.runs else 0,
            address=self.child.address,
            restarts=self.restarts,
            detail=self.detail,
        )


class Supervisor:
    """Keeps children running until it is told to stop.

    Args:
        services: The project; children that do not listen are ready when its records show them.
        wards: The children.
        listener: Called with the status of every child whenever one changes.
    """

    def __init__(self, services: LocalServices, wards: list[Ward], listener: Listener) -> None:
        self._services = services
        self._wards = wards
        self._listener = listener
        self._told: list[ProcessStatus] = []
        # Certificates are not checked: it only asks whether our own child answers.
        self._http = httpx.Client(verify=False, trust_env=False, timeout=2.0)  # noqa: S501

    def run(self, stop: threading.Event) -> None:
        """Supervise until told to stop; no child is left running, whatever happens.

        Args:
            stop: Ends it when set.
        """
        try:
            for ward in self._wards:
                self._start(ward, "starting")
            while not stop.is_set():
                for ward in self._wards:
                    self._look(ward)
                self._tell()
                stop.wait(TICK_S)
        finally:
            self._stop_all()
            self._http.close()

    def _start(self, ward: Ward, state: ProcessState) -> None:
        ward.state = state
        ward.started_s = time.monotonic()
        ward.child.start()

    def _look(self, ward: Ward) -> None:
        now_s = time.monotonic()
        if not ward.child.runs:
            self._revive(ward, now_s)
        elif ward.state != "ready" and now_s >= ward.ask_at_s:
            ward.ask_at_s = now_s + ASK_EVERY_S
            if self._is_ready(ward.child):
                ward.state = "ready"
        elif ward.state == "ready" and now_s - ward.started_s > STEADY_S:
            ward.failures = 0

    def _revive(self, ward: Ward, now_s: float) -> None:
        """Note a death once, wait, start again; each death in a row doubles the wait."""
        if ward.state != "restarting" or ward.started_s > ward.start_at_s:
            ward.state = "restarting"
            ward.detail = ward.child.post_mortem()
            wait_s = min(FIRST_BACKOFF_S * 2**ward.failures, LONGEST_BACKOFF_S)
            ward.start_at_s = now_s + wait_s
            ward.failures = min(ward.failures + 1, 10)
        elif now_s >= ward.start_at_s:
            ward.restarts += 1
            self._start(ward, "restarting")

    def _is_ready(self, child: Child) -> bool:
        """Whether it answers, or, where it does not listen, has begun its heartbeat."""
        try:
            # Where clients have to show a certificate, there is none to ask with.
            if child.address and not self._services.settings.tls_client_ca:
                return self._http.get(child.address + HEALTH_PATH).is_success
            living = living_processes(self._services, kind=child.kind)
        except (httpx.HTTPError, PenstockError):
            return False
        return child.process_id in {process.process_id for process in living}

    def _stop_all(self) -> None:
        for ward in self._wards:
            ward.state = "stopping"
            ward.child.terminate()
        self._tell()
        end_s = time.monotonic() + STOP_WITHIN_S
        while time.monotonic() < end_s and any(ward.child.runs for ward in self._wards):
            for ward in self._wards:
                ward.state = "stopping" if ward.child.runs else "stopped"
            self._tell()
            time.sleep(TICK_S)
        for ward in self._wards:
            ward.child.kill()
            ward.state = "stopped"
        self._tell()

    def _tell(self) -> None:
        statuses = [ward.status for ward in self._wards]
        if statuses == self._told:
            return
        self._told = statuses
        listener, self._listener = self._listener, _deaf  # one that fails is not called again
        listener(statuses)
        self._listener = listener


def _deaf(_statuses: Sequence[ProcessStatus]) -> None:
    """Listen to nothing."""


def _wards(services: LocalServices, name: str) -> list[Ward]:
    """The children of a kind, not started yet."""
    count = services.settings.stream_processes if name == "stream" else 1
    return [_ward(services, name, number) for number in range(1, count + 1)]


def _ward(services: LocalServices, name: str, number: int) -> Ward:
    """A child that is not started yet; its port is free."""
    settings, layout = services.settings, services.layout
    layout.logs.mkdir(parents=True, exist_ok=True)
    address = ""
    if name in {"api", "serve"}:
        host, port = (
            (settings.api_host, settings.api_port)
            if name == "api"
            else (settings.serve_host, settings.serve_port)
        )
        check_port(host, port, setting=f"{name}_port")
        address = url_of(settings, host, port)
    command = [sys.executable, "-m", "penstock.cli", name, "--home", str(services.home)]
    label = name if number == 1 else f"{name}-{number}"
    output = layout.logs / f"{label}.out"
    return Ward(Child(label, command, output, kind=name, address=address))
