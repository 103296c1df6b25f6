"""Orders: what all processes of an address were told."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from penstock.adapters.system import SystemClock
from penstock.runtime import Board, OrderBook, Orders

if TYPE_CHECKING:
    from pathlib import Path

HERE = "http://127.0.0.1:8001"


def _unload(name: str, now: Orders) -> Orders:
    return msgspec.structs.replace(now, unloaded={**now.unloaded, name: "told to"})


def test_what_one_writes_all_read_and_none_is_lost(tmp_path: Path) -> None:
    boards = [Board(tmp_path, HERE, SystemClock()) for _ in range(4)]
    boards[0].publish([])
    books = [OrderBook(board) for board in boards]
    elsewhere = OrderBook(Board(tmp_path, "http://127.0.0.1:8002", SystemClock()))
    with ThreadPoolExecutor(4) as pool:
        for book in books:
            for number in range(10):
                name = f"{id(book)}-{number}"
                pool.submit(book.give, partial(_unload, name))
    assert {len(book.read().unloaded) for book in books} == {40}
    assert {book.read().number for book in books} == {40}
    assert elsewhere.read() == Orders()


def test_who_has_not_followed_is_known_while_it_lives(tmp_path: Path) -> None:
    first, second, third = (Board(tmp_path, HERE, SystemClock()) for _ in range(3))
    books = [OrderBook(board) for board in (first, second, third)]
    for board in (first, second, third):
        board.publish([])
    number = books[0].give(lambda now: _unload("btc", now)).number
    assert books[0].behind(number) == [1, 2]
    books[1].follow(number)
    assert books[0].behind(number) == [2]
    third.close()
    assert books[0].behind(number) == []


def test_an_order_is_seen_that_has_the_date_and_the_inode_of_another(tmp_path: Path) -> None:
    boards = [Board(tmp_path, HERE, SystemClock()) for _ in range(2)]
    boards[0].publish([])
    giver, reader = map(OrderBook, boards)

    def give() -> int:
        number = giver.give(lambda now: now).number
        os.utime(boards[0].folder / "orders", ns=(1, 1))  # as where a clock ticks seldom
        return number

    for _ in range(4):
        assert [give(), reader.read().number] == [giver.read().number] * 2
        give()  # the next has the inode of the one before


def test_where_nothing_has_changed_the_orders_are_the_same(tmp_path: Path) -> None:
    board = Board(tmp_path, HERE, SystemClock())
    book = OrderBook(board)
    assert book.read() is book.read()
    book.give(lambda now: _unload("btc", now))
    assert book.read() is book.read()


def test_where_nobody_is_left_orders_are_forgotten(tmp_path: Path) -> None:
    first = Board(tmp_path, HERE, SystemClock())
    first.publish([])
    OrderBook(first).give(lambda now: _unload("btc", now))
    second = Board(tmp_path, HERE, SystemClock())
    assert "btc" in OrderBook(second).read().unloaded
    first.close()
    assert OrderBook(second).read() == Orders()


def test_what_is_measured_and_what_is_followed_are_written_at_the_same_time(
    tmp_path: Path,
) -> None:
    board = Board(tmp_path, HERE, SystemClock())
    mine, seen = OrderBook(board), Board(tmp_path, HERE, SystemClock())

    def published() -> None:
        for _ in range(500):
            board.publish([])

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(published)
        number = 0
        while not publishing.done():
            number += 1
            mine.follow(number)
        publishing.result()
    assert [one.worker for one in seen.others()] == [0]
    assert OrderBook(seen).behind(number) == []
    assert OrderBook(seen).behind(number + 1) == [0]
