from __future__ import annotations

from penstock.testing.workflows_suite import WorkflowsSuite


class TestDbosOnSqlite(WorkflowsSuite):
    opener = "penstock.testing.openers:open_dbos"
