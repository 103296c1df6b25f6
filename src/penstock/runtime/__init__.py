"""Start and stop: settings, wiring, the user's project, the processes."""

from __future__ import annotations

from .addresses import check_port, url_of
from .board import Board, read_boards
from .by_need import by_need
from .callers import local_token
from .children import ProcessStatus
from .crew import Place, crew
from .heartbeat import Heartbeat, is_alive, living_processes
from .layout import Layout
from .loading import load_project
from .logs import configure_logs
from .measured import Family, Histogram, Measured, Sample, exposition
from .orders import OrderBook, Orders
from .processes import PROCESSES, executing, run_stream, run_worker, up
from .project import init_project
from .services import LocalServices, open_services
from .settings import SETTINGS_FILE, Settings, check_bind, load_settings
from .state_folder import local_user
from .stopping import leave, stop_on_signals
from .targets import Targets
from .tracing import Sampling, open_spans, read_sampling, reads_context
from .versions import code_version

__all__ = [
    "PROCESSES",
    "SETTINGS_FILE",
    "Board",
    "Family",
    "Heartbeat",
    "Histogram",
    "Layout",
    "LocalServices",
    "Measured",
    "OrderBook",
    "Orders",
    "Place",
    "ProcessStatus",
    "Sample",
    "Sampling",
    "Settings",
    "Targets",
    "by_need",
    "check_bind",
    "check_port",
    "code_version",
    "configure_logs",
    "crew",
    "executing",
    "exposition",
    "init_project",
    "is_alive",
    "leave",
    "living_processes",
    "load_project",
    "load_settings",
    "local_token",
    "local_user",
    "open_services",
    "open_spans",
    "read_boards",
    "read_sampling",
    "reads_context",
    "run_stream",
    "run_worker",
    "stop_on_signals",
    "up",
    "url_of",
]
