"""Settings: ``penstock.toml`` of the project folder, and environment variables over it.

Top-level keys hold for every profile; ``[profiles.<name>]`` is laid over them when
``PENSTOCK_PROFILE`` names it; ``PENSTOCK_<KEY>`` overrides both. A wrong setting stops the start
with one error that says what was read, where, and what was expected.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from penstock.errors import NotSupportedError, SettingsError, nearest

from .layout import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SETTINGS_FILE", "Settings", "check_bind", "load_settings"]

SETTINGS_FILE = "penstock.toml"
PREFIX = "PENSTOCK_"
PROFILE = "PENSTOCK_PROFILE"
PROFILES = "profiles"
BUILT: Mapping[str, tuple[str, ...]] = {
    "metadata_url": ("sqlite",),
    "tables_url": ("delta",),
    "online_url": ("lmdb", "redis://", "rediss://", "unix://"),
    "log_url": ("sqlite",),
    "workflows_url": ("sqlite",),
}
"""What each setting takes: a word, or the beginning of an address."""
LEAST_SHARE_MB = 128
"""What a part of a computation has at least, where it is not said how many run side by side."""
NEAR = 0.8  # an environment variable this close to a setting is a slip of the hand


class Settings(BaseSettings):
    """Everything that may differ between two installations of the same project.

    Attributes:
        project: Module in the project folder that declares the project.
        state: State folder, relative to the project folder.
        workers: Processes that train and compute at the same time.
        api_host: Address the control plane binds to.
        api_port: Its port.
        serve_host: Address online scoring binds to.
        serve_port: Its port.
        serve_grpc_port: Its port for gRPC; 0 for none.
        serve_socket: UNIX socket that online scoring answers on beside its port, its path relative
            to the project folder; empty for none.
        serve_workers: How many processes answer there, sharing the port.
        serve_body_kb: How long a body may be there, in kilobytes, unpacked too, and a message of
            gRPC.
        serve_queue_ms: How long a row may wait for its model's turn, in milliseconds; one that
            would wait longer is refused at once.
        serve_load: ``all`` to have every deployment loaded, ``need`` to load one when it is asked
            for.
        serve_memory_mb: About how much memory models may take in a process that loads them by need;
            those used least lately go. 0 for no limit.
        serve_idle_s: After how many seconds without a request a model goes there; 0 for never.
        allow_insecure_bind: Allow an address other machines can reach without TLS.
        tls_cert: Certificate file (PEM) for both servers, relative to the project folder.
        tls_key: Its private key file (PEM).
        tls_client_ca: Certificates (PEM) by one of which that of a client has to be signed, for
            both servers; empty where clients need none.
        log_level: Least severity that is logged.
        stream_batch_rows: Records gathered into one micro-batch at most.
        stream_wait_ms: Longest wait for a micro-batch to fill, in milliseconds.
        stream_partitions: How many partitions views have in the online store, by the hash of the
            entity; the stream processes share them.
        stream_processes: How many stream processes ``penstock up`` starts.
        score_file_mb: Size at which a file of scores is closed and a new one begun.
        features_memory_mb: About what computing features from the raw tables may take at once, in
            megabytes; where the records need more, entities are computed in parts.
        features_workers: How many of these parts are computed side by side, each with its share of
            the memory; never more than ``workers``. 0: one for each worker and core, as long as
            each has 128 megabytes.
        features_check_minutes: How often the worker compares features, online and as scores saw
            them, with the raw tables; 0 for never.
        features_check_max: Share of a feature's values that may differ before it is told.
        features_profile_minutes: How often the worker profiles the features of views with new
            records, day by day; 0 for never.
        features_profile_days: How many days, up to the newest record, have a profile.
        features_profile_sample: At most so many points of a day are looked at.
        features_vacuum_hours: How often the worker removes old versions of stored features and raw
            tables; 0 for never.
        features_retention_hours: How many hours such a version stays, where no dataset and no model
            names it; those stay for ever.
        scores_prune_hours: How often the worker removes scores that have been kept as long as their
            deployment wants; 0 for never.
        traces: Whether requests are traced, which takes the extra ``otel``; where traces go, the
            standard variables ``OTEL_EXPORTER_OTLP_*`` say.
        traces_share: Share of the requests that are traced, where the client does not say whether
            it traces its own and ``OTEL_TRACES_SAMPLER`` is not set.
        webhook_hosts: Whom jobs may tell that they have ended: hosts such as ``hooks.example.com``,
            ``*.example.com`` or ``10.0.0.5:8080``, with commas between them. Left out, any public
            address over https.
        metadata_url: Where records are kept; ``sqlite`` is built.
        tables_url: Where tables are kept; ``delta`` is built.
        online_url: Where online features are kept: ``lmdb``, or ``redis://host:port/db#namespace``
            (``rediss://`` with TLS, ``unix://path``), which takes the extra ``redis``.
        log_url: Where the event log is kept; ``sqlite`` is built.
        workflows_url: Where durable runs are kept; ``sqlite`` is built.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    project: str = Field(default="project", pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")
    state: str = Field(default=".penstock", min_length=1)
    workers: int = Field(default=2, ge=1, le=256)
    api_host: str = Field(default="127.0.0.1", min_length=1)
    api_port: int = Field(default=8000, ge=1, le=65535)
    serve_host: str = Field(default="127.0.0.1", min_length=1)
    serve_port: int = Field(default=8001, ge=1, le=65535)
    serve_grpc_port: int = Field(default=0, ge=0, le=65535)
    serve_socket: str = ""
    serve_workers: int = Field(default=1, ge=1, le=64)
    serve_body_kb: int = Field(default=1_024, ge=64, le=1_048_576)
    serve_queue_ms: int = Field(default=50, ge=1, le=60_000)
    serve_load: Literal["all", "need"] = "all"
    serve_memory_mb: int = Field(default=0, ge=0, le=1_048_576)
    serve_idle_s: int = Field(default=0, ge=0, le=604_800)
    allow_insecure_bind: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    stream_batch_rows: int = Field(default=5_000, ge=1, le=1_000_000)
    stream_wait_ms: int = Field(default=200, ge=1, le=60_000)
    stream_partitions: int = Field(default=1, ge=1, le=256)
    stream_processes: int = Field(default=1, ge=1, le=64)
    score_file_mb: int = Field(default=16, ge=1, le=4_096)
    features_memory_mb: int = Field(default=1_024, ge=16, le=1_048_576)
    features_workers: int = Field(default=0, ge=0, le=256)
    features_check_minutes: int = Field(default=60, ge=0, le=10_080)
    features_check_max: float = Field(default=0.0, ge=0, lt=1)
    features_profile_minutes: int = Field(default=60, ge=0, le=10_080)
    features_profile_days: int = Field(default=30, ge=1, le=3_660)
    features_profile_sample: int = Field(default=10_000, ge=100, le=1_000_000)
    features_vacuum_hours: int = Field(default=24, ge=0, le=8_760)
    features_retention_hours: int = Field(default=168, ge=1, le=87_600)
    scores_prune_hours: int = Field(default=24, ge=0, le=8_760)
    traces: bool = False
    traces_share: float = Field(default=1.0, ge=0, le=1)
    webhook_hosts: str = ""
    metadata_url: str = "sqlite"
    tables_url: str = "delta"
    online_url: str = "lmdb"
    log_url: str = "sqlite"
    workflows_url: str = "sqlite"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the names are pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then what the file said."""
        return env_settings, init_settings

    @property
    def features_at_once(self) -> int:
        """How many parts of a computation of features run side by side."""
        wanted = self.features_workers
        if not wanted:
            wanted = min(_cores(), self.features_memory_mb // LEAST_SHARE_MB)
        return max(1, min(wanted, self.workers))

    def layout(self, home: Path) -> Layout:
        """Where the state of the project folder lies."""
        return Layout(home / self.state)


def load_settings(home: Path) -> Settings:
    """Read the settings of a project folder.

    Args:
        home: The project folder; it need not have a settings file.

    Raises:
        SettingsError: One or more settings are wrong; names each, what was expected and where it
            was read.
        NotSupportedError: An adapter is chosen that is not built; names those that are.
    """
    values, origins = _from_file(home / SETTINGS_FILE)
    origins.update(_from_environment())
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _explain(error, origins) from None
    _check_built(settings, origins)
    _check_files(settings, home, origins)
    for name in ("api_host", "serve_host"):
        check_bind(settings, str(getattr(settings, name)), origin=origins.get(name, "the default"))
    return settings


def check_bind(settings: Settings, host: str, *, origin: str) -> None:
    """Refuse an address that others can reach, unless it is protected or wanted.

    Args:
        settings: The settings in force.
        host: The address to bind to.
        origin: Where it was read, for the message.

    Raises:
        SettingsError: The address is not loopback, and there is neither TLS nor consent.
    """
    if _is_loopback(host) or settings.allow_insecure_bind or settings.tls_cert:
        return
    raise SettingsError(
        f"Address {host!r} ({origin}) can be reached from other machines, and there is no TLS. "
        "Expected a loopback address such as '127.0.0.1'. Set tls_cert and tls_key, or "
        "allow_insecure_bind = true where a proxy in front does the encryption.",
        host=host,
        origin=origin,
    )


def _cores() -> int:
    """How many cores this process may use; where the system does not say, those there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _from_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of the file with the chosen profile over them, and where each was read."""
    document = _parse(path)
    profiles = document.pop(PROFILES, {})
    if not isinstance(profiles, dict) or not all(isinstance(v, dict) for v in profiles.values()):
        raise SettingsError(
            f"'{PROFILES}' in {path} is no set of tables. Write each profile as [profiles.NAME]."
        )
    values = dict(document)
    origins = {key: f"{path}, key '{key}'" for key in document}
    chosen = os.environ.get(PROFILE, "")
    if chosen and chosen not in profiles:
        known = nearest(chosen, profiles) or f"{path} has no profiles."
        raise SettingsError(
            f"There is no profile {chosen!r} (environment variable {PROFILE}). {known}",
            profile=chosen,
        )
    for name, table in profiles.items():
        _check_keys(table, f"{path}, [{PROFILES}.{name}]")
    if chosen:
        values.update(profiles[chosen])
        where = f"{path}, [{PROFILES}.{chosen}]"
        origins.update({key: f"{where} key '{key}'" for key in profiles[chosen]})
    _check_keys(document, str(path))
    return values, origins


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} is no TOML: {error}. Expected lines such as 'serve_port = 8001'.",
            path=str(path),
        ) from None
    except NotADirectoryError:
        raise SettingsError(
            f"{path.parent} is a file. Expected a project folder; name one with --home.",
            path=str(path.parent),
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}. Expected a readable file; "
            "check its permissions.",
            path=str(path),
        ) from None


def _check_keys(table: Mapping[str, object], where: str) -> None:
    known = Settings.model_fields
    wrong = [key for key in table if key not in known]
    if wrong:
        lines = "".join(f"\n  - '{key}' is no setting. {nearest(key, known)}" for key in wrong)
        raise SettingsError(f"{where} has keys that mean nothing:{lines}", keys=wrong, origin=where)


def _from_environment() -> dict[str, str]:
    """Where each setting that the environment overrides was read.

    A variable that is almost a setting's is refused: it would be ignored in silence.
    """
    names = {f"{PREFIX}{key.upper()}": key for key in Settings.model_fields}
    origins: dict[str, str] = {}
    for variable in os.environ:
        if variable.upper() in names:
            origins[names[variable.upper()]] = f"environment variable {variable}"
        elif variable.startswith(PREFIX) and variable != PROFILE:
            _check_slip(variable)
    return origins


def _check_slip(variable: str) -> None:
    # Without the prefix, which would make any two of them alike.
    given = variable.removeprefix(PREFIX).lower()
    close = difflib.get_close_matches(given, Settings.model_fields, n=1, cutoff=NEAR)
    if close:
        meant = f"{PREFIX}{close[0].upper()}"
        raise SettingsError(
            f"Environment variable {variable} is no setting. Did you mean {meant}?",
            variable=variable,
        )


def _explain(error: ValidationError, origins: Mapping[str, str]) -> SettingsError:
    """One error out of everything pydantic found."""
    lines: list[str] = []
    names: list[str] = []
    for fault in error.errors():
        name = str(fault["loc"][0])
        expected = fault["msg"].removeprefix("Input ").removeprefix("String ")
        where = origins.get(name, "the default")
        names.append(name)
        lines.append(f"{name} = {fault['input']!r} ({where}): it {expected}")
    listed = "\n".join(f"  - {line}" for line in lines)
    return SettingsError(f"The settings are wrong:\n{listed}", settings=names)


def _check_built(settings: Settings, origins: Mapping[str, str]) -> None:
    for name, built in BUILT.items():
        value = str(getattr(settings, name))
        if not any(value == one or ("://" in one and value.startswith(one)) for one in built):
            raise NotSupportedError(
                f"{name} = {value!r} ({origins.get(name, 'the default')}) is not built. "
                f"Built is {' or '.join(map(repr, built))}.",
                setting=name,
                value=value,
            )


def _check_files(settings: Settings, home: Path, origins: Mapping[str, str]) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        given, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise SettingsError(
            f"{given} is set ({origins.get(given)}), {missing} is not. TLS takes both files.",
            settings=[missing],
        )
    if settings.tls_client_ca and not settings.tls_cert:
        raise SettingsError(
            f"tls_client_ca is set ({origins.get('tls_client_ca')}), tls_cert is not. Clients show "
            "a certificate over TLS alone: set tls_cert and tls_key, or leave it out.",
            settings=["tls_cert"],
        )
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        value = str(getattr(settings, name))
        if value and not (home / value).is_file():
            raise SettingsError(
                f"{name} = {value!r} ({origins.get(name)}): there is no such file. "
                "Expected a PEM file, its path relative to the project folder.",
                settings=[name],
            )
