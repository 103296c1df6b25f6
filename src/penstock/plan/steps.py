"""The steps of a plan: small values that can be shown, compared and stored."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["Change", "Create", "FieldChange", "Plan", "Remove", "Stale", "Step"]

StaleAction: TypeAlias = Literal["backfill", "rebuild", "retrain", "keep"]

CONSEQUENCES: dict[StaleAction, str] = {
    "backfill": "its online features have to be computed again",
    "rebuild": "it will be built anew, under another id",
    "retrain": "its versions learned from the old meaning; train it again",
    "keep": "it keeps serving the version it has until a new one is promoted",
}
VALUE_WIDTH = 120


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a document that differs.

    Attributes:
        path: Where, such as ``search.trials`` or ``features.mean_ret_6h.over``.
        before: What was applied; None where there was nothing.
        after: What is declared; None where there is nothing.
    """

    path: str
    before: object
    after: object

    @property
    def text(self) -> str:
        """The field with its value before and after, shortened: ``"ttl: 7d -> 1d"``."""
        name = self.path.rpartition(".")[2]
        before, after = (_short(_without(value, name)) for value in (self.before, self.after))
        return f"{self.path}: {before} -> {after}"


class Create(msgspec.Struct, frozen=True, kw_only=True, tag="create", tag_field="step"):
    """A declaration that is new.

    Attributes:
        key: Its key, such as ``source/candles``.
    """

    key: str

    @property
    def detail(self) -> str:
        """Nothing more to say."""
        return ""


class Change(msgspec.Struct, frozen=True, kw_only=True, tag="change", tag_field="step"):
    """A declaration whose document differs from the one applied.

    Attributes:
        key: Its key.
        fields: What differs.
        meaning: Whether what it means changed; False where only what is shown did.
    """

    key: str
    fields: tuple[FieldChange, ...]
    meaning: bool

    @property
    def detail(self) -> str:
        """The fields, each on a line with its value before and after."""
        return "\n".join(field.text for field in self.fields)


class Remove(msgspec.Struct, frozen=True, kw_only=True, tag="remove", tag_field="step"):
    """A declaration that is declared no more. What was made from it stays.

    Attributes:
        key: Its key.
    """

    key: str

    @property
    def detail(self) -> str:
        """What happens to the data."""
        return "its data and versions stay"


class Stale(msgspec.Struct, frozen=True, kw_only=True, tag="stale", tag_field="step"):
    """Something made under the old meaning of what changed.

    Attributes:
        key: The declaration whose products are stale.
        action: ``backfill`` online features, ``rebuild`` a dataset, ``retrain`` a model; a
            deployment will ``keep`` serving the old.
        because: The keys of the changed declarations that it depends on.
    """

    key: str
    action: StaleAction
    because: tuple[str, ...]

    @property
    def detail(self) -> str:
        """The consequence and its cause, in words."""
        return f"{CONSEQUENCES[self.action]} ({', '.join(self.because)} changed)"


Step = Create | Change | Remove | Stale


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a project does, and what follows from it.

    Attributes:
        project: The project's name.
        steps: What is created, changed and removed, then what that makes stale.
        warnings: What whoever applies it should know, such as a deprecated feature that is read.
    """

    project: str
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to apply."""
        return not self.steps

    @property
    def stale(self) -> tuple[Stale, ...]:
        """What the changes make stale."""
        return tuple(step for step in self.steps if isinstance(step, Stale))

    def as_rows(self) -> list[dict[str, str]]:
        """One row per step for a table: ``step``, ``kind``, ``name`` and ``detail``."""
        return [_row(step) for step in self.steps]

    def as_document(self) -> dict[str, object]:
        """The plan as plain JSON values."""
        steps = [msgspec.to_builtins(step) for step in self.steps]
        return {
            "project": self.project,
            "empty": self.is_empty,
            "steps": steps,
            "warnings": list(self.warnings),
        }


def _row(step: Step) -> dict[str, str]:
    kind, _, name = step.key.partition("/")
    word = str(type(step).__struct_config__.tag)
    return {"step": word, "kind": kind, "name": name, "detail": step.detail}


def _without(value: object, name: str) -> object:
    """A member of a list without its name, where the path has it already."""
    if isinstance(value, dict) and value.get("name") == name:
        return {key: item for key, item in value.items() if key != "name"}
    return value


def _short(value: object) -> str:
    text = _words(value) or "nothing"
    return text if len(text) <= VALUE_WIDTH else text[: VALUE_WIDTH - 1] + "…"


def _words(value: object) -> str:
    """A value of a document as people write it; members that say nothing are left out."""
    if isinstance(value, str) or value is None:
        return value or ""
    if isinstance(value, dict):
        told = {name: item for name, item in value.items() if item not in (None, "", 0, [], {})}
        return ", ".join(f"{name} {_words(item)}" for name, item in told.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(
            f"({_words(one)})" if isinstance(one, dict) else _words(one) for one in value
        )
    return msgspec.json.encode(value).decode()
