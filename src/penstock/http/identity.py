"""Who calls over HTTP: the token that a request carries."""

from __future__ import annotations

from penstock.errors import AccessError

__all__ = ["bearer_token"]

SCHEME = "bearer "


def bearer_token(header: str) -> str:
    """The token of an ``Authorization`` header.

    Args:
        header: The header's value; empty when the request has none.

    Raises:
        AccessError: There is no header, or it is no bearer token.
    """
    if not header:
        raise AccessError(
            "The request has no identity. Send the header 'Authorization: Bearer TOKEN'; "
            "the local token is in .penstock/token of the project folder."
        )
    scheme, token = header[: len(SCHEME)], header[len(SCHEME) :].strip()
    if scheme.lower() != SCHEME or not token:
        raise AccessError(
            "The Authorization header is no bearer token. Send 'Authorization: Bearer TOKEN'."
        )
    return token
