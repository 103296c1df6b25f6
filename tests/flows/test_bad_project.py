"""Projects and settings that cannot work: told at once, and nothing is changed."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from penstock.records import AppliedProject
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Said

    Call = Callable[..., Said]
    Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", "x = (\n"), "SyntaxError: '(' was never closed (project.py"),
        (("", "1/0\n"), "ZeroDivisionError: division by zero"),
        (("", "import sys; sys.exit(3)\n"), "SystemExit: 3"),
        (("import penstock", "import nosuch, penstock"), "No module named 'nosuch'"),
        (
            ("timestamp=", "timestmp="),
            "Unexpected keyword argument 'timestmp'. Did you mean 'timestamp'?",
        ),
        (("entity=symbol", "symbol"), "After the name, arguments go by keyword, as in entity=..."),
    ],
    ids=["syntax", "exception", "exit", "import", "argument", "place"],
)
def test_a_project_that_fails_shows_its_own_line_only(
    home: Path, call: Call, project_text: str, change: tuple[str, str], message: str
) -> None:
    old, new = change
    text = project_text.replace(old, new) if old else project_text + new
    (home / "project.py").write_text(text)

    for command in ("plan", "apply"):
        said = call(command, "--home", home)
        assert said.code == 1
        assert said.err.startswith("error user_code  project.py failed while it was read")
        assert message in said.err
        assert "site-packages" not in said.err
        assert "src/penstock" not in said.err
    with open_services(home) as services:
        applied = services.metadata.read(AppliedProject, "project")
    assert applied is not None
    assert applied.revision == 1


TWO = 'a = ps.Project("a", declarations=[model])\nb = ps.Project("b", declarations=[watch])\n'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", TWO), "it declares 2 projects ('a', 'b'); keep one"),
        (("", 'two = ps.Entity("symbol", dtype=ps.Int64)\n'), "declared 2 times"),
        (('embargo="1h"', ""), "the split leaves an embargo of nothing; set embargo='1h'"),
        (('"ret": ps.col("close")', '"ret": ps.lead("close", "1h")'), "only a label may"),
        (('lead("close"', 'lead("clsoe"'), "Did you mean 'close'?"),
        (('"close": ps.Float64', '"close": "float"'), "column 'close' has the type 'float'"),
        (("entity=symbol", 'entity="symbol"'), "give a value of type Entity"),
        (('"roc_auc", 0.5', '"roc_auk", 0.5'), "Did you mean 'roc_auc'?"),
        (("max=0.2", "max=-1"), "max"),
    ],
    ids=["two", "twice", "future", "lead", "column", "dtype", "type", "metric", "bound"],
)
def test_faulty_declarations_change_nothing(
    home: Path, refused: Refused, project_text: str, change: tuple[str, str], message: str
) -> None:
    old, new = change
    text = project_text.replace(old, new) if old else project_text + new
    (home / "project.py").write_text(text)

    assert message in refused("apply", "--home", home)
    with open_services(home) as services:
        applied = services.metadata.read(AppliedProject, "project")
    assert applied is not None
    assert applied.revision == 1


def test_all_faults_are_told_together(home: Path, refused: Refused, project_text: str) -> None:
    text = project_text.replace('ps.positive("close")', 'ps.positive("clos")')
    text = text.replace('ps.col("open")', 'ps.col("opne")').replace('lead("close"', 'lead("clsoe"')
    (home / "project.py").write_text(text + 'late = ps.cron("99 * * * *")\n')

    said = refused("plan", "--home", home)

    assert "project.py:5: Source('candles') cannot work" in said
    assert "project.py:9: FeatureView('momentum') cannot work" in said
    assert "project.py:12: Dataset('direction') cannot work" in said
    assert "minute '99' is not one of 0 to 59" in said
    assert said.count(" - ") == 4


def test_a_folder_without_its_module_says_where_it_looked(home: Path, refused: Refused) -> None:
    (home / "project.py").rename(home / "projekt.py")

    said = refused("plan", "--home", home)

    assert "Did you mean 'projekt.py'?" in said
    assert f"Looked in {home}" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serve_port = \n", "is no TOML"),
        ("serve_prt = 8001\n", "Did you mean 'serve_port'?"),
        ('serve_port = "abc"\nworkers = 0\n', "workers = 0"),
        ('api_host = "0.0.0.0"\n', "Expected a loopback address"),
        ('project = "../x"\n', "it should match pattern"),
        ('metadata_url = "postgresql://x"\n', "Built is 'sqlite'"),
        ('tls_cert = "c.pem"\n', "TLS takes both files"),
        ("[profiles.a]\nwrokers = 1\n", "Did you mean 'workers'?"),
    ],
)
def test_wrong_settings_stop_the_start(
    home: Path, refused: Refused, text: str, message: str
) -> None:
    (home / "penstock.toml").write_text(text)

    assert message in refused("status", "--home", home)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PENSTOCK_WORKERS", "many", "environment variable PENSTOCK_WORKERS"),
        ("PENSTOCK_SERVE_PRT", "1", "Did you mean PENSTOCK_SERVE_PORT?"),
        ("PENSTOCK_PROFILE", "prod", "There is no profile 'prod'"),
    ],
)
def test_wrong_settings_of_the_environment_too(  # noqa: PLR0917 - fixtures and cases
    home: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)

    assert message in refused("status", "--home", home)


def test_a_port_in_use_is_told_before_anything_starts(home: Path, refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (home / "penstock.toml").write_text(f"api_port = {port}\n")
        for line in (["serve", "--port", port], ["api", "--port", port], ["up"]):
            said = refused(*line, "--home", home)
            assert "Address already in use" in said
            assert "to another" in said or "choose another" in said
    assert not list((home / ".penstock").glob("logs/*.log"))


def test_a_file_in_place_of_the_folder(tmp_path: Path, refused: Refused) -> None:
    place = tmp_path / "file"
    place.write_text("mine")

    for line in (["init"], ["plan"], ["status"], ["demo", "psystock"]):
        assert f"{place} is a file" in refused(*line, "--home", place)
    assert place.read_text() == "mine"
