from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import DeclarationError, NotFoundError, UserCodeError
from penstock.runtime import load_project

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
import penstock as ps

symbol = ps.Entity("symbol")
candles = ps.Source(
    "candles", entity=symbol, timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
)
"""


def write(home: Path, text: str, name: str = "project.py") -> Path:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return home


def test_everything_at_the_top_is_the_project(tmp_path: Path) -> None:
    home = tmp_path / "My Shop!"
    home.mkdir()
    project = load_project(write(home, SOURCE))

    assert project.name == "my-shop"
    assert [value.name for value in project.everything] == ["symbol", "candles"]


def test_one_project_value_is_the_project(tmp_path: Path) -> None:
    text = SOURCE + '\nmine = ps.Project("mine", declarations=[symbol])\nagain = mine\n'

    assert load_project(write(tmp_path, text)) == ps.Project(
        "mine", declarations=(ps.Entity("symbol"),)
    )


def test_the_module_is_read_afresh(tmp_path: Path) -> None:
    write(tmp_path, "from parts.names import NAME\nimport penstock as ps\ne = ps.Entity(NAME)\n")
    write(tmp_path, "", "parts/__init__.py")
    write(tmp_path, 'NAME = "a"\n', "parts/names.py")
    before = load_project(tmp_path)
    write(tmp_path, 'NAME = "another"\n', "parts/names.py")

    assert before.everything == (ps.Entity("a"),)
    assert load_project(tmp_path).everything == (ps.Entity("another"),)


def test_a_change_of_the_same_size_in_the_same_second_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself would take the bytecode of the first for that of the second."""
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    main = "import penstock as ps\nfrom words import word\nkey = ps.Entity(word)\n# {}\n"
    for word in ("symbol", "ticker"):
        write(tmp_path, f'word = "{word}"\n', "words.py")
        write(tmp_path, main.format(word))
        for name in ("words.py", "project.py"):
            os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
        (entity,) = load_project(tmp_path).everything
        assert entity.name == word


def test_two_folders_do_not_mix(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, f'import penstock as ps\ne = ps.Entity("{name}")\n')

    assert load_project(tmp_path / "one").everything == (ps.Entity("one"),)
    assert load_project(tmp_path / "two").everything == (ps.Entity("two"),)
    assert load_project(tmp_path / "one").everything == (ps.Entity("one"),)


def test_a_package_may_be_the_module(tmp_path: Path) -> None:
    write(tmp_path, 'project = "shop"\n', "penstock.toml")
    write(tmp_path, 'import penstock as ps\ne = ps.Entity("e")\n', "shop/__init__.py")

    assert load_project(tmp_path).everything == (ps.Entity("e"),)


def test_functions_of_the_module_can_be_used(tmp_path: Path) -> None:
    text = SOURCE + textwrap.dedent(
        """
        def half(x):
            return x / 2

        view = ps.FeatureView(
            "view", source=candles, derive={"half": ps.function(half, "close")},
            features=[ps.last("half")],
        )
        """
    )
    (view,) = [
        value
        for value in load_project(write(tmp_path, text)).everything
        if isinstance(value, ps.FeatureView)
    ]

    assert "half" in view.derive


def test_faults_of_all_declarations_are_reported_together(tmp_path: Path) -> None:
    text = """
    import penstock as ps

    a = ps.Entity("A b")
    good = ps.Entity("good")
    needs_a = ps.Source("x", entity=a, timestamp="t", schema={})
    b = ps.Source("y", entity=good, timestamp="t", schema={"good": ps.String, "t": ps.Int64})
    c = ps.Topic("fine")
    """
    with pytest.raises(DeclarationError) as caught:
        load_project(write(tmp_path, text))

    assert "project.py:4: Entity('A b') cannot work" in caught.value.message
    assert "project.py:7: Source('y') cannot work" in caught.value.message
    assert "project.py:6: Source('x') cannot work" in caught.value.message
    assert len(caught.value.faults) == 4


def test_a_fault_in_another_file_is_found_there(tmp_path: Path) -> None:
    write(tmp_path, "from parts.sources import bad\n")
    write(tmp_path, "", "parts/__init__.py")
    write(tmp_path, 'import penstock as ps\n\nbad = ps.Entity("B")\n', "parts/sources.py")

    with pytest.raises(DeclarationError, match=r"parts/sources\.py:3: Entity\('B'\)"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "SystemExit"),
    ],
)
def test_other_errors_keep_the_users_traceback(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserCodeError) as caught:
        load_project(write(tmp_path, text))

    assert expected in caught.value.message
    assert "project.py" in str(caught.value.facts["traceback"])
    assert "importlib" not in str(caught.value.facts["traceback"])
    assert caught.value.__cause__ is not None


def test_the_place_of_an_error_is_the_innermost_of_theirs(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError) as caught:
        load_project(write(tmp_path, "def f():\n    return 1 / 0\n\nf()\n"))

    assert caught.value.facts["place"] == "project.py:2"


def test_no_module(tmp_path: Path) -> None:
    write(tmp_path, "", "projet.py")

    with pytest.raises(NotFoundError) as caught:
        load_project(tmp_path)
    assert "'project.py'" in caught.value.message
    assert "Did you mean 'projet.py'?" in caught.value.message
    assert "penstock init" in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n", "declares nothing"),
        ('import penstock as ps\na = ps.Project("a")\nb = ps.Project("b")\n', "2 projects"),
        (
            'import penstock as ps\na = ps.Entity("e")\nb = ps.Entity("e", description="x")\n',
            "2 ti",
        ),
    ],
)
def test_what_makes_no_project(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DeclarationError, match=expected):
        load_project(write(tmp_path, text))
