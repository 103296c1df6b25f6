from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer

from penstock.cli.failures import UsageError, exit_code_of
from penstock.cli.screen import Screen
from penstock.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError.of("model", "btx", ["btc"]), 1),
        (UsageError("--at is no time"), 2),
        (KeyboardInterrupt(), 130),
        (typer.Exit(3), 3),
        (ZeroDivisionError("division by zero"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code_of(Screen(), error) == code


def test_an_expected_error_is_one_block_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_code_of(Screen(), NotFoundError.of("model", "btx", ["btc"]))

    said = capsys.readouterr()
    assert said.out == ""
    assert "There is no model 'btx'. Did you mean 'btc'?" in said.err
    assert "Traceback" not in said.err


def test_what_may_pass_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of(Screen(), UnavailableError("The log is locked."))

    assert "try again" in capsys.readouterr().err


def test_an_error_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of(Screen(as_json=True), NotFoundError.of("model", "btx", ["btc"]))

    said = json.loads(capsys.readouterr().err)
    assert said["error"]["kind"] == "not_found"
    assert said["error"]["facts"]["name"] == "'btx'"


def test_an_unexpected_error_keeps_its_traceback_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".penstock").mkdir()

    exit_code_of(Screen(home=str(tmp_path)), ZeroDivisionError("division by zero"))

    said = capsys.readouterr().err
    log = tmp_path / ".penstock" / "logs" / "cli.log"
    assert "ZeroDivisionError: division by zero" in said
    assert log.name in said
    assert "ZeroDivisionError" in log.read_text()


def test_the_traceback_is_shown_when_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(traceback=True)
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        exit_code_of(screen, error)

    assert "Traceback" in capsys.readouterr().err
