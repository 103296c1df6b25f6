"""Logs: JSON lines in the project's ``logs`` folder, short lines for people on stderr."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import TYPE_CHECKING

import structlog

from penstock.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import Processor

__all__ = ["configure_logs"]

FILE_BYTES = 16 * 1024 * 1024
OLD_FILES = 2
QUIET = ("alembic", "asyncio", "httpx", "mlflow", "sqlalchemy", "urllib3", "uvicorn.access")


def configure_logs(folder: Path, process: str, *, level: str = "info") -> None:
    """Send everything that is logged in this process to its file and to stderr.

    Tracebacks come without the values of variables: tokens and records of users are among them.
    What libraries log goes the same way, from warnings on.

    Args:
        folder: The project's ``logs`` folder; created when it is not there.
        process: Kind of process; its file is ``<process>.log``, which is rotated at 16 MiB.
        level: Least severity that is logged: ``debug``, ``info``, ``warning`` or ``error``.

    Raises:
        StateError: The file cannot be written to.
    """
    stamped: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.CallsiteParameterAdder(
            {structlog.processors.CallsiteParameter.PROCESS}
        ),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *stamped,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in (_file(folder, process, stamped), _stderr(stamped)):
        root.addHandler(handler)
    root.setLevel(number)
    logging.captureWarnings(capture=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _file(folder: Path, process: str, stamped: list[Processor]) -> logging.Handler:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            folder / f"{process}.log",
            maxBytes=FILE_BYTES,
            backupCount=OLD_FILES,
            encoding="utf-8",
        )
    except OSError as error:
        raise StateError(
            f"The log {folder / process}.log cannot be written: {error.strerror}. Expected a "
            "folder that this user may write to; check its permissions and the disk.",
            path=str(folder),
        ) from error
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamped,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(
                    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
                ),
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    return handler


def _stderr(stamped: list[Processor]) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamped,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_process,
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(),
                    pad_event_to=0,
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
        )
    )
    return handler


def _without_process(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """People at a terminal know which process it is."""
    event.pop("process", None)
    return event
