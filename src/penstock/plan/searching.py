"""Search over the catalogue: by words, ranked, forgiving of slips of the hand.

A word of the question is found in an entry where one of the entry's words equals it, begins with
it, contains it, or is spelled nearly like it; the better it fits and the more the place says (a
name more than an expression), the more it counts. Of an entry each word counts once, at its best
place. Entries with all words come; where there is none, those with the most of them. Fillers, such
as "of", count only where nothing else is asked.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from .entries import FeatureEntry, ServiceEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Found", "search"]

WORD = re.compile(r"[^\W_]+|[%$€£¥]")
PLACES: Mapping[str, float] = {
    "name": 4.0, "tags": 3.0, "view": 2.5, "unit": 2.5, "owner": 2.5, "description": 2.0,
    "entity": 1.5, "view description": 1.0, "expression": 1.0, "features": 1.0,
}  # fmt: skip
"""Where a word may stand, and what it counts there."""

BEGINS, CONTAINS, ALIKE = 0.8, 0.6, 0.5
SHORTEST_PART, SHORTEST_ALIKE = 3, 4
NEAR = 0.75
"""How like two words are when one may be a slip for the other, from 0 to 1."""

STEMS = 4
"""By so many letters a word of the question may be longer than what it begins with: plurals."""

FILLERS = frozenset(
    {"a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "per", "the", "to"}
)
"""Words that are in most sentences: they tell nothing where the question has others."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that a search found.

    Attributes:
        entry: The entry.
        score: How well it fits, above 0; greater is better, and comparable within one search.
        places: Where each word of the question was found, such as ``{"price": "description"}``.
    """

    entry: FeatureEntry | ServiceEntry
    score: float
    places: Mapping[str, str]


def search(entries: Iterable[FeatureEntry | ServiceEntry], question: str) -> list[Found]:
    """Find the entries that a question is about, the best first.

    Args:
        entries: Where to look.
        question: Words, in any order; capitals and punctuation mean nothing.

    Returns:
        What was found; nothing where no word of the question is anywhere, or it has none.
    """
    asked = _asked(question)
    told = [(entry, dict(_places(entry))) for entry in entries]
    known = {word for _, places in told for words in places.values() for word in words}
    fits = {word: _fits(word, known) for word in asked}
    found = [_found(entry, places, fits) for entry, places in told]
    most = max((len(one.places) for one in found), default=0)
    best = [one for one in found if one.places and len(one.places) == most]
    return sorted(best, key=lambda one: (-one.score, one.entry.name))


def _found(
    entry: FeatureEntry | ServiceEntry,
    places: Mapping[str, Sequence[str]],
    fits: Mapping[str, Mapping[str, float]],
) -> Found:
    score, where = 0.0, {}
    for asked, fitting in fits.items():
        counted = {
            place: PLACES[place] * max((fitting.get(word, 0.0) for word in words), default=0.0)
            for place, words in places.items()
        }
        best = max(counted, key=lambda place: counted[place])
        if counted[best]:
            score += counted[best]
            where[asked] = best
    return Found(entry=entry, score=round(score, 6), places=where)


def _places(entry: FeatureEntry | ServiceEntry) -> Iterator[tuple[str, list[str]]]:
    """The words of an entry, by the place they stand at."""
    yield "description", _words(entry.description)
    yield "tags", _words(" ".join(entry.tags))
    yield "owner", _words(entry.owner)
    yield "entity", _words(" ".join(entry.entities))
    if isinstance(entry, ServiceEntry):
        yield "name", _words(entry.name)
        yield "features", _words(" ".join(entry.features))
        return
    yield "name", _words(entry.name.removeprefix(f"{entry.view}."))
    yield "view", _words(entry.view)
    yield "view description", _words(entry.view_description)
    yield "unit", _words(entry.unit)
    yield "expression", _words(" ".join([entry.meaning, *entry.derived.values()]))


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _asked(question: str) -> list[str]:
    """The words of a question, each once; without fillers unless it has nothing else."""
    words = list(dict.fromkeys(_words(question)))
    return [word for word in words if word not in FILLERS] or words


def _fits(asked: str, known: Iterable[str]) -> dict[str, float]:
    """How well each known word fits the one asked for, from 0 (left out) to 1."""
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(asked)
    fits = {word: _fit(asked, word, matcher) for word in known}
    return {word: fit for word, fit in fits.items() if fit}


def _fit(asked: str, word: str, matcher: difflib.SequenceMatcher[str]) -> float:
    if word == asked:
        return 1.0
    longer = len(asked) - len(word)
    shorter, longest = sorted((len(asked), len(word)))
    if word.startswith(asked) or (0 < longer <= STEMS and asked.startswith(word)):
        # "ret" says less of "return" than "retur" does.
        return BEGINS * math.sqrt(shorter / longest)
    if len(asked) >= SHORTEST_PART and asked in word:
        return CONTAINS * math.sqrt(shorter / longest)
    if shorter < SHORTEST_ALIKE or abs(longer) > STEMS:
        return 0.0
    matcher.set_seq1(word)
    if matcher.real_quick_ratio() < NEAR or matcher.quick_ratio() < NEAR:
        return 0.0
    alike = matcher.ratio()
    return ALIKE * alike if alike >= NEAR else 0.0
