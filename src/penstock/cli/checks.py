"""What ``penstock doctor`` checks: each check gives a verdict and says what to do."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING, Literal

import msgspec
import polars as pl

from penstock.access import token_hash
from penstock.errors import PenstockError, SettingsError
from penstock.features import built_to, space_of
from penstock.monitoring import OBSERVATIONS_TOPIC
from penstock.plan import Catalogue, preview
from penstock.records import Aliases, Identity, ModelVersion, Process
from penstock.runtime import check_port, is_alive, living_processes, load_project, local_token
from penstock.spec import FeatureView, Source

from .humanise import plural, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from penstock.runtime import LocalServices

__all__ = ["CHECKS", "Verdict", "examine"]

LITTLE_BYTES = 1_000_000_000
LAG_WARNING = 10_000
SCORES_WARNING_BYTES = 50_000_000
RECENT_RUNS = 50
RAW_GROUP, TABLES_GROUP = "raw", "tables"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found.

    Attributes:
        check: What was checked.
        state: ``ok``, ``warning`` or ``failed``.
        found: What was found.
        remedy: What to do; empty when all is well.
    """

    check: str
    state: Literal["ok", "warning", "failed"]
    found: str
    remedy: str = ""


def examine(services: LocalServices) -> list[Verdict]:
    """Do every check; one that breaks is a verdict, and the others go on."""
    return [verdict for check in CHECKS for verdict in _guarded(check, services)]


def _guarded(check: Callable[[LocalServices], Verdict], services: LocalServices) -> list[Verdict]:
    name = check.__name__.lstrip("_").replace("_", " ")
    try:
        return [check(services)]
    except PenstockError as error:
        return [
            Verdict(check=name, state="failed", found=error.message, remedy="See what is said.")
        ]
    except (OSError, pl.exceptions.PolarsError) as error:
        found = f"{type(error).__name__}: {error}"
        return [
            Verdict(check=name, state="failed", found=found, remedy="Restore it from a backup.")
        ]


def _settings(services: LocalServices) -> Verdict:
    settings = services.settings
    found = f"API on {settings.api_host}:{settings.api_port}, serving on "
    found += f"{settings.serve_host}:{settings.serve_port}"
    return Verdict(check="settings", state="ok", found=found)


def _token(services: LocalServices) -> Verdict:
    path = services.layout.token
    again = "Run 'penstock init'; it makes what is missing."
    if not path.is_file():
        return Verdict(check="token", state="failed", found=f"{path} is missing", remedy=again)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        found = f"{path} has mode {mode:o}: others can read it"
        return Verdict(check="token", state="failed", found=found, remedy=f"chmod 600 {path}")
    people = services.metadata.find(Identity)
    digest = token_hash(local_token(path))
    if digest not in {person.token_sha256 for person in people}:
        found = f"the token in {path} is nobody's"
        return Verdict(check="token", state="failed", found=found, remedy=again)
    found = ", ".join(f"{person.name} ({person.role})" for person in people)
    return Verdict(check="token", state="ok", found=found)


def _declarations(services: LocalServices) -> Verdict:
    project = load_project(services.home, settings=services.settings)
    plan = preview(services.metadata, project, now=services.clock.now())
    if plan.is_empty:
        return Verdict(check="declarations", state="ok", found="applied as declared")
    found = f"{plural(len(plan.steps), 'step')} from being applied"
    remedy = "Look with 'penstock plan', then 'penstock apply'."
    return Verdict(check="declarations", state="warning", found=found, remedy=remedy)


def _records(services: LocalServices) -> Verdict:
    revision = services.metadata.revision()
    found = f"{services.layout.metadata.name} can be read, revision {revision}"
    return Verdict(check="records", state="ok", found=found)


def _audit_chain(services: LocalServices) -> Verdict:
    entries = services.metadata.verify_audit()
    return Verdict(check="audit chain", state="ok", found=f"{plural(entries, 'entry')}, unbroken")


def _tables(services: LocalServices) -> Verdict:
    names = services.tables.names()
    rows = 0
    for name in names:
        rows += services.tables.scan(name).select(pl.len()).collect().item()
    found = f"{plural(len(names), 'table')}, {plural(rows, 'row')}"
    return Verdict(check="tables", state="ok", found=found)


def _packages(services: LocalServices) -> Verdict:
    """Every version that an alias points to has its files, undamaged."""
    checked = 0
    for pointers in services.metadata.find(Aliases):
        for number in {pointers.champion, pointers.challenger, pointers.previous} - {0}:
            where: dict[str, str | int] = {"model": pointers.model, "version": number}
            for version in services.metadata.find(ModelVersion, where=where):
                services.artifacts.path(version.package)
                checked += 1
    return Verdict(check="packages", state="ok", found=f"{plural(checked, 'live version')} whole")


