"""Deploying and rolling back: the champion's alias moves, and every serving process follows.

The registry moves the alias in one transaction with its audit entry. Serving processes see it,
load the version beside the one that answers, check and warm it, and only then swap; so no request
fails.
Killed before the transaction nothing has changed; killed after it the deployment is done, and
running the command again announces it once and waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.errors import ConflictError, NotReadyError, StateError, UnavailableError
from penstock.plan import Catalogue
from penstock.registry import aliases, get_version, promote
from penstock.registry import rollback as roll_back_aliases

from .checks import check_gates, check_version
from .package import package
from .routed import changes_of
from .waiting import wait_for

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Aliases, ModelVersion, ServingStatus
    from penstock.spec import Deployment

__all__ = [
    "Deployed",
    "default_version",
    "deploy",
    "refuse_going_around",
    "refuse_pinned",
    "rollback",
]


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment or a rollback led to.

    Attributes:
        deployment: Name of the deployment.
        model: Name of the model.
        version: Version that answers now.
        previous: Version that a rollback would bring back; 0 for none.
        engine: ``onnx``, ``trees`` or ``native``.
        engine_reason: Why.
        changed: Whether the champion is another one than before.
        processes: Serving processes that have taken it in.
    """

    deployment: str
    model: str
    version: int
    previous: int
    engine: str
    engine_reason: str
    changed: bool
    processes: int


def deploy(
    services: Services, deployment: str, *, version: int | None = None, wait_s: float = 30.0
) -> Deployed:
    """Make a version the champion of a deployment's model.

    Args:
        services: The project's ports.
        deployment: Name of the deployment.
        version: The version; the alias ``candidate`` when left out, else ``champion``.
        wait_s: How long to wait for the serving processes.

    Raises:
        NotFoundError: There is no such deployment or version.
        NotReadyError: No version is ready yet.
        GateError: The version was refused by its gates.
        ConflictError: The declarations changed since the version was trained, or the champion's
            route is pinned.
        StateError: The version's files are damaged, or a serving process could not load it.
        UnavailableError: A serving process has not taken it in in time.
    """
    catalogue = Catalogue.load(services.metadata)
    declared = catalogue.deployment(deployment)
    model = declared.model
    refuse_pinned(services, deployment)
    before = aliases(services.metadata, model.name)
    number = default_version(before, model.name) if version is None else version
    record = get_version(services.metadata, model.name, number)
    check_gates(record)
    record = package(services, record)
    check_version(services.artifacts, catalogue, model, record)
    changed = before.champion != record.version
    after = promote(services, model.name, record.version)
    processes = _wait(services, declared, after, record.label, wait_s)
    return _deployed(declared, after, record, changed=changed, processes=processes)


def rollback(
    services: Services,
    deployment: str,
    *,
    to: int | None = None,
    expected: int | None = None,
    wait_s: float = 30.0,
) -> Deployed:
    """Bring the version before the champion back; the champion becomes the previous one.

    Without ``to``, a second call brings the first one's back. With it, a second call changes
    nothing: who was killed, or does not know whether they were heard, asks again.

    Args:
        services: The project's ports.
        deployment: Name of the deployment.
        to: The version to go back to; the previous champion when left out.
        expected: Revision of the model's aliases as the caller knows them; as they are when left
            out.
        wait_s: How long to wait for the serving processes.

    Raises:
        NotFoundError: There is no such deployment, or version.
        NotReadyError: There is no previous version.
        GateError: The version was refused by its gates.
        ConflictError: The champion's route is pinned, or the aliases are not as expected.
        StateError: A serving process could not load it.
        UnavailableError: A serving process has not taken it in in time.
    """
    declared = Catalogue.load(services.metadata).deployment(deployment)
    refuse_pinned(services, deployment)
    before = aliases(services.metadata, declared.model.name)
    after = roll_back_aliases(services, declared.model.name, to=to, expected=expected)
    changed = before.champion != after.champion
    record = get_version(services.metadata, declared.model.name, after.champion)
    processes = _wait(services, declared, after, record.label, wait_s)
    return _deployed(declared, after, record, changed=changed, processes=processes)


def default_version(current: Aliases, model: str) -> int:
    """The version that is deployed where none is named: the candidate, else the champion.

    Raises:
        NotReadyError: There is neither.
    """
    found = current.candidate or current.champion
    if not found:
        raise NotReadyError(
            f"No version of {model!r} is ready to be deployed. Run 'penstock train {model}'; "
            f"'penstock models list {model}' says what the gates decided.",
            model=model,
        )
    return found


def _deployed(
    declared: Deployment, after: Aliases, record: ModelVersion, *, changed: bool, processes: int
) -> Deployed:
    return Deployed(
        deployment=declared.name,
        model=record.model,
        version=record.version,
        previous=after.previous,
        engine=record.engine,
        engine_reason=record.engine_reason,
        changed=changed,
        processes=processes,
    )


def _wait(
    services: Services, declared: Deployment, after: Aliases, label: str, wait_s: float
) -> int:
    """Wait until every living serving process answers with the version; returns how many do."""
    role = f"{declared.name}/champion"

    def is_behind(status: ServingStatus) -> bool:
        if status.versions.get(role) == label:
            return False
        if status.revision.get(after.model, 0) >= after.revision and role in status.errors:
            raise StateError(
                f"The serving process {status.process_id} at {status.address} could not load "
                f"{label}: {status.errors[role]} It goes on answering with "
                f"{status.versions.get(role, 'nothing')}. Run 'penstock rollback "
                f"{declared.name}', or mend what it says.",
                process_id=status.process_id,
            )
        return True

    serving, behind = wait_for(services, declared.name, is_behind, wait_s)
    if behind:
        raise UnavailableError(
            f"{label} is the champion, but {len(behind)} serving processes have not taken it "
            f"in within {wait_s:g} s, the first being {behind[0].process_id} at "
            f"{behind[0].address}. They go on answering with the version before; look at "
            "'penstock status' and their log.",
            behind=[status.process_id for status in behind],
        )
    return serving


def refuse_going_around(services: Services, model: str) -> None:
    """Refuse to make a version of a model champion without what its deployments ask of one.

    Args:
        services: The project's ports.
        model: Name of the model.

    Raises:
        ConflictError: A deployment of the model declares checks, an approval or a canary.
    """
    for declared in Catalogue.load(services.metadata).deployments_of(model):
        asked = {
            "checks": declared.checks,
            "an approval": declared.approve,
            "a canary": declared.canary,
        }
        names = [name for name, wanted in asked.items() if wanted is not None]
        if names:
            raise ConflictError(
                f"Deployment {declared.name!r} declares {' and '.join(names)} for a version of "
                f"{model!r} before it takes traffic. Go by that: run 'penstock deploy "
                f"{declared.name} --version N'.",
                deployment=declared.name,
                model=model,
            )


def refuse_pinned(services: Services, deployment: str) -> None:
    """Refuse to move what answers where it was told to stay.

    Raises:
        ConflictError: The champion's route is pinned; says by whom.
    """
    changes = changes_of(services.metadata, deployment)
    pinned = changes.pins.get("champion", 0)
    if pinned:
        why = f" ({changes.reason})" if changes.reason else ""
        raise ConflictError(
            f"The champion of {deployment!r} is pinned to version {pinned} by "
            f"{changes.changed_by}{why}. Run 'penstock routes set {deployment} --unpin champion' "
            "first.",
            deployment=deployment,
            version=pinned,
        )
