from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from penstock.errors import NotReadyError, SettingsError, StateError
from penstock.records import Identity
from penstock.runtime import init_project, load_project, open_services


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_becomes_a_project(tmp_path: Path) -> None:
    home = tmp_path / "new" / "shop"
    token = init_project(home)

    assert token == home / ".penstock" / "token"
    assert (mode_of(token), mode_of(token.parent)) == (0o600, 0o700)
    assert (home / ".gitignore").read_text() == ".penstock/\n"
    assert load_project(home).name == "shop"
    with open_services(home) as services:
        identity = services.metadata.read(Identity, "admin")
        entries = services.metadata.audit()
    assert identity is not None
    assert identity.role == "admin"
    assert identity.token_sha256 == hashlib.sha256(token.read_text().strip().encode()).hexdigest()
    assert [(entry.action, entry.subject) for entry in entries] == [("init", "identity/admin")]


def test_twice_changes_nothing(home: Path) -> None:
    def state() -> dict[str, bytes]:
        found = (path for path in home.rglob("*") if path.is_file() and ".db" not in path.name)
        return {str(path): path.read_bytes() for path in found}

    before = state()
    init_project(home)

    assert state() == before
    with open_services(home) as services:
        assert len(services.metadata.audit()) == 1


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("mine = 1\n")
    (tmp_path / "penstock.toml").write_text("workers = 1\n")
    (tmp_path / ".gitignore").write_text("data/")
    init_project(tmp_path)

    assert (tmp_path / "project.py").read_text() == "mine = 1\n"
    assert (tmp_path / "penstock.toml").read_text() == "workers = 1\n"
    assert (tmp_path / ".gitignore").read_text() == "data/\n.penstock/\n"


def test_the_settings_say_where_things_are(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text('project = "parts.all"\nstate = "var/state"\n')
    token = init_project(tmp_path)

    assert token == tmp_path / "var" / "state" / "token"
    assert (tmp_path / "parts" / "all.py").exists()
    assert len(load_project(tmp_path).everything) == 6


@pytest.mark.parametrize("lost", ["token", "metadata.db"])
def test_a_lost_part_is_made_again(home: Path, lost: str) -> None:
    (home / ".penstock" / lost).unlink()
    token = init_project(home).read_text().strip()

    assert mode_of(home / ".penstock" / "token") == 0o600
    with open_services(home) as services:
        identity = services.metadata.read(Identity, "admin")
    assert identity is not None
    assert identity.token_sha256 == hashlib.sha256(token.encode()).hexdigest()


def test_the_token_is_private_again_after_init(home: Path) -> None:
    (home / ".penstock" / "token").chmod(0o644)
    init_project(home)

    assert mode_of(home / ".penstock" / "token") == 0o600


def test_a_wrong_setting_stops_it(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("workers = 0\n")

    with pytest.raises(SettingsError):
        init_project(tmp_path)
    assert not (tmp_path / ".penstock").exists()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".penstock").touch()

    with pytest.raises(StateError, match=r"\.penstock"):
        init_project(tmp_path)


def test_a_folder_that_cannot_be_written_to() -> None:
    with pytest.raises(StateError, match="may write to"):
        init_project(Path("/proc/penstock"))  # nobody may, root included


def test_a_folder_that_is_none_yet(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="penstock init"):
        open_services(tmp_path)