def _event_log(services: LocalServices) -> Verdict:
    log = services.log
    waiting = {OBSERVATIONS_TOPIC: TABLES_GROUP}
    sources = Catalogue.load(services.metadata).all(Source)
    waiting |= {source.topic: RAW_GROUP for source in sources}
    lags = {topic: log.end(topic) - log.committed(topic, group) for topic, group in waiting.items()}
    total = sum(lags.values())
    found = f"{plural(total, 'message')} not in tables yet"
    if not total:
        return Verdict(check="event log", state="ok", found="everything is in its table")
    state: Literal["ok", "warning"] = "warning" if total > LAG_WARNING else "ok"
    if not living_processes(services, kind="stream"):
        state = "warning"
    remedy = "Run 'penstock stream' or 'penstock up'." if state == "warning" else ""
    return Verdict(check="event log", state=state, found=found, remedy=remedy)


def _online_features(services: LocalServices) -> Verdict:
    behind: list[str] = []
    views = Catalogue.load(services.metadata).all(FeatureView)
    for view in views:
        table = f"raw/{view.source.name}"
        newest, done = (
            services.tables.applied(table, table),
            built_to(services.online, space_of(view)),
        )
        if newest and (done or 0) < newest:
            behind.append(f"{view.name} by {plural(newest - (done or 0), 'batch')}")
    if not behind:
        found = f"{plural(len(views), 'view')} up to date"
        return Verdict(check="online features", state="ok", found=found)
    found = f"behind: {', '.join(behind)}"
    remedy = "Run 'penstock features build', or 'penstock stream'."
    return Verdict(check="online features", state="warning", found=found, remedy=remedy)


def _score_log(services: LocalServices) -> Verdict:
    files = [path for path in services.score_log.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    found = f"{size(total)} in {plural(len(files), 'file')} not removed yet"
    if total <= SCORES_WARNING_BYTES:
        return Verdict(check="score log", state="ok", found=found)
    remedy = "Run 'penstock stream' or 'penstock up', which move scores to their tables."
    return Verdict(check="score log", state="warning", found=found, remedy=remedy)


def _runs(services: LocalServices) -> Verdict:
    runs = services.workflows.runs(limit=RECENT_RUNS)
    failed = [run.run_id for run in runs if run.state == "failed"]
    if not failed:
        return Verdict(check="runs", state="ok", found=f"none of the last {len(runs)} failed")
    found = f"{len(failed)} of the last {len(runs)} failed: {failed[0]}"
    remedy = f"Look with 'penstock runs show {failed[0]}'."
    return Verdict(check="runs", state="warning", found=found, remedy=remedy)


def _disk(services: LocalServices) -> Verdict:
    state = services.layout.state
    free = shutil.disk_usage(state).free
    used = sum(_sizes(state))
    found = f"{size(used)} used by the project, {size(free)} free"
    if free > LITTLE_BYTES:
        return Verdict(check="disk", state="ok", found=found)
    return Verdict(check="disk", state="warning", found=found, remedy="Make room.")


def _ports(services: LocalServices) -> Verdict:
    settings = services.settings
    ours = {process.kind for process in living_processes(services) if process.address}
    wanted = (
        ("api", settings.api_host, settings.api_port),
        ("serve", settings.serve_host, settings.serve_port),
    )
    said: list[str] = []
    for kind, host, port in wanted:
        if kind in ours:
            said.append(f"{port} is our {kind}")
            continue
        try:
            check_port(host, port, setting=f"{kind}_port")
        except SettingsError as error:
            return Verdict(check="ports", state="warning", found=error.message, remedy="See above.")
        said.append(f"{port} is free for {kind}")
    return Verdict(check="ports", state="ok", found=", ".join(said))


def _processes(services: LocalServices) -> Verdict:
    now = services.clock.now()
    known = services.metadata.find(Process)
    living = [process for process in known if is_alive(process, now)]
    dead = [process for process in known if not is_alive(process, now)]
    names = ", ".join(sorted(process.kind for process in living)) or "none"
    if not dead:
        return Verdict(check="processes", state="ok", found=f"running: {names}")
    gone = ", ".join(f"{process.kind} (pid {process.process_id})" for process in dead)
    remedy = "They ended without a word; their logs are in .penstock/logs. 'penstock up' goes on."
    found = f"running: {names}; gone: {gone}"
    return Verdict(check="processes", state="warning", found=found, remedy=remedy)


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118 - twice as quick
            except FileNotFoundError:
                continue  # removed meanwhile


CHECKS: Sequence[Callable[[LocalServices], Verdict]] = (
    _settings,
    _token,
    _records,
    _audit_chain,
    _declarations,
    _tables,
    _event_log,
    _online_features,
    _score_log,
    _packages,
    _runs,
    _disk,
    _ports,
    _processes,
)
