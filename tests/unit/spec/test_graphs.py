from __future__ import annotations

import re

import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.spec import (
    declarations_in,
    fingerprint,
    from_document,
    graph_order,
    key_of,
    step_text,
    to_document,
)

SYMBOL = ps.Entity("symbol")
CANDLES = ps.Source(
    "candles",
    entity=SYMBOL,
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64, "volume": ps.Float64},
)
CLOSE = ps.FeatureView("close", source=CANDLES, features=[ps.last("close"), ps.count(over="1d")])
VOLUME = ps.FeatureView("volume", source=CANDLES, features=[ps.last("volume")])
UP = ps.Label("up", ps.lead("close", "1h") > ps.col("close"))
NEXT = ps.Label("next", ps.lead("close", "1h"))
LINEAR = [ps.sklearn("sklearn.linear_model:LogisticRegression")]
RIDGE = [ps.sklearn("sklearn.linear_model:Ridge")]


def _dataset(name: str, *views: ps.FeatureView, label: ps.Label = UP) -> ps.Dataset:
    split = ps.TimeSplit(embargo="1h")
    return ps.Dataset(name, spine=CANDLES, features=list(views), label=label, split=split)


BOTH = _dataset("both", CLOSE, VOLUME)
QUICK = ps.Model("quick", dataset=_dataset("prices", CLOSE), candidates=LINEAR)
DEEP = ps.Model("deep", dataset=BOTH, candidates=LINEAR)
LEVEL = ps.Model(
    "level",
    dataset=_dataset("levels", CLOSE, label=NEXT),
    candidates=RIDGE,
    select=ps.minimise("rmse"),
)


def _blend(**steps: object) -> ps.Graph:
    return ps.Graph("blend", dataset=BOTH, steps=steps)  # type: ignore[arg-type]  # tests break it


def _faults(**steps: object) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        _blend(**steps)
    return list(caught.value.faults)


GOOD = _blend(
    quick=ps.Predict(QUICK),
    deep=ps.Predict(DEEP, of="@3", inputs={"volume.last_volume": "bounded"}),
    bounded=(ps.col("volume.last_volume") / 2).coalesce(0.0),
    mean=ps.Average(["quick", "deep"], weights=[1, 2]),
    vote=ps.Vote(["quick", "deep"], threshold=0.4),
    answer=ps.Switch([(ps.col("mean") > 0.9, "mean")], otherwise="vote"),
)


def test_a_graph_is_a_model_whose_only_candidate_is_itself() -> None:
    (trainer,) = GOOD.trainers
    assert (trainer.kind, trainer.name, trainer.prepare) == ("graph", "graph", "none")
    assert GOOD.output == "answer"
    assert [model.name for model in GOOD.models] == ["quick", "deep"]
    order = graph_order(GOOD.steps)
    assert order.index("bounded") < order.index("deep") < order.index("mean")
    assert order[-1] == "answer"
    assert ps.Deployment("up", model=GOOD).model is GOOD
    assert ps.Trigger(model=GOOD, on=[ps.cron("0 3 * * *")]).name == "blend"


def test_steps_read_as_sentences() -> None:
    assert {name: step_text(step) for name, step in GOOD.steps.items()} == {
        "quick": "predict quick@champion",
        "deep": "predict deep@3, volume.last_volume from bounded",
        "bounded": "coalesce((volume.last_volume / 2), 0.0)",
        "mean": "average 1 x quick, 2 x deep",
        "vote": "vote quick, deep from 0.4",
        "answer": "switch mean where (mean > 0.9); else vote",
    }
    assert step_text(ps.Average(["a", "b"])) == "average a, b"


def test_a_graph_comes_back_from_its_documents() -> None:
    known: dict[str, object] = {}
    for value in declarations_in([ps.Deployment("up", model=GOOD)]):
        back = from_document(type(value), to_document(value), known)  # type: ignore[arg-type]
        assert back == value
        known[key_of(value)] = back
    assert key_of(GOOD) == "graph/blend"
    assert fingerprint(GOOD) == fingerprint(known["graph/blend"])  # type: ignore[arg-type]


