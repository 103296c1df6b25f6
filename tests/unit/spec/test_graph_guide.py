"""The project that the guide to graphs begins with is one."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import penstock as ps

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "graphs.md"


def test_the_first_project_of_the_guide_declares_a_graph(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "functions.py").write_text(found[0], encoding="utf-8")
    (tmp_path / "project.py").write_text(found[1] + found[2], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "functions", raising=False)
    declared = runpy.run_path(str(tmp_path / "project.py"))
    monkeypatch.delitem(sys.modules, "functions", raising=False)

    assert isinstance(declared["blend"], ps.Graph)
    assert declared["endpoint"].model is declared["blend"]
    assert list(declared["blend"].steps) == [
        "quick", "deep", "mean", "sharp", "answer", "why",
    ]  # fmt: skip
    assert declared["blend"].output == "answer"
    before = declared["smooth"].steps["answer"]
    assert before.inputs == {"momentum.last_close": "typical"}
