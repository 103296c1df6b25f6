"""Where a project's state lies on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["Layout"]


class Layout(msgspec.Struct, frozen=True):
    """The places below the state folder; naming them touches nothing.

    Attributes:
        state: The state folder, ``<home>/.penstock`` unless the settings say otherwise.
    """

    state: Path

    @property
    def metadata(self) -> Path:
        """Records and the audit table."""
        return self.state / "metadata.db"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.state / "events.db"

    @property
    def workflows(self) -> Path:
        """Durable runs."""
        return self.state / "workflows.db"

    @property
    def tracking(self) -> Path:
        """MLflow's database."""
        return self.state / "mlflow.db"

    @property
    def tables(self) -> Path:
        """The root of all tables."""
        return self.state / "tables"

    @property
    def online(self) -> Path:
        """Online feature state."""
        return self.state / "online"

    @property
    def artifacts(self) -> Path:
        """Files by their hash."""
        return self.state / "artifacts"

    @property
    def locks(self) -> Path:
        """Lock files."""
        return self.state / "locks"

    @property
    def scores(self) -> Path:
        """Write-ahead files of scores."""
        return self.state / "scores"

    @property
    def serving(self) -> Path:
        """What the serving processes measure."""
        return self.state / "serving"

    @property
    def scratch(self) -> Path:
        """Files in the making."""
        return self.state / "scratch"

    @property
    def logs(self) -> Path:
        """What the processes have to say, a file per kind of process."""
        return self.state / "logs"

    @property
    def webhook_secret(self) -> Path:
        """What messages to webhooks are signed with."""
        return self.state / "webhook-secret"

    @property
    def token(self) -> Path:
        """The administrator's token."""
        return self.state / "token"
