"""The page for people tells nothing by itself, and lets nothing run but what is in it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

from penstock.deployment import deploy

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices

    from .conftest import Client

HTML = [(b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8")]
PATHS = ("/", "/v1/deployments/btc", "/v1/deployments/nobody-has-this")


def test_it_is_the_same_for_whoever_asks_and_names_nothing(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        asks = [(path, who) for path in PATHS for who in ("", None)]
        pages = [await client.get(path, headers=HTML, token=who) for path, who in asks]
        assert {page.status for page in pages} == {200}
        assert {page.headers["content-type"] for page in pages} == {"text/html; charset=utf-8"}
        (body,) = {page.body for page in pages}
        for word in (b"btc", b"direction", b"symbol", b"momentum", services.token.encode()):
            assert word not in body
        head = await client.send("HEAD", "/", b"", headers=HTML, token="")
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["content-length"]) == len(body)

    talk(conversation)


def test_it_needs_nothing_from_elsewhere_and_nothing_else_may_run(
    talk: Callable[..., None],
) -> None:
    async def conversation(client: Client) -> None:
        page = await client.get("/", headers=HTML, token="")
        text = page.body.decode()
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        for tag in ("script", "style"):
            (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        assert not re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]+", text)
        assert "innerHTML" not in text  # names of features are texts, whatever is in them

    talk(conversation)


def test_programs_are_told_what_this_is_and_where_to_go_on(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for accept in ([], [(b"accept", b"*/*")], [(b"accept", b"application/json")]):
            about = await client.get("/", headers=accept, token="")
            assert (about.status, about.headers["vary"]) == (200, "accept")
            assert (about.json["process"], about.json["version"]) == (
                "online scoring", client.app.version,
            )  # fmt: skip
            for word in (b"btc", b"direction", services.token.encode()):
                assert word not in about.body
        for path in (await client.get("/")).json["paths"]:
            if "{" not in path:
                assert (await client.get(path)).status == 200, path
        assert (await client.send("HEAD", "/", b"", token="")).body == b""
        assert (await client.send("POST", "/", b"", token="")).status == 401
        wrong = await client.send("POST", "/", b"")
        assert (wrong.status, wrong.headers["allow"]) == (405, "GET")

    talk(conversation)


def test_programs_are_answered_elsewhere_as_if_there_were_no_page(
    talk: Callable[..., None],
) -> None:
    async def conversation(client: Client) -> None:
        assert (await client.get("/v1/deployments/btc", token="")).status == 401
        listed = await client.get("/v1/deployments", headers=HTML)
        assert listed.headers["content-type"] == "application/json"
        refused = await client.send("POST", "/", b"", headers=HTML, token="")
        assert refused.status == 401

    talk(conversation)
