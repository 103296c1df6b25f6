"""The user's project: making a folder into one, and reading what it declares."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from penstock.access import ADMIN, token_hash
from penstock.errors import StateError
from penstock.ports import Audit, Put
from penstock.records import Identity

from .callers import token_in
from .services import LocalServices, open_services
from .settings import SETTINGS_FILE, Settings, load_settings
from .starter import STARTER_IGNORE, STARTER_PROJECT, STARTER_SETTINGS
from .state_folder import local_user
from .whole_files import put_secret

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["init_project"]

TOKEN_BYTES = 32


def init_project(home: Path) -> Path:
    """Make a folder into a project folder; what is there already stays as it is.

    Creates the state folder (mode 700), the administrator's token (mode 600) with its identity,
    and, where they are missing, ``penstock.toml``, the project's module and an entry in
    ``.gitignore``. May be killed and run again at any point.

    Args:
        home: The folder; created when it is not there.

    Returns:
        Path of the token file.

    Raises:
        SettingsError: A setting that is there already is wrong.
        StateError: The folder cannot be written to.
    """
    home = home.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        settings = load_settings(home)
        layout = settings.layout(home)
        layout.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.state.chmod(0o700)
        token = _token(layout.token)
        _write_starters(home, settings)
    except (FileExistsError, NotADirectoryError) as error:
        raise StateError(
            f"{home} cannot be made into a project folder: {error.filename} is a file. Expected a "
            "folder, or nothing, of that name; name another folder with --home.",
            home=str(home),
        ) from error
    except OSError as error:
        raise StateError(
            f"{home} cannot be made into a project folder: {error.strerror or error} "
            f"({error.filename}). Expected a folder that {local_user()!r} may write to.",
            home=str(home),
        ) from error
    with open_services(home, settings=settings, token="") as services:
        _remember(services, token)
    return layout.token


def _token(path: Path) -> str:
    """The token in the file; a new one when there is none, or the file is damaged.

    The file appears under its name only with its whole content, so a kill leaves none or a whole
    one, and nobody else can read it at any moment.
    """
    if path.is_file() and (known := token_in(path)):
        path.chmod(0o600)
        return known
    token = secrets.token_urlsafe(TOKEN_BYTES)
    put_secret(path, token)
    return token


def _remember(services: LocalServices, token: str) -> None:
    digest = token_hash(token)
    known = services.metadata.read(Identity, ADMIN)
    if known is not None and known.token_sha256 == digest:
        return
    identity = Identity(
        name=ADMIN, role="admin", token_sha256=digest, created_at=services.clock.now()
    )
    services.metadata.write(
        Put(identity, known),
        audit=Audit(
            actor=services.actor,
            action="init",
            subject=f"identity/{ADMIN}",
            difference={"token": "made" if known is None else "replaced"},
        ),
    )


def _write_starters(home: Path, settings: Settings) -> None:
    module = home.joinpath(*settings.project.split("."))
    if not module.is_dir() and not module.with_suffix(".py").exists():
        module.parent.mkdir(parents=True, exist_ok=True)
        module.with_suffix(".py").write_text(STARTER_PROJECT, encoding="utf-8")
    if not (home / SETTINGS_FILE).exists():
        (home / SETTINGS_FILE).write_text(STARTER_SETTINGS, encoding="utf-8")
    ignore = home / ".gitignore"
    lines = ignore.read_text(encoding="utf-8") if ignore.exists() else ""
    if STARTER_IGNORE.strip("/\n") not in {line.strip().strip("/") for line in lines.splitlines()}:
        end = "\n" if lines and not lines.endswith("\n") else ""
        ignore.write_text(f"{lines}{end}{STARTER_IGNORE}", encoding="utf-8")
