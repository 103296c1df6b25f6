"""The online store in Redis: one hash per space, a field per entity.

A space is one key, so that a read, a write, its progress and a drop are each a single atomic thing
without scripts. The fields are ``b"v" + key``; ``b"p"`` is the progress, ``b"t"`` the token of the
last claim. Values are the same bytes as in every other adapter: features are packed, never a field
each.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from penstock.errors import ConflictError, InputError, StateError, UnavailableError
from penstock.ports import Changes, Found, OnlineStore, Some, claimed, passed

from .reads import Command, Reads

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from urllib.parse import SplitResult

    from redis.client import Pipeline

    from penstock.errors import PenstockError

__all__ = ["RedisOnlineStore"]

_PROGRESS, _TOKEN = b"p", b"t"
_PREFIX = b"v"
_TIMEOUT_S = 2.0
_AT_ONCE = 1_000
_LOSES_KEYS = "allkeys-"


class RedisOnlineStore(OnlineStore):
    """Keeps every space of a project in one Redis database.

    Safe across threads. What Redis loses, by a restart without persistence or by ``FLUSHALL``, is
    built again from the tables: the progress goes with the values, since they are one key.

    Args:
        url: ``redis://[user:password@]host:port/db#namespace``, ``rediss://`` with TLS, or
            ``unix://path``. The namespace keeps projects in one database apart; ``penstock`` when
            it is left out.

    Raises:
        InputError: The address is none of these.
        StateError: The server may drop keys when its memory is full, or refuses the login.
        UnavailableError: It cannot be reached.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._where = f"{parts.scheme}://{parts.hostname or parts.path}:{parts.port or 6379}"
        self._namespace = f"{parts.fragment or 'penstock'}:online:"
        try:
            self._redis = redis.Redis.from_pool(_pool(parts))
            self._reads = Reads(_pool(parts))
        except ValueError as error:
            message = f"{url!r} is no address of a Redis: {error}. Write redis://host:6379/0."
            raise InputError(message, url=url) from None
        with self._translated():
            self._check_policy()

    def get(self, space: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, in their order, as of one moment.

        Raises:
            StateError: The store is damaged.
            UnavailableError: It cannot be reached.
        """
        if not keys:
            return []
        try:
            found = self._reads.ask(("HMGET", self._name(space), *[_PREFIX + key for key in keys]))
        except redis.RedisError as error:
            raise self._in_our_words(error) from error
        return cast("list[bytes | None]", found)

    def look(self, asks: Sequence[tuple[str, Sequence[bytes]]]) -> list[Found]:
        """The values of keys in several spaces and each space's progress, all as of one moment.

        Raises:
            StateError: The store is damaged.
            UnavailableError: It cannot be reached.
        """
        wanted: list[Command] = [
            ("HMGET", self._name(space), _PROGRESS, *[_PREFIX + key for key in keys])
            for space, keys in asks
        ]
        try:
            if len(wanted) == 1:
                answers = [self._reads.ask(wanted[0])]
            else:
                answers = self._reads.ask_at_once(wanted)
        except redis.RedisError as error:
            raise self._in_our_words(error) from error
        found = cast("list[list[bytes | None]]", answers)
        return [Found(None if one[0] is None else int(one[0]), one[1:]) for one in found]

    def claim(self, space: str, token: int, *, anew: bool = False) -> int | None:
        """Become the one who writes a space: whoever claimed it before can write nothing more.

        Raises:
            ConflictError: Somebody with a greater token has claimed it; nothing was done.
            StateError: The store is full or damaged.
            UnavailableError: It cannot be reached.
        """
        name = self._name(space)
        with self._translated(), self._redis.pipeline() as pipe:
            progress, last = self._watched(pipe, name)
            if last > token:
                raise claimed(space, last, token)
            if last == token and not anew:
                return progress
            pipe.multi()
            if anew:
                pipe.unlink(name)
            pipe.hset(name, mapping={_TOKEN: token})
            self._execute(pipe, space)
        return None if anew else progress

    def write(
        self, space: str, values: Changes, *, progress: int, token: int | None = None
    ) -> None:
        """Store or remove values, and store how far the space has come: the last raw batch in them.

        Raises:
            ConflictError: The space's progress is at or past that number, or its last claim is not
                that token; nothing was stored.
            StateError: The store is full or damaged.
            UnavailableError: It cannot be reached.
        """
        name = self._name(space)
        fields = [(_PREFIX + key, value) for key, value in values.items() if value is not None]
        gone = [_PREFIX + key for key, value in values.items() if value is None]
        with self._translated(), self._redis.pipeline() as pipe:
            reached, last = self._watched(pipe, name)
            if token not in {None, last}:
                raise claimed(space, last, token or 0)
            if reached is not None and progress <= reached:
                raise passed(space, reached, progress)
            pipe.multi()
            for start in range(0, len(fields), _AT_ONCE):
                pipe.hset(name, mapping=dict(fields[start : start + _AT_ONCE]))
            for start in range(0, len(gone), _AT_ONCE):
                pipe.hdel(name, *gone[start : start + _AT_ONCE])
            pipe.hset(name, mapping={_PROGRESS: progress})
            self._execute(pipe, space)

    def progress(self, space: str) -> int | None:
        """Number of the last raw batch folded in; None when the space was never written."""
        with self._translated():
            reached = cast("bytes | None", self._reads.ask(("HGET", self._name(space), _PROGRESS)))
        return None if reached is None else int(reached)

    def items(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of a space, as of one moment, by key."""
        with self._translated():
            found = cast("dict[bytes, bytes]", self._redis.hgetall(self._name(space)))
        for field in (_PROGRESS, _TOKEN):
            found.pop(field, None)
        for field in sorted(found):
            yield field[len(_PREFIX) :], found[field]

    def some(self, space: str, after: bytes, size: int) -> Some:
        """About so many keys and values of a space, in the order of ``HSCAN``.

        Raises:
            StateError: The store is damaged.
            UnavailableError: It cannot be reached.
        """
        with self._translated():
            cursor, found = cast(
                "tuple[int, dict[bytes, bytes]]",
                self._redis.hscan(self._name(space), int(after or b"0"), count=size),
            )
        items = [(f[len(_PREFIX) :], v) for f, v in found.items() if f.startswith(_PREFIX)]
        return Some(items, b"%d" % cursor if cursor else b"")

    def spaces(self) -> list[str]:
        """Names of the spaces, sorted."""
        pattern = f"{self._namespace.translate(_QUOTED)}*"
        with self._translated():
            found = self._redis.scan_iter(match=pattern, count=_AT_ONCE)
            names = {cast("bytes", name).decode() for name in found}
        return sorted(name.removeprefix(self._namespace) for name in names)

    def drop(self, space: str, *, token: int | None = None) -> None:
        """Remove a space and its claim; nothing happens when it is not there.

        Raises:
            ConflictError: The space's last claim is not that token; nothing was done.
        """
        name = self._name(space)
        with self._translated(), self._redis.pipeline() as pipe:
            _, last = self._watched(pipe, name)
            if last and token not in {None, last}:
                raise claimed(space, last, token or 0)
            pipe.multi()
            pipe.unlink(name)
            self._execute(pipe, space)

    def close(self) -> None:
        """Let go of the store; the object is not used afterwards."""
        self._redis.close()
        self._reads.close()

    def _name(self, space: str) -> bytes:
        return f"{self._namespace}{space}".encode()

    @staticmethod
    def _watched(pipe: Pipeline, name: bytes) -> tuple[int | None, int]:
        """A space's progress and the token of its last claim, 0 for none.

        What is watched from here makes the transaction fail if somebody else writes it.
        """
        pipe.watch(name)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        found = cast("list[bytes | None]", pipe.hmget(name, [_PROGRESS, _TOKEN]))
        return None if found[0] is None else int(found[0]), int(found[1] or 0)

    @staticmethod
    def _execute(pipe: Pipeline, space: str) -> None:
        try:
            pipe.execute()
        except redis.WatchError:
            message = (
                f"Somebody else wrote the online space {space!r}. Nothing was stored: read its "
                "progress and go on from there."
            )
            raise ConflictError(message, space=space) from None

    def _check_policy(self) -> None:
        """Refuse a server that drops keys of its own choice when its memory is full."""
        try:
            found = cast("dict[str, str]", self._redis.config_get("maxmemory-policy"))
        except NoPermissionError:
            return  # not told to this user: nothing can be said
        policy = found.get("maxmemory-policy", "")
        if policy.startswith(_LOSES_KEYS):
            raise StateError(
                f"The Redis at {self._where} drops keys when its memory is full (maxmemory-policy "
                f"{policy}), and features would be lost without notice. Set noeviction.",
                where=self._where,
                policy=policy,
            )

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise self._in_our_words(error) from error

    def _in_our_words(self, error: redis.RedisError) -> PenstockError:
        where = self._where
        if isinstance(error, redis.AuthenticationError):
            message = f"The Redis at {where} refuses the login: {error}. Put user and password in "
            return StateError(f"{message}online_url.", where=where)
        if isinstance(error, redis.ConnectionError | redis.TimeoutError):
            message = f"The Redis at {where} cannot be reached: {error}. See that it runs, or set "
            return UnavailableError(f"{message}online_url to another.", where=where)
        if isinstance(error, redis.OutOfMemoryError):
            message = f"The Redis at {where} is full: {error}. Raise its maxmemory, or drop spaces "
            return StateError(f"{message}of feature views that are no longer used.", where=where)
        message = f"The Redis at {where} does not do what is asked of it: {error}. If its keys are "
        return StateError(
            f"{message}damaged, delete those that begin with {self._namespace!r}: they "
            "are built again from the tables.",
            where=where,
        )


def _pool(parts: SplitResult) -> redis.ConnectionPool:
    """A pool of connections to an address.

    Raises:
        ValueError: It is no address of a Redis.
    """
    return redis.ConnectionPool.from_url(
        parts._replace(fragment="").geturl(),
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(ConstantBackoff(0.02), 1),  # a connection that a restart has cut is made anew
    )


_QUOTED = {ord(letter): f"\\{letter}" for letter in "*?[]^\\"}