def test_what_explains_stands_beside_the_answer() -> None:
    graph = _blend(**GOOD.steps, why=ps.Explain("deep", top=2), wherefore=ps.Explain("answer"))
    assert (graph.output, list(graph.explainers)) == ("answer", ["why", "wherefore"])
    assert [step_text(step) for step in graph.explainers.values()] == [
        "explain deep, the 2 greatest",
        "explain answer",
    ]
    assert fingerprint(graph) != fingerprint(GOOD)
    known = {key_of(value): value for value in declarations_in([BOTH, QUICK, DEEP])}
    assert from_document(ps.Graph, to_document(graph), known) == graph


def test_a_model_that_changes_changes_its_graph() -> None:
    other = ps.Model("quick", dataset=QUICK.dataset, candidates=LINEAR, gates=[
        ps.at_least("roc_auc", 0.6)])  # fmt: skip
    one, two = _blend(a=ps.Predict(QUICK)), _blend(a=ps.Predict(other))
    assert fingerprint(one) != fingerprint(two)


def test_all_faults_come_at_once_with_the_nearest_names() -> None:
    faults = _faults(
        quick=ps.Predict(QUICK),
        mean=ps.Average(["quik", "volume.last_volum"]),
        out=ps.Switch([(ps.col("mean") > 0, "quick")], otherwise="men"),
    )
    unknown = "which is no step and no feature. Did you mean"
    assert faults == [
        f"step 'mean': it reads 'quik', {unknown} 'quick'?",
        f"step 'mean': it reads 'volume.last_volum', {unknown} 'volume.last_volume'?",
        f"step 'out': it reads 'men', {unknown} 'mean'?",
    ]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({}, "it has no steps"),
        ({"Up": ps.Predict(QUICK)}, "step 'Up': use lower-case letters"),
        ({"a": ps.col("a") + 1}, "step 'a': it reads itself"),
        ({"a": ps.col("b") + 1, "b": ps.col("a") + 1}, "in a circle: a -> b -> a"),
        ({"a": ps.Predict(QUICK), "b": ps.Predict(DEEP)}, "nothing reads 'a', 'b'; one step"),
        ({"a": ps.lit(0.5)}, "0.5 reads no step and no feature"),
        ({"a": ps.lead("close", "1h")}, "looks ahead"),
        ({"a": ps.Predict(LEVEL)}, "gives a regression; the label asks for a classification"),
        ({"a": ps.Predict(LEVEL), "b": ps.Predict(QUICK), "c": ps.Average(["a", "b"])},
         "it mixes tasks: a is a regression, b is a classification"),
        ({"a": ps.Predict(LEVEL), "b": ps.Predict(QUICK), "c": ps.Vote(["a", "b"])},
         "'a' is no classification; only classifications vote"),
        ({"a": ps.Switch([(ps.col("close.last_close") > 1, "close.last_close")],
                         otherwise="b"), "b": ps.Predict(QUICK)},
         "it leads to the feature 'close.last_close'"),
        ({"a": ps.Predict(QUICK), "why": ps.Explain("b")},
         "step 'why': it reads 'b', which is no step and no feature"),
        ({"a": ps.Predict(QUICK), "why": ps.Explain("why")}, "step 'why': it reads itself"),
        ({"a": ps.Predict(QUICK), "why": ps.Explain("close.last_close")},
         "step 'why': it explains the feature 'close.last_close'; it has to explain a step"),
        ({"a": ps.Predict(QUICK), "why": ps.Explain("a"), "b": ps.Average(["a", "why"])},
         "step 'b': it reads 'why', which explains a step and gives no number"),
        ({"a": ps.Predict(QUICK), "why": ps.Explain("a"), "wherefore": ps.Explain("why")},
         "step 'wherefore': it reads 'why', which explains a step and gives no number"),
        ({"a": ps.Predict(QUICK), "b": ps.Predict(DEEP), "why": ps.Explain("a")},
         "nothing reads 'a', 'b'; one step answers"),
        ({"why": ps.Explain("wherefore"), "wherefore": ps.Explain("why")},
         "its steps go round in a circle"),
        ({"why": ps.Explain("close.last_close")}, "its steps explain, and none answers"),
    ],
)  # fmt: skip
def test_what_is_no_graph_is_refused(steps: dict[str, object], said: str) -> None:
    assert any(said in fault for fault in _faults(**steps)), _faults(**steps)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ps.Predict(QUICK, of="champoin"), "Did you mean 'champion'?"),
        (lambda: ps.Predict(QUICK, of="3"), "Or write '@3'"),
        (lambda: ps.Predict(QUICK, inputs={"close.last_clos": "a"}), "Did you mean 'close.last_cl"),
        (lambda: ps.Average(["a"]), "it needs two steps or more, and has 1"),
        (lambda: ps.Average("ab"), "is one text; give a list of steps"),
        (lambda: ps.Average(["a", "a"]), "step 'a' is declared 2 times"),
        (lambda: ps.Average(["a", "b"], weights=[1]), "it has 1 weights for 2 steps"),
        (lambda: ps.Average(["a", "b"], weights=[1, -1]), "none may be negative"),
        (lambda: ps.Average(["a", "b"], weights=[0, 0]), "one has to be above 0"),
        (lambda: ps.Vote(["a", "b"], threshold=1), "no probability between 0 and 1"),
        (lambda: ps.Switch([], otherwise="a"), "it has no cases"),
        (lambda: ps.Explain("a", top=-1), "top=-1 is negative"),
        (lambda: ps.Switch([(ps.col("a") + 1, "a")], otherwise="b"), "is no condition"),
    ],
)
def test_a_step_that_cannot_work_is_refused(make: object, said: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(said)):
        make()  # type: ignore[operator]  # it is a function


