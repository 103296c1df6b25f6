"""Start and stop: settings, wiring, the user's project, the processes."""

from __future__ import annotations

from .layout import Layout
from .loading import load_project
from .project import init_project
from .services import LocalServices, open_services
from .settings import SETTINGS_FILE, Settings, check_bind, load_settings
from .versions import code_version

__all__ = [
    "SETTINGS_FILE",
    "Layout",
    "LocalServices",
    "Settings",
    "check_bind",
    "code_version",
    "init_project",
    "load_project",
    "load_settings",
    "open_services",
]
