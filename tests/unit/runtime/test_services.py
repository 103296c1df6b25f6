from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from penstock.access import system_identity
from penstock.errors import NotSupportedError, StateError
from penstock.runtime import open_services

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.ports import Services
    from penstock.runtime import LocalServices

PORTS = (
    "clock", "ids", "metadata", "tables", "online", "log", "artifacts", "locks", "executor",
    "workflows",
)  # fmt: skip
DRIVERS = ("dbos", "deltalake", "lmdb", "mlflow", "polars", "sklearn", "sqlalchemy", "httpx")


def test_every_port_is_opened_once(services: LocalServices) -> None:
    typed: Services = services  # checked by the type checkers
    for name in PORTS:
        assert getattr(typed, name) is getattr(services, name)
    assert typed.scratch.is_dir()
    assert typed.score_log.is_dir()
    assert typed.tracking_uri == f"sqlite:///{services.home}/.penstock/mlflow.db"


def test_the_memory_for_features_is_a_setting(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert services.features_memory_bytes == 1 << 30
    monkeypatch.setenv("PENSTOCK_FEATURES_MEMORY_MB", "16")
    with open_services(services.home) as small:
        assert small.features_memory_bytes == 16 << 20


@pytest.mark.parametrize(
    ("workers", "memory_mb", "wanted", "cores", "at_once"),
    [
        (2, 1024, 0, 8, 2),
        (8, 1024, 0, 8, 8),
        (8, 1024, 0, 3, 3),
        (8, 300, 0, 8, 2),
        (8, 16, 0, 8, 1),
        (8, 16, 5, 1, 5),
        (2, 1024, 5, 8, 2),
    ],
)
def test_parts_run_side_by_side_as_workers_cores_and_memory_allow(  # noqa: PLR0917 - a table
    services: LocalServices,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    memory_mb: int,
    wanted: int,
    cores: int,
    at_once: int,
) -> None:
    monkeypatch.setenv("PENSTOCK_WORKERS", str(workers))
    monkeypatch.setenv("PENSTOCK_FEATURES_MEMORY_MB", str(memory_mb))
    monkeypatch.setenv("PENSTOCK_FEATURES_WORKERS", str(wanted))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    with open_services(services.home) as opened:
        assert opened.features_at_once == at_once


def test_threads_get_the_same_port(services: LocalServices) -> None:
    found: list[object] = []
    ready = threading.Barrier(8)

    def ask() -> None:
        ready.wait()
        found.append(services.log)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len({id(port) for port in found}) == 1


def test_the_import_loads_no_driver() -> None:
    script = "import sys, penstock.runtime; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )

    assert {name.partition(".")[0] for name in done.stdout.split()} & set(DRIVERS) == set()


def test_opening_loads_only_what_is_used(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from penstock.runtime import open_services\n"
        "with open_services(Path(sys.argv[1])) as s: s.locks; s.clock; s.ids\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], check=True, capture_output=True, text=True
    )

    assert {name.partition(".")[0] for name in done.stdout.split()} & set(DRIVERS) == set()


@pytest.mark.parametrize(
    ("kind", "actor", "expected"), [("worker", None, "worker"), ("api", "ann", "ann")]
)
def test_who_acts(home: Path, kind: str, actor: str | None, expected: str) -> None:
    with open_services(home, kind=kind, actor=actor) as services:
        assert services.actor == expected
        assert (services.caller.name, services.caller.role) == (kind, "admin")
        ben = services.acting(system_identity("ben"))
        assert (ben.actor, ben.caller.name) == ("ben", "ben")
        assert ben.metadata is services.metadata


def test_executors_have_names_of_their_own(home: Path) -> None:
    with open_services(home, kind="worker") as one, open_services(home, kind="worker") as two:
        assert one.executor_id == one.executor_id
        assert one.executor_id != two.executor_id


def test_the_folder_leads_the_path(home: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    with open_services(home):
        assert sys.path[0] == str(home)
        assert sys.path.count(str(home)) == 1


def test_closing_goes_on_after_a_failure(services: LocalServices) -> None:
    class Closing(NamedTuple):
        name: str

        def close(self) -> None:
            closed.append(self.name)
            if self.name == "two":
                raise OSError(self.name)

    closed: list[str] = []
    for name in ("one", "workflows", "two", "three"):
        services._once(name, lambda name=name: Closing(name))  # type: ignore[misc]  # noqa: SLF001

    with pytest.raises(ExceptionGroup) as caught:
        services.close()

    assert closed == ["workflows", "three", "two", "one"]
    assert [str(error) for error in caught.value.exceptions] == ["two"]
    services.close()
    assert len(closed) == 4


def test_a_relative_home_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.parent)
    with open_services(home.relative_to(home.parent)) as services:
        monkeypatch.chdir("/")
        assert services.home == home
        assert services.metadata.revision() > 0


def test_a_full_disk_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1_000))

    with pytest.raises(StateError, match="1,000 bytes are free"):
        open_services(home)


def test_a_state_folder_that_cannot_be_written_to(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # as for a user who is not root

    with pytest.raises(StateError, match="cannot be written to"):
        open_services(home)


def test_something_in_the_way_of_an_adapter(home: Path) -> None:
    (home / ".penstock" / "locks").touch()
    (home / ".penstock" / "scratch").touch()

    with open_services(home) as services:
        with pytest.raises(StateError, match="locks"):
            services.locks.hold("x").__enter__()
        with pytest.raises(StateError, match="scratch"):
            _ = services.scratch


def test_a_damaged_database_is_told(home: Path) -> None:
    (home / ".penstock" / "metadata.db").write_bytes(b"no database at all, only text" * 100)
    (home / ".penstock" / "workflows.db").write_bytes(b"no database at all, only text" * 100)

    with open_services(home) as services:
        with pytest.raises(StateError, match=r"metadata\.db"):
            services.metadata.revision()
        with pytest.raises(StateError, match=r"workflows\.db"):
            _ = services.workflows


def test_an_adapter_that_is_not_built(home: Path) -> None:
    (home / "penstock.toml").write_text('tables_url = "s3://bucket"\n')

    with pytest.raises(NotSupportedError, match="tables_url"):
        open_services(home)
