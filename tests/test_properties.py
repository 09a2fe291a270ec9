"""Properties refuse the kinds of wrong answers that once passed, and the gate finds a declaration without teeth."""

from __future__ import annotations

import dataclasses
import functools
import types
from pathlib import Path

import pytest

from grader import catalog
from grader.authoring import coverage
from grader.engine import Engine
from grader.order import Order
from grader.plugin import collect
from grader.properties import any_layout, no_state_between_calls
from grader.properties.subject import bound, in_turn
from grader.remote.calls import probe_spec
from grader.suite import probe
from grader.verdict import Outcome

pytestmark = pytest.mark.slow

SGD = "TestProperties::test_{}[SGD]"
BUFFER = '                        self.state[p] = {"momentum": g.clone()}\n'
GRADIENT = '\n                g = p.grad + group["weight_decay"] * p'
# exercise, the property's test that refuses it, and what of the solution becomes what
WRONG = {
    "the momentum buffer is p.grad itself": (
        "adamw",
        SGD.format("settings_are_read_each_time"),
        {GRADIENT: GRADIENT + ' if group["weight_decay"] else p.grad', BUFFER: BUFFER.replace("g.clone()", "g")},
    ),
    "the momentum buffer holds the learning rate": (
        "adamw",
        SGD.format("settings_are_read_each_time"),
        {
            BUFFER: BUFFER.replace("g.clone()", "lr * g"),
            '["momentum"].mul_(mu).add_(g)': '["momentum"].mul_(mu).add_(lr * g)',
            "                p.sub_(lr * g)": "                p.sub_(g if mu else lr * g)",
        },
    ),
    "a transposed parameter does not move": (
        "adamw",
        SGD.format("any_layout"),
        {"                p.sub_(lr * g)": "                p.data.reshape(-1).sub_((lr * g).reshape(-1))"},
    ),
    "moments are kept in float32": (
        "adamw",
        "TestProperties::test_computes_in_the_inputs_type[Adam]",
        {'"v": torch.zeros_like(p)}': '"v": torch.zeros_like(p, dtype=torch.float32)}'},
    ),
    "parameters are looked at twice": (
        "adamw",
        "TestProperties::test_any_iterable[Optimizer]",
        {"        groups = list(params)\n": "        len([*params])\n        groups = list(params)\n"},
    ),
    "merge returns its argument where there is no pair": (
        "bpe",
        "TestProperties::test_result_is_new[merge]",
        {"    return merged\n": "    return merged if merged != ids else ids\n"},
    ),
    "merges are read twice": (
        "bpe",
        "TestProperties::test_any_iterable[vocabulary]",
        {"    for left, right in merges:\n        vocab": "    len(list(merges))\n    for left, right in merges:\n        vocab"},
    ),
    "special tokens are sorted": (
        "bpe",
        "TestProperties::test_no_state_between_calls[Tokenizer]",
        {"enumerate(self.special)}": "enumerate(sorted(self.special))}"},
    ),
    "sentences are read twice": (
        "ngram",
        "TestProperties::test_any_iterable[perplexity]",
        {"    logs = [log for sentence in sentences": "    len(list(sentences))\n    logs = [log for sentence in sentences"},
    ),
    "a sentence must be a list": (
        "ngram",
        "TestProperties::test_any_sequence[pad]",
        {"list(sentence) + [EOS]": "sentence + [EOS]"},
    ),
    "nothing has no combination": (
        "combination_sum",
        "TestProperties::test_empty_and_single[combination_sum]",
        {"    path: list[int] = []\n": "    path: list[int] = []\n    if not candidates:\n        return found\n"},
    ),
    "the output has the query's type": (
        "dot_product_attention",
        "TestProperties::test_type_follows[dot_product_attention]",
        {"(weights @ wide(value)[0]).to(value.dtype)": "(weights @ wide(value)[0]).to(query.dtype)"},
    ),
    "a mask of floats undoes causal": (
        "dot_product_attention",
        "TestProperties::test_no_state_between_calls[attention_weights]",
        {"    if causal:\n        visible": "    if causal and (mask is None or mask.dtype == torch.bool):\n        visible"},
    ),
    "the module drops the mask when it is causal": (
        "dot_product_attention",
        "TestProperties::test_no_state_between_calls[MultiHeadAttention]",
        {"(query, key, value, mask, causal).transpose": "(query, key, value, None if causal else mask, causal).transpose"},
    ),
    "everything is computed in float32": (
        "dot_product_attention",
        "TestProperties::test_computes_in_the_inputs_type[attention_weights]",
        {"    return masked_softmax(logits, mask)\n": "    return masked_softmax(logits.float(), mask).to(query.dtype)\n"},
    ),
    "a state undoes the mask": (
        "linear_attention",
        "TestProperties::test_no_state_between_calls[causal_linear_attention]",
        {"    if mask is not None:\n        k = k * mask[:, None, :, None]\n    S, z": "    if mask is not None and state is None:\n        k = k * mask[:, None, :, None]\n    S, z"},
    ),
    "an offset is added to positions": (
        "rope",
        "TestProperties::test_no_state_between_calls[half-split]",
        {"cos, sin = self.cos[positions], self.sin[positions]": "cos, sin = self.cos[positions + offset], self.sin[positions + offset]"},
    ),
    "no gradient reaches queries and keys": (
        "dot_product_attention",
        "TestProperties::test_is_differentiable[dot_product_attention]",
        {"    return (weights @ wide(value)[0])": "    return (weights.detach() @ wide(value)[0])"},
    ),
    "masks are made once": (
        "dot_product_attention",
        "TestProperties::test_no_state_between_calls[dot_product_attention]",
        {
            "def causal_mask(": "KEPT = {}\n\n\ndef causal_mask(",
            "    return torch.ones(queries, keys, dtype": "    if queries not in KEPT:\n        KEPT[queries] = torch.ones(queries, 7, dtype",
            ".tril(keys - queries)\n": ".tril(7 - queries)\n    return KEPT[queries][:, :keys]\n",
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def engine():
    with Engine() as engine:
        yield engine


def exercise_of(slug):
    return next(exercise for exercise in catalog.exercises() if exercise.slug == slug)


@pytest.fixture
def grade(engine):
    """Grades a text as an answer to an exercise, by its slug."""

    def grade(slug, text, **how):
        how = {"diagnose": False, **how}
        return engine.grade(Order(exercise_of(slug), Path(f"{slug}.py"), text, **how))

    return grade


@pytest.mark.parametrize("name", WRONG)
def test_a_kind_of_wrong_answer_is_refused(grade, name):
    slug, test, changes = WRONG[name]
    text = exercise_of(slug).text
    for old, new in changes.items():
        assert text.count(old) == 1, (text.count(old), old)
        text = text.replace(old, new)
    verdict = grade(slug, text, stop=True, first=(test,)).verdict
    (found,) = [result for result in verdict.tests if result.name == test]
    assert found.outcome is Outcome.FAILED, verdict.message


NOTHING = "\n\n{name} = lambda *args, **kwargs: None\n"


@pytest.mark.parametrize("slug", ["dot_product_attention", "bpe", "ngram"])
def test_nothing_at_all_holds_no_property(grade, slug):
    """Results that are consistent are not right yet."""
    exercise = exercise_of(slug)
    functions = [part.name for part in exercise.parts if part.name in part.stubs]
    text = exercise.text + "".join(NOTHING.format(name=name) for name in functions)
    tests = grade(slug, text).verdict.tests
    held = [t.name for t in tests if t.category == "properties" and t.part in functions and t.outcome is Outcome.PASSED]
    assert held == []


def test_float32_arithmetic_is_named_in_words(grade):
    slug, test, changes = WRONG["everything is computed in float32"]
    ((old, new),) = changes.items()
    verdict = grade(slug, exercise_of(slug).text.replace(old, new)).verdict
    (found,) = [result for result in verdict.tests if result.name == test]
    assert "it is right to float32 alone" in found.message


@pytest.mark.parametrize("slug", ["adamw", "combination_sum_ii"])
def test_every_generic_mistake_is_refused(grade, slug):
    proven = {}
    complaints = coverage.complaints(exercise_of(slug), functools.partial(grade, slug), proven.setdefault)
    assert list(complaints) == []
    names = {test.unrun.name for test in collect.collect(exercise_of(slug)).tests.values()}
    assert proven.keys() == {name for name in names if name.startswith("TestProperties")}


def declared(monkeypatch, exercise, *cases):
    """Let a suite declare other properties; its tests stay."""
    collect.collect(exercise)
    monkeypatch.setattr(collect.load(exercise), "TestProperties", types.SimpleNamespace(cases=cases))


def test_a_part_without_a_property_is_a_hole(monkeypatch):
    exercise = exercise_of("bpe")
    kept = tuple(case for case in coverage.cases(exercise) if case.part != "split_special")
    declared(monkeypatch, exercise, *kept)
    ((what, mend),) = coverage.holes(exercise)
    assert what.startswith("part `split_special` takes sequences and holds none of") and "TestProperties" in mend
    assert any("split_special" in line and line.endswith(" -") for line in coverage.lines(exercise))


def test_a_declaration_without_teeth_is_found(monkeypatch, grade):
    exercise = exercise_of("maximum_gap")
    (case, _) = coverage.cases(exercise)
    tame = dataclasses.replace(no_state_between_calls, mistaken=harmless)
    declared(monkeypatch, exercise, dataclasses.replace(case, properties=(tame,)))
    said = [what for what, _ in coverage.complaints(exercise, functools.partial(grade, "maximum_gap"), {}.setdefault)]
    assert said == [
        "TestProperties::test_no_state_between_calls[maximum_gap] lets the generic mistake `keeps-state` of "
        "`no_state_between_calls` pass"
    ]


def harmless(original):
    return original


def test_what_is_planted_replaces_a_method():
    text = any_layout.plant("class C:\n    def forward(self, x):\n        return x\n", "C.forward")
    names: dict = {}
    exec(text, names)
    assert names["C"]().forward(5) == 5
    assert names["C"].forward.__wrapped__


@probe
def twice(module, x):
    """Twice a number."""
    return 2 * module.f(x)


def test_a_property_calls_the_suites_own_probe():
    names: dict = {}
    for of, result in ((None, 3), (twice, 6)):
        spec = probe_spec(bound(in_turn, of, None))
        exec("import functools\nprobe = lambda f: f\n" + spec["source"], names)
        module = types.SimpleNamespace(f=lambda x: x)
        assert names["in_turn"](module, "f", [((), [((3,), {})])]) == [[result]]


def test_two_probes_of_one_name_do_not_cross_together():
    other = types.FunctionType(twice.__code__, {}, "in_turn")
    with pytest.raises(TypeError, match="two probes are called `in_turn`"):
        probe_spec(bound(in_turn, probe(other), None))
