"""Bad input at the command line, one by one: one clear message, an exit code, nothing half done."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import polars as pl
import pytest

from penstock.deployment import deploy
from penstock.records import Batch
from penstock.registry import aliases
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Call = Callable[..., Said]
    Refused = Callable[..., str]

HEAD = "symbol,ts,open,close\n"
GOOD = "BTC,2026-01-01T00:00:00Z,1,2\n"
COUNTS = ("read", "stored", "quarantined", "duplicates")


def tables_of(home: Path) -> list[str]:
    with open_services(home) as services:
        return services.tables.names()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty. It was expected to hold records"),
        ("a.csv", HEAD.encode(), "has no records"),
        ("a.csv", b"symbol,ts,opne\nBTC,2026-01-01T00:00:00Z,1\n", "It has 'symbol', 'ts', 'opne'"),
        ("a.csv", bytes(range(256)) * 9, "lacks 'symbol', 'ts', 'open', 'close'"),
        ("a.csv", (HEAD + GOOD.replace("Z", "")).encode(), "Write times like"),
        ("a.csv.gz", b"\x1f\x8b\x08no", "bring it again"),
        ("a.parquet", b"PAR1no", "cannot be read as Parquet"),
        ("a.xlsx", b"x", "Known: .csv, .parquet, .jsonl"),
        ("a.jsonl", b"{bad\n", "It has no column"),
    ],
    ids=["empty", "head", "schema", "binary", "zone", "gzip", "parquet", "ending", "json"],
)
def test_a_file_that_is_none_leaves_nothing_behind(
    home: Path, refused: Refused, name: str, content: bytes, message: str
) -> None:
    path = home / "data" / name
    path.write_bytes(content)

    said = refused("ingest", "candles", "--file", path, "--home", home)

    assert message in said
    assert tables_of(home) == []
    with open_services(home) as services:
        assert services.metadata.find(Batch) == []


def test_a_missing_file_names_the_one_that_was_meant(home: Path, refused: Refused) -> None:
    (home / "data" / "candles.csv").write_text(HEAD + GOOD)
    path = home / "data" / "candle.csv"

    assert "Did you mean 'candles.csv'?" in refused(
        "ingest", "candles", "--file", path, "--home", home
    )
    assert "No file matches" not in refused("ingest", "candles", "--file", home, "--home", home)


def test_bad_records_go_to_quarantine_and_the_good_ones_on(home: Path, call: Call) -> None:
    key = "K" * 501  # a longer key than the online store takes
    records = [
        "A,2026-01-01T00:00:00Z,abc,2",
        "A,2026-01-01T01:00:00Z,nan,2",
        "A,2026-01-01T02:00:00Z,1,inf",
        "A,2026-01-01T03:00:00Z,1",
        "A,2026-01-01T04:00:00,1,2",
        "A,noon,1,2",
        f"{key},2026-01-01T00:00:00Z,1,2",
        "A,2026-01-01T05:00:00Z,1,-2",
    ]
    (home / "data" / "a.csv").write_text(HEAD + GOOD + "\n".join(records) + "\n")

    (done,) = call("ingest", "candles", "--home", home, "--json").value
    built = call("features", "build", "--home", home)
    got = call("features", "get", "momentum", "--keys", "BTC,XRP", "--home", home)

    assert [done[name] for name in COUNTS] == [9, 1, 8, 0]
    assert set(done["reasons"]) == {
        "dtype(open)", "finite(open)", "finite(close)", "required(close)", "timestamp_zone(ts)",
        "dtype(ts)", "key_length(symbol)", "positive(close)",
    }  # fmt: skip
    assert (built.code, got.code) == (0, 0)
    assert "No record of 'XRP' has come to 'momentum' yet" in got.err
    with open_services(home) as services:
        kept = services.tables.scan("quarantine/candles").select("_record").collect()
    assert kept.height == 8
    assert kept["_record"].str.contains(key).sum() == 1


def test_a_parquet_file_of_another_type_is_refused(home: Path, refused: Refused) -> None:
    path = home / "data" / "a.parquet"
    row = {"symbol": [1], "ts": ["2026-01-01T00:00:00Z"], "open": [1.0], "close": [2.0]}
    pl.DataFrame(row).write_parquet(path)

    said = refused("ingest", "candles", "--file", path, "--home", home)

    assert "holds Int64, but source 'candles' declares 'symbol' as string" in said
    assert tables_of(home) == []


LIFE = (
    "ingest", "features build", "features get v --keys x", "train m", "models list",
    "models show m", "models promote m@1", "deploy b", "rollback b", "predict b --key x",
    "score b", "observe b --id x --value 1", "monitor", "runs list", "runs retry x", "lineage x",
    "replay x", "status", "doctor", "worker", "stream", "api", "serve", "up",
)  # fmt: skip


@pytest.mark.parametrize("line", LIFE)
def test_before_init_every_command_says_init(tmp_path: Path, refused: Refused, line: str) -> None:
    said = refused(*line.split(), "--home", tmp_path)

    assert "Run 'penstock init' there" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    ["ingest", "features build", "train m", "models show m", "models promote m@1", "deploy b",
     "rollback b", "predict b --key x", "score b", "observe b --id x --value 1", "monitor"],
)  # fmt: skip
def test_before_apply_commands_say_apply(
    tmp_path: Path, call: Call, refused: Refused, line: str
) -> None:
    call("init", "--home", tmp_path)

    assert "Run 'penstock apply' first." in refused(*line.split(), "--home", tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("features build", "Run 'penstock ingest candles'"),
        ("features get momentum --keys BTC", "Run 'penstock features build momentum'"),
        ("train direction", "Run 'penstock ingest candles' first"),
        ("models show direction", "Run 'penstock train direction' first"),
        ("models promote direction@1", "Run 'penstock train direction' first"),
        ("deploy btc", "Run 'penstock train direction'"),
        ("rollback btc", "has no previous champion to go back to"),
        ("predict btc --key BTC", "Run 'penstock train direction', then 'penstock deploy btc'"),
        ("score btc", "Run 'penstock train direction', then 'penstock deploy btc'"),
        ("monitor btc", "Run 'penstock train direction' and 'penstock deploy btc' first"),
    ],
)
def test_steps_out_of_order_name_the_one_before(
    home: Path, refused: Refused, line: str, message: str
) -> None:
    assert message in refused(*line.split(), "--home", home)


@pytest.mark.parametrize(
    ("closes", "message"),
    [
        ([1.0], "ingest more records"),
        ([float(hour + 1) for hour in range(30)], "Ingest records of both kinds"),
    ],
    ids=["future", "one kind"],
)
def test_a_label_that_cannot_be_learned_says_why(
    home: Path, call: Call, refused: Refused, closes: list[float], message: str
) -> None:
    times = [f"2026-01-{place // 24 + 1:02}T{place % 24:02}:00:00Z" for place in range(len(closes))]
    rows = "".join(f"BTC,{at},1,{close}\n" for at, close in zip(times, closes, strict=True))
    (home / "data" / "a.csv").write_text(HEAD + rows)
    call("ingest", "--home", home)

    assert message in refused("train", "direction", "--home", home)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ingest candle", "Did you mean 'candles'?"),
        ("features build momentun", "Did you mean 'momentum'?"),
        ("train directoin", "Did you mean 'direction'?"),
        ("models list directoin", "Did you mean 'direction'?"),
        ("models show directoin@1", "Did you mean 'direction'?"),
        ("models show direction@9", "Did you mean 'direction@2'?"),
        ("models promote direction@chmpion", "Did you mean 'champion'?"),
        ("deploy bt", "Did you mean 'btc'?"),
        ("deploy btc --version 0", "There is no version 'direction@0'"),
        ("rollback bt", "Did you mean 'btc'?"),
        ("predict bt --key BTC", "Did you mean 'btc'?"),
        ("score bt", "Did you mean 'btc'?"),
        ("observe bt --id x --value 1", "Did you mean 'btc'?"),
        ("observe btc --id x --value nan", "not finite"),
        ("observe btc --id x --value 7", "send 0 or 1"),
        ("observe btc --file nope.jsonl", "Expected a file of JSON lines"),
        ("predict btc --feature momentum.last_clos=1", "Did you mean 'momentum.last_close'?"),
        ("runs show train-1", "See 'penstock runs list'"),
        ("runs retry train-1", "See 'penstock runs list'"),
        ("lineage direction@9", "Did you mean 'direction@2'?"),
        ("lineage nothing", "Lineage takes a prediction id"),
        ("replay nothing", "Its id is in the answer to the request"),
    ],
)
def test_unknown_names_and_values_say_what_was_meant(
    served: ServedProject, refused: Refused, line: str, message: str
) -> None:
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
        before = services.metadata.revision()

    assert message in refused(*line.split(), "--home", served.home)
    with open_services(served.home) as services:
        assert services.metadata.revision() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("runs list --pipeline trian", "Did you mean 'train'?"),
        ("runs list --state lost", "Known: queued, running"),
        ("deploy btc --version x", "write 3 or MODEL@3"),
        ("deploy btc --version other@1", "Write 1 or direction@1"),
        ("predict btc --feature momentum.last_close=x", "write NAME=NUMBER"),
        ("predict btc --feature momentum.last_close=nan", "finite, or NAME=null"),
        ("predict btc --feature momentum.last_close=-inf", "finite, or NAME=null"),
        ("predict btc --key BTC --at 2026-13-01", "Write it like 2024-03-01T12:00:00Z"),
        ("predict btc --key BTC --at 2026-01-01T12:00", "has no time zone. Add Z"),
        ("features get momentum --keys BTC --at 2026-01-01T12:00", "no time zone. Add Z"),
        ("observe btc --id x", "Give either --id and --value, or --file"),
    ],
)
def test_wrong_use_exits_with_2(
    served: ServedProject, refused: Refused, line: str, message: str
) -> None:
    assert message in refused(*line.split(), "--home", served.home, code=2)


@pytest.mark.parametrize(
    "line",
    ["plam", "models lst", "train", "status extra", "ingest candles --fle x", "serve --port 99999",
     "observe btc --id x --value one"],
)  # fmt: skip
def test_a_wrong_command_line_shows_the_usage(home: Path, call: Call, line: str) -> None:
    said = call(*line.split(), "--home", home)

    assert said.code == 2
    assert "Usage: penstock" in said.err
    assert "Error: " in said.err


def test_an_outcome_of_an_unknown_prediction_is_kept_and_told(
    served: ServedProject, call: Call
) -> None:
    said = call("observe", "btc", "--id", "nope", "--value", 1, "--home", served.home)

    assert said.code == 0
    assert "No prediction 'nope' is known here" in said.err


@pytest.mark.slow
def test_a_gate_that_nobody_passes_lets_nobody_answer(
    home: Path, call: Call, refused: Refused, project_text: str
) -> None:
    (home / "project.py").write_text(project_text.replace('"roc_auc", 0.5', '"roc_auc", 0.999'))
    hours = [f"2026-01-{hour // 24 + 1:02}T{hour % 24:02}:00:00Z" for hour in range(160)]
    chance = random.Random(1)  # noqa: S311 - no secret
    closes = [chance.uniform(99, 101) for _ in hours]
    rows = "".join(f"BTC,{at},100,{close}\n" for at, close in zip(hours, closes, strict=True))
    (home / "data" / "a.csv").write_text(HEAD + rows)
    call("apply", "--home", home)
    call("ingest", "--home", home)

    trained = call("train", "direction", "--home", home)

    assert trained.code == 1
    assert "error gate  No candidate of train-" in trained.err
    assert "not at least 0.999" in trained.err
    assert "or lower the gate" in trained.err
    for line in ("models promote direction@1", "deploy btc", "deploy btc --version 1"):
        said = refused(*line.split(), "--home", home)
        assert "'penstock models list direction'" in said
    with open_services(home) as services:
        assert aliases(services.metadata, "direction").champion == 0
