from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.errors import NotSupportedError, PenstockError, SettingsError
from penstock.runtime import SETTINGS_FILE, Settings, check_bind, load_settings

if TYPE_CHECKING:
    from pathlib import Path

PROFILES = """
serve_port = 1000
workers = 3

[profiles.production]
serve_port = 2000
log_level = "warning"

[profiles.test]
workers = 1
"""


def write(home: Path, text: str) -> Path:
    (home / SETTINGS_FILE).write_text(text)
    return home


def error_of(home: Path, text: str) -> PenstockError:
    with pytest.raises(PenstockError) as caught:
        load_settings(write(home, text))
    return caught.value


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)

    assert (settings.project, settings.state) == ("project", ".penstock")
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 8000)
    assert (settings.serve_host, settings.serve_port) == ("127.0.0.1", 8001)
    assert settings.layout(tmp_path).metadata == tmp_path / ".penstock" / "metadata.db"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("", (1000, 3, "info")), ("production", (2000, 3, "warning")), ("test", (1000, 1, "info"))],
)
def test_a_profile_goes_over_the_rest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    expected: tuple[int, int, str],
) -> None:
    monkeypatch.setenv("PENSTOCK_PROFILE", profile)
    settings = load_settings(write(tmp_path, PROFILES))

    assert (settings.serve_port, settings.workers, settings.log_level) == expected


def test_the_environment_goes_over_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PROFILE", "production")
    monkeypatch.setenv("PENSTOCK_SERVE_PORT", "3000")

    assert load_settings(write(tmp_path, PROFILES)).serve_port == 3000


def test_an_unknown_profile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PROFILE", "producton")
    error = error_of(tmp_path, PROFILES)

    assert isinstance(error, SettingsError)
    assert "'producton'" in error.message
    assert "PENSTOCK_PROFILE" in error.message
    assert "'production'" in error.message


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    error = error_of(tmp_path, "serve_prot = 1\nworkerz = 2\n")

    assert str(tmp_path / SETTINGS_FILE) in error.message
    assert "'serve_prot' is no setting. Did you mean 'serve_port'?" in error.message
    assert "'workerz' is no setting. Did you mean 'workers'?" in error.message


def test_profiles_that_are_not_chosen_are_checked_too(tmp_path: Path) -> None:
    error = error_of(tmp_path, "[profiles.night]\nworkes = 2\n")

    assert "[profiles.night]" in error.message
    assert "'workers'" in error.message


def test_every_wrong_value_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_API_PORT", "many")
    error = error_of(tmp_path, 'workers = 0\nlog_level = "loud"\n')
    lines = error.message.splitlines()[1:]

    assert error.facts["settings"] == ["workers", "api_port", "log_level"]
    assert [line.split(" = ")[0].strip(" -") for line in lines] == error.facts["settings"]
    assert f"{tmp_path / SETTINGS_FILE}, key 'workers'" in lines[0]
    assert "greater than or equal to 1" in lines[0]
    assert "environment variable PENSTOCK_API_PORT" in lines[1]
    assert "'many'" in lines[1]
    assert "'debug', 'info', 'warning' or 'error'" in lines[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("serve_port = \n", "is no TOML"),
        ("profiles = 3\n", "[profiles.NAME]"),
        ("[profiles]\nnight = 3\n", "[profiles.NAME]"),
        ("[serve]\nport = 1\n", "'serve' is no setting"),
        ('project = "my project"\n', "project = 'my project'"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, expected: str) -> None:
    error = error_of(tmp_path, text)

    assert isinstance(error, SettingsError)
    assert expected in error.message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_bytes(b"\xff\xfe\x00")

    with pytest.raises(SettingsError, match="is no TOML"):
        load_settings(tmp_path)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).mkdir()

    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


def test_a_variable_that_is_almost_a_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_SERVE_PROT", "1")

    with pytest.raises(SettingsError, match="Did you mean PENSTOCK_SERVE_PORT"):
        load_settings(tmp_path)


def test_variables_of_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Kubernetes sets in every pod when there is a service called penstock-serve.
    monkeypatch.setenv("PENSTOCK_SERVE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("PENSTOCK_SERVE_PORT_8001_TCP_ADDR", "10.0.0.1")

    assert load_settings(tmp_path) == Settings()


@pytest.mark.parametrize("name", ["metadata_url", "tables_url", "online_url", "log_url"])
def test_an_adapter_that_is_not_built(tmp_path: Path, name: str) -> None:
    error = error_of(tmp_path, f'{name} = "kafka://there"\n')

    assert isinstance(error, NotSupportedError)
    assert name in error.message
    assert "Built is" in error.message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_may_be_bound(host: str) -> None:
    check_bind(Settings(), host, origin="here")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])  # noqa: S104
def test_other_addresses_need_protection_or_consent(tmp_path: Path, host: str) -> None:
    error = error_of(tmp_path, f'serve_host = "{host}"\n')

    assert isinstance(error, SettingsError)
    assert "key 'serve_host'" in error.message
    for way_out in ("tls_cert", "tls_key", "allow_insecure_bind"):
        assert way_out in error.message
    wanted = load_settings(write(tmp_path, f'serve_host = "{host}"\nallow_insecure_bind = true\n'))
    assert wanted.serve_host == host


def test_tls_takes_two_files_that_are_there(tmp_path: Path) -> None:
    assert "takes both" in error_of(tmp_path, 'tls_cert = "cert.pem"\n').message
    both = 'tls_cert = "cert.pem"\ntls_key = "key.pem"\nserve_host = "192.168.0.1"\n'
    assert "tls_cert = 'cert.pem'" in error_of(tmp_path, both).message

    (tmp_path / "cert.pem").touch()
    (tmp_path / "key.pem").touch()

    assert load_settings(write(tmp_path, both)).serve_host == "192.168.0.1"