def test_the_dataset_has_every_feature_of_the_models_of_one_meaning() -> None:
    with pytest.raises(DeclarationError, match=r"reads 'volume.last_volume', which .* 'prices' "):
        ps.Graph("g", dataset=QUICK.dataset, steps={"a": ps.Predict(DEEP)})
    ps.Graph("g", dataset=QUICK.dataset, steps={
        "a": ps.Predict(DEEP, inputs={"volume.last_volume": "close.last_close"})})  # fmt: skip
    other = ps.FeatureView("close", source=CANDLES, features=[
        ps.last("close"), ps.count(over="2d"), ps.count(over="1d")])  # fmt: skip
    with pytest.raises(DeclarationError, match="learned from another view 'close'"):
        ps.Graph("g", dataset=_dataset("o", other), steps={"a": ps.Predict(QUICK)})


def test_names_are_of_one_thing() -> None:
    twin = ps.Model("quick", dataset=BOTH, candidates=LINEAR)
    with pytest.raises(DeclarationError, match="two unlike models 'quick'"):
        _blend(a=ps.Predict(QUICK), b=ps.Predict(twin), c=ps.Average(["a", "b"]))
    graph = ps.Graph("quick", dataset=BOTH, steps={"a": ps.Predict(DEEP)})
    with pytest.raises(DeclarationError, match="a model and a graph are called 'quick'"):
        ps.Project("p", declarations=[QUICK, graph])
    with pytest.raises(DeclarationError, match="a graph has steps instead"):
        ps.Graph("g", dataset=BOTH, candidates=LINEAR, steps={"a": ps.Predict(DEEP)})
    trainer = graph.trainers[0]
    with pytest.raises(DeclarationError, match=r"is a graph; declare a ps\.Graph instead"):
        ps.Model("m", dataset=BOTH, candidates=[trainer])
