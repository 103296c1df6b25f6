"""What of a score's features is stored, as its deployment declares it."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.plan import locks_of
from penstock.records import ALL_WITHHELD
from penstock.registry import views_of
from penstock.spec import FeatureView, OnDemandView, Protection, all_views

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.plan import Catalogue
    from penstock.ports import Services
    from penstock.records import Given, Manifest, Score
    from penstock.spec import Deployment, ScoreLog, View

__all__ = ["Payload", "payload_of", "score_key"]

KEY = "key"
KEY_BYTES = 32
EXACT_BITS = 52  # of a number that every reader of floats keeps


class _Redacted(msgspec.Struct, frozen=True):
    """What of a version's scores is not stored as it is.

    Attributes:
        names: Full names of the features.
        places: Their places among the version's features.
        fields: The request fields that they were computed from.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    fields: frozenset[str]


class Payload:
    """Stores of a score what may be stored. Versions are learned before their scores come.

    Args:
        policy: What is declared.
        views: The views that are applied: their tags count, beside those a version learned from.
        key: Of the hashes.
    """

    def __init__(self, policy: ScoreLog, views: Iterable[View], key: bytes) -> None:
        self._policy = policy
        self._views = tuple(views)
        self._key = key
        self._share = policy.share
        self._redacted: dict[int, _Redacted] = {}

    def learn(self, manifest: Manifest) -> None:
        """Find out what is to be redacted of a version."""
        if not self._policy.redact:
            self._redacted[manifest.version] = _Redacted((), (), frozenset())
            return
        views = [*self._views, *views_of(manifest)]
        protection = Protection("redact", tagged=tuple(self._policy.redact))
        locked = {name for name, locks in locks_of(views, [protection]).items() if locks}
        names = tuple(name for name in manifest.features if name in locked)
        fields = {
            field
            for view in all_views(views)
            if isinstance(view, OnDemandView) and locked.intersection(view.names)
            for field in view.request
        }
        places = tuple(manifest.features.index(name) for name in names)
        self._redacted[manifest.version] = _Redacted(names, places, frozenset(fields))

    def keeps(self, prediction_id: str) -> bool:
        """Whether the features of a score are stored: the same everywhere and at any time."""
        if self._share >= 1:
            return True
        digest = hashlib.blake2b(prediction_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._share * 2**64

    def stored(self, score: Score) -> Score:
        """The score as it is stored; one that answers again has been looked at before."""
        if score.withheld:
            return score
        found = self._redacted.get(score.version)
        unknown = found is None and bool(self._policy.redact)
        if found is None:
            # A constant, or a version that was just replaced: nobody says which features it has.
            found = _Redacted((), (), frozenset(score.given if unknown else ()))
        if unknown or not self.keeps(score.prediction_id):
            return msgspec.structs.replace(
                score,
                features=(),
                given=_without(score.given, found),
                withheld=ALL_WITHHELD,
                parts={},
            )
        if not found.places or not score.features:
            return score
        features = list(score.features)
        for place in found.places:
            features[place] = self._instead(features[place])
        return msgspec.structs.replace(
            score,
            features=tuple(features),
            given=_without(score.given, found),
            withheld=",".join(found.names),
            parts={},  # a step may give what a feature says
        )

    def stored_frame(self, frame: pl.DataFrame, manifest: Manifest) -> pl.DataFrame:
        """Rows of the scores table of one version as they are stored; see ``stored``."""
        found = self._redacted[manifest.version]
        lists: list[list[float | None]] = frame["features"].to_list()
        withheld: list[str] = []
        names = ",".join(found.names)
        for place, prediction_id in enumerate(frame["prediction_id"]):
            if not self.keeps(prediction_id):
                lists[place] = []
                withheld.append(ALL_WITHHELD)
                continue
            for column in found.places:
                lists[place][column] = self._instead(lists[place][column])
            withheld.append(names)
        given = [
            msgspec.json.encode(_without(msgspec.json.decode(text), found)).decode()
            if found.fields
            else text
            for text in frame["given"]
        ]
        return frame.with_columns(
            pl.Series("features", lists, dtype=pl.List(pl.Float64)),
            pl.Series("given", given, dtype=pl.String),
            pl.Series("withheld", withheld, dtype=pl.String),
            pl.Series(
                "parts",
                [
                    "{}" if hidden else text
                    for hidden, text in zip(withheld, frame["parts"], strict=True)
                ],
                dtype=pl.String,
            ),
        )

    def _instead(self, value: float | None) -> float | None:
        if value is None or self._policy.by == "null":
            return None
        data = struct.pack("<d", value + 0.0)  # one zero
        digest = hashlib.blake2b(data, digest_size=8, key=self._key).digest()
        return float(int.from_bytes(digest, "big") >> (64 - EXACT_BITS))


def payload_of(
    services: Services, declared: Deployment, catalogue: Catalogue, manifests: Iterable[Manifest]
) -> Payload | None:
    """What a deployment's score log stores of features; none where it stores all of them.

    Args:
        services: The ports; the key of the hashes lies in the score log's folder.
        declared: The deployment.
        catalogue: What is applied.
        manifests: Of the versions whose scores come.
    """
    if declared.log is None or declared.log.is_whole:
        return None
    views: list[View] = [*catalogue.all(FeatureView), *catalogue.all(OnDemandView)]
    made = Payload(declared.log, views, score_key(services))
    for manifest in manifests:
        made.learn(manifest)
    return made


def _without(given: Mapping[str, Given], redacted: _Redacted) -> dict[str, Given]:
    return {name: value for name, value in given.items() if name not in redacted.fields}


def score_key(services: Services) -> bytes:
    """The key of hashes that say nothing outside of the project; made where there is none.

    It appears whole, and once.

    Args:
        services: The ports; the key lies in the score log's folder.
    """
    path = services.score_log / KEY
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # of two who make it, the first has made it
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
