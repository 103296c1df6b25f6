from __future__ import annotations

from penstock.control import PIPELINES, pipelines


def test_every_pipeline_is_listed() -> None:
    written = {name for name in vars(pipelines) if name.endswith("_pipeline") and name[0] != "_"}
    assert {pipeline.__name__ for pipeline in PIPELINES} == written
    names = [pipeline().name for pipeline in PIPELINES]
    assert len(set(names)) == len(names)
