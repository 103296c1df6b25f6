"""Calling the command line as a user does, in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from penstock.cli.application import application

if TYPE_CHECKING:
    from collections.abc import Callable


class Said(msgspec.Struct, frozen=True):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:  # noqa: ANN401 - whatever JSON the command answers
        return json.loads(self.out)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """A function that runs a command line: ``call("models", "list", "--json")``."""

    def run(*words: object) -> Said:
        line = [str(word) for word in words]
        with pytest.raises(SystemExit) as stopped:
            application(line)(args=line, prog_name="penstock")
        said = capsys.readouterr()
        code = stopped.value.code
        return Said(code if isinstance(code, int) else 0, said.out, said.err)

    return run
