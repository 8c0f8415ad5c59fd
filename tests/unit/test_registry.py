"""Builders by name; what they build remembers how."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from psiphi.basis.errors import ArgumentError, MissingVerb, PsiphiError
from psiphi.basis.provenance import provenance, versions
from psiphi.basis.registry import Registry, attacks, models


@dataclass(frozen=True)
class Thing:
    total: int


@pytest.fixture
def registry() -> Registry:
    made = Registry("thing", "psiphi.basis.registry")

    def adder(a, b=2, *, c=3):
        """Adds.

        More about it."""
        return Thing(a + b + c)

    def silent():
        return Thing(0)

    made.register(adder)
    made.register(silent)
    return made


@pytest.mark.parametrize(
    ("args", "kwargs", "arguments"),
    [
        ((1,), {}, {"a": 1, "b": 2, "c": 3}),
        ((1, 5), {"c": 9}, {"a": 1, "b": 5, "c": 9}),
        ((), {"b": 0, "a": 4}, {"a": 4, "b": 0, "c": 3}),
    ],
)
def test_a_value_remembers_its_arguments_and_can_be_built_again(registry, args, kwargs, arguments):
    made = registry["adder"].build(*args, **kwargs)
    assert made.recipe == {"thing": "adder", "arguments": arguments}
    assert registry["adder"].build(**made.recipe["arguments"]) == made == Thing(sum(arguments.values()))


def test_a_builder_with_free_arguments_can_be_built_again(registry):
    @registry.register
    def free(a, **rest):
        return Thing(a + sum(rest.values()))

    made = free(1, b=2, c=3)
    assert registry["free"].build(**made.recipe["arguments"]) == made == Thing(6)


def test_register_gives_back_a_function_like_the_one_it_was_given(registry):
    @registry.register
    def another(n: int) -> Thing:
        """Makes."""
        return Thing(n)

    assert (another.__name__, another.__doc__) == ("another", "Makes.")
    assert another(3).recipe == {"thing": "another", "arguments": {"n": 3}}
    with pytest.raises(TypeError, match="missing a required argument: 'n'"):
        another()
    with pytest.raises(TypeError, match="unexpected keyword argument 'm'"):
        another(1, m=2)


def test_entries_know_their_summary_and_parameters(registry):
    assert [entry.name for entry in registry] == ["adder", "silent"]
    assert [entry.summary for entry in registry] == ["Adds.", ""]
    assert list(registry["adder"].parameters) == ["a", "b", "c"]
    assert registry["adder"].parameters["b"].default == 2
    assert "adder" in registry
    assert "subtracter" not in registry


def test_an_unknown_name_gets_a_hint(registry):
    with pytest.raises(ArgumentError, match=r"no thing is called 'ader'; did you mean adder\?"):
        registry["ader"]
    with pytest.raises(ArgumentError, match=r"no thing is called 'qqq'; one of: adder, silent\."):
        registry["qqq"]


def test_a_look_up_fills_the_registry():
    assert {"ae", "vae", "pca", "classifier"} <= {entry.name for entry in models}
    assert "pgd" in attacks
    assert (models.home, attacks.home) == ("psiphi.zoo", "psiphi.attacks")


def test_a_missing_verb_asks_who_can_only_when_it_is_read():
    asked = []

    def who(verb: str) -> list[str]:
        asked.append(verb)
        return ["pca", "vae"]

    error = MissingVerb("ae", "sample", "it has no prior", who)
    assert isinstance(error, AttributeError)
    assert isinstance(error, PsiphiError)
    assert (error.model, error.verb, error.reason, asked) == ("ae", "sample", "it has no prior", [])
    assert str(error) == "ae cannot sample: it has no prior. Models that can: pca, vae."
    assert asked == ["sample"]
    assert str(MissingVerb("ae", "fly")) == "ae cannot fly."
    assert str(MissingVerb("ae", "fly", who=lambda verb: [])) == "ae cannot fly."


def test_provenance_names_versions_and_facts():
    found = provenance(seed=3, data="abc")
    assert (found["seed"], found["data"], found["versions"]) == (3, "abc", versions())
    assert {"python", "psiphi", "torch", "numpy", "scikit-learn"} <= versions().keys()
    assert "not installed" not in versions().values()
    assert json.loads(json.dumps(found)) == found
