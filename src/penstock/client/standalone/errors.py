"""What can go wrong when a deployment is asked."""

from __future__ import annotations

__all__ = [
    "Forbidden",
    "InvalidRequest",
    "NotThere",
    "PredictionError",
    "ServerFailed",
    "TimedOut",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
]


class PredictionError(Exception):
    """Base of all of them.

    Args:
        message: What was wrong and what to do, in the server's words where it said any.
        status: The HTTP status; 0 where there was no answer.
        kind: What the server tells errors apart by; empty where it said nothing.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind

    def __reduce__(self) -> tuple[type[PredictionError], tuple[str, int, str]]:
        """Survive pickling: work runs in other processes."""
        return type(self), (self.message, self.status, self.kind)


class InvalidRequest(PredictionError):  # noqa: N818 - what it says reads best
    """The request does not fit the model; made again from a newer server, this client may."""


class Unauthorized(PredictionError):  # noqa: N818 - as above
    """There is no token, or nobody has it."""


class Forbidden(PredictionError):  # noqa: N818 - as above
    """The token's role does not reach, or a feature is protected from its user."""


class NotThere(PredictionError):  # noqa: N818 - as above
    """The server has no such deployment."""


class Unavailable(PredictionError):  # noqa: N818 - as above
    """The server is not ready, too busy, or cannot be reached, after all tries.

    Attributes:
        retry_after_s: Seconds it asks to wait; 0 where it said nothing.
    """

    retry_after_s: float = 0.0


class TimedOut(PredictionError):  # noqa: N818 - as above
    """No answer came in time. It may have been scored, so it is not tried again."""


class ServerFailed(PredictionError):  # noqa: N818 - as above
    """The model or the server failed; its log says why."""


class UnexpectedAnswer(PredictionError):  # noqa: N818 - as above
    """The answer is not of the form that this client was made for. Make it again."""
