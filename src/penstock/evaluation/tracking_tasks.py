"""Tasks that write to MLflow: asked of worker processes, one at a time.

Only they load MLflow, which takes seconds the first time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from penstock.ports import Task
from penstock.records import ALIASES
from penstock.registry import aliases, versions

if TYPE_CHECKING:
    from collections.abc import Generator

    from penstock.ports import Services

__all__ = ["artifact_folder", "ask_mlflow", "mirror", "preparing_tracking"]

PREPARE = "penstock.evaluation.worker:prepare"
MIRROR = "penstock.evaluation.worker:mirror_model"
TRACKING_WAIT_S = 600.0


@contextmanager
def preparing_tracking(services: Services) -> Generator[None]:
    """Let a worker process make MLflow's database, where there is none, while others train.

    It takes seconds, and more for loading MLflow. A failure is not told: who tracks meets it too.

    Args:
        services: The project's ports.
    """
    if _database(services).exists():
        yield
        return
    task = Task(function=PREPARE, arguments={"uri": services.tracking_uri})
    with ThreadPoolExecutor(1, thread_name_prefix="tracking") as thread:
        thread.submit(ask_mlflow, services, task)
        yield


def mirror(services: Services, model: str) -> None:
    """Copy a model's versions and aliases into MLflow's registry, which never leads.

    Loads MLflow in a worker process, which takes seconds the first time.

    Args:
        services: The project's ports.
        model: Name of the model.
    """
    found = [
        {"version": one.version, "tracking_run": one.tracking_run, "candidate": one.candidate}
        for one in versions(services.metadata, model)
    ]
    present = aliases(services.metadata, model)
    arguments = {
        "uri": services.tracking_uri,
        "model": model,
        "versions": found,
        "aliases": {alias: getattr(present, alias) for alias in ALIASES},
    }
    ask_mlflow(services, Task(function=MIRROR, arguments=arguments))


def ask_mlflow(services: Services, task: Task) -> object:
    """Run a task that writes to MLflow, one at a time: its first writer makes the database.

    Args:
        services: The project's ports.
        task: The task.

    Returns:
        What it returns.
    """
    with services.locks.hold("tracking", wait_s=TRACKING_WAIT_S):
        ((_, found),) = services.executor.run([task])
    return found


def artifact_folder(services: Services) -> Path:
    """Where MLflow's artifacts go: beside its database.

    Args:
        services: The project's ports.
    """
    return _database(services).parent / "mlartifacts"


def _database(services: Services) -> Path:
    return Path(urlsplit(services.tracking_uri).path.replace("//", "/", 1))
