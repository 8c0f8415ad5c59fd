"""What every model of the zoo promises of its verbs. A new model is tested by being registered."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import (
    ALWAYS_EXACT,
    ASK,
    CASES,
    DISCRETE,
    LATENT,
    OF_DATA,
    ROWS,
    SHAPE,
    codes,
    digits,
    same_state,
    state,
    trained,
    verbs_of,
)
from psiphi.basis.errors import ArgumentError, DataError, MissingVerb, PsiphiError, ShapeError
from psiphi.basis.registry import models
from psiphi.models import DenoiserModel, Generator, _base, _latent
from psiphi.models._base import VERBS

exactly = dict(rtol=0, atol=0)
every_case = pytest.mark.parametrize("name", CASES)

WIDTHS = {
    "encode": None, "posterior": None, "decode": SHAPE, "reconstruct": SHAPE, "sample": SHAPE,
    "log_prob": (), "anomaly_score": (), "denoise": SHAPE, "score": SHAPE, "project": SHAPE, "impute": SHAPE,
    "predict": (),
}  # fmt: skip


def width_of(model, verb: str) -> tuple[int, ...]:
    code = getattr(model, "latent_dim", LATENT)
    return {"encode": (code,), "posterior": (2 * code,)}.get(verb, WIDTHS[verb])


def test_the_battery_knows_every_verb():
    assert set(ASK) == set(VERBS) == set(WIDTHS)


# ---------------------------------------------------------------------------------------- which verbs
@every_case
def test_can_is_what_there_is(name):
    model = trained(name)
    assert model.can == tuple(verb for verb in VERBS if hasattr(model, verb))
    assert model.can
    assert set(model.can) == set(dir(model)) & set(VERBS)
    assert all(inspect.getdoc(getattr(model, verb)) for verb in model.can)


@every_case
def test_every_verb_answers_for_each_row(name):
    model, x = trained(name), CASES[name].x
    for verb in verbs_of(model):
        answer = ASK[verb](model, x)
        assert answer.shape == (ROWS, *width_of(model, verb)), verb
        assert answer.isfinite().all(), verb
        assert len(answer.unique(dim=0)) > 1, verb
        assert_close(ASK[verb](model, x), answer, **exactly, msg=f"{verb} asked twice")


@every_case
def test_a_missing_verb_names_models_that_have_it(name):
    model = trained(name)
    for verb in set(VERBS) - set(model.can):
        with pytest.raises(MissingVerb) as caught:
            getattr(model, verb)
        assert isinstance(caught.value, AttributeError)
        message = str(caught.value)
        assert message.startswith(f"{CASES[name].model} cannot {verb}")
        able = [each for each in CASES if CASES[each].model == each and verb in trained(each).can]
        if able:
            assert message.endswith(f". Models that can: {', '.join(able)}.")
        else:
            assert "Models that can" not in message


# -------------------------------------------------------------------------------- what a verb leaves
def mixed_modes(model: nn.Module) -> list[bool]:
    """Every second module in train mode."""
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    return [module.training for module in model.modules()]


@every_case
def test_verbs_leave_the_model_and_the_world_as_found(name):
    model, x = trained(name), CASES[name].x
    model.bystander = nn.BatchNorm1d(1)
    modes = mixed_modes(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before, given = state(model), x.clone()
    torch.manual_seed(3)
    global_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for verb in verbs_of(model):
        ASK[verb](model, x)
        assert [module.training for module in model.modules()] == modes, verb
        same_state(before, state(model))
        assert torch.equal(torch.get_rng_state(), global_state), verb
    for verb in verbs_of(model, OF_DATA):
        with pytest.raises(PsiphiError):
            ASK[verb](model, torch.full_like(x, torch.nan))
        assert [module.training for module in model.modules()] == modes, f"{verb} after an error"
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.equal(x, given)
    assert all((parameter.grad == 0.5).all() for parameter in model.parameters())


@every_case
def test_verbs_run_in_eval_mode(name):
    """Dropout in every network, switched on: no verb is random."""
    model, x = trained(name), CASES[name].x
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential) and not type(module).__module__.startswith("zuko"):
            module.insert(0, nn.Dropout(0.5))
    model.train()
    for verb in verbs_of(model):
        assert_close(ASK[verb](model, x), ASK[verb](model, x), **exactly, msg=verb)


# -------------------------------------------------------------------------------------------- samples
every_sampler = pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if hasattr(case.build(), "sample")]
)


@every_sampler
@pytest.mark.parametrize("exact", [False, True])
def test_sample_i_of_a_seed_is_the_same_whatever_n(name, exact):
    model = trained(name)
    whole = model.sample(150, seed=3, exact=exact)
    assert whole.shape == (150, *SHAPE)
    for n in (1, 5, 64, 65, 129):
        assert_close(model.sample(n, seed=3, exact=exact), whole[:n], rtol=1e-4, atol=1e-4)
    double = model.double()
    whole = double.sample(150, seed=3, exact=exact)
    assert whole.dtype == torch.float64
    for n in (1, 5, 64, 65, 129):
        assert_close(double.sample(n, seed=3, exact=exact), whole[:n], rtol=1e-12, atol=1e-12)


@every_sampler
def test_samples_follow_their_seed(name):
    model = trained(name)
    first = model.sample(20, seed=3)
    torch.manual_seed(99)
    assert_close(model.sample(20, seed=3), first, **exactly)
    other = model.sample(20, seed=4)
    assert (first - other).flatten(1).abs().amax(1).min() > 0
    assert len(first.unique(dim=0)) == 20
    drawn = model.sample(20, seed=3, exact=True)
    if CASES[name].model in ALWAYS_EXACT:
        assert_close(drawn, first, **exactly)
    else:
        assert (drawn - first).flatten(1).abs().amax(1).min() > 0


@every_sampler
@pytest.mark.parametrize("n", [0, -1, 2.5, "3", None])
def test_a_number_of_samples_that_is_none_gets_a_sentence(name, n):
    with pytest.raises(ArgumentError, match="number of samples must be an integer of at least 1"):
        trained(name).sample(n)


@every_case
def test_numpy_integers_count_as_well(name, tmp_path):
    plain = {"seed": 2, "hidden": (9,), "latent_dim": 3, "classes": 10}
    plain = {key: value for key, value in plain.items() if key in models[CASES[name].model].parameters}
    model = CASES[name].build(
        **{k: tuple(map(np.int64, v)) if k == "hidden" else np.int64(v) for k, v in plain.items()}
    )
    same_state(state(CASES[name].build(**plain)), state(model))
    pp.fit(
        model,
        CASES[name].x,
        digits()[1],
        steps=np.int64(1),
        batch_size=np.int64(32),
        seed=np.int64(0),
        quiet=True,
    )
    json.dumps(model.provenance)
    model.save(tmp_path)
    assert (
        pp.load(tmp_path).recipe["arguments"].items()
        >= {k: v for k, v in plain.items() if k != "hidden"}.items()
    )
    if "sample" in model.can:
        assert_close(model.sample(np.int64(3), seed=np.int64(2)), model.sample(3, seed=2), **exactly)


@every_sampler
def test_a_seed_that_is_none_gets_a_sentence(name):
    with pytest.raises(ArgumentError, match=r"a seed is a whole number; got 1\.5"):
        trained(name).sample(3, seed=1.5)


# ------------------------------------------------------------------------------------ what x may be
@every_case
def test_bytes_are_fractions_of_255(name):
    model, levels = trained(name), (CASES[name].x * 255).round().to(torch.uint8)
    for verb in verbs_of(model):
        assert_close(ASK[verb](model, levels), ASK[verb](model, levels.float() / 255), **exactly, msg=verb)
        assert_close(ASK[verb](model, levels.numpy()), ASK[verb](model, levels), **exactly, msg=verb)


@every_case
def test_arrays_flat_rows_and_other_precisions_are_taken(name):
    model, x = trained(name), CASES[name].x
    forms = {
        "numpy": x.numpy(),
        "flat": x.flatten(1),
        "flat numpy": x.flatten(1).numpy(),
        "float64": x.double(),
        "numpy float64": x.double().numpy(),
        "a list": x.tolist(),
        "not contiguous": x.repeat_interleave(2, 0)[::2],
        "with gradient": x.clone().requires_grad_(),
    }
    for verb in verbs_of(model, OF_DATA):
        wanted = ASK[verb](model, x)
        # A trace that is differentiated takes other kernels, whose rounding the flow carries along.
        slack = 3e-5 if verb == "log_prob" and isinstance(model, DenoiserModel) else 1e-6
        for form, given in forms.items():
            answer = ASK[verb](model, given)
            assert answer.device == wanted.device
            assert_close(
                answer, wanted, rtol=slack, atol=slack, msg=lambda m, v=verb, f=form: f"{v} of {f}: {m}"
            )


@every_case
def test_numbers_that_are_not_finite_get_a_sentence(name):
    model, x = trained(name), CASES[name].x.clone()
    x[3, 0, 2, 2], x[17, 0, 0, 0] = torch.nan, torch.inf
    for verb in verbs_of(model, OF_DATA):
        with pytest.raises(DataError, match=r"x has NaN or infinity in 2 of 64 rows \(rows 3, 17\): remove"):
            ASK[verb](model, x)
    if "decode" in model.can:
        z = codes(model, 5)
        z[4, 1] = torch.nan
        with pytest.raises(DataError, match=r"z has NaN or infinity in 1 of 5 rows \(rows 4\)"):
            model.decode(z)
        with pytest.raises(
            ShapeError,
            match=rf"z has shape \(5, 9\); the model takes \(B, {getattr(model, 'latent_dim', LATENT)}\)",
        ):
            model.decode(torch.zeros(5, 9))


@every_case
def test_other_shapes_get_a_sentence(name):
    model, x = trained(name), CASES[name].x
    for verb in verbs_of(model, OF_DATA):
        with pytest.raises(ShapeError, match=r"x has shape \(64, 1, 8, 7\); the model takes \(B, 1, 8, 8\)"):
            ASK[verb](model, x[..., :7])
        with pytest.raises(ShapeError, match=r"x has shape \(1, 8, 8\), one sample; .* pass x\[None\]"):
            ASK[verb](model, x[0])
        with pytest.raises(DataError, match="x is no array of numbers"):
            ASK[verb](model, "digits")


@every_case
def test_an_empty_batch_gets_an_empty_answer(name):
    model = trained(name)
    for verb in verbs_of(model, OF_DATA):
        assert ASK[verb](model, torch.zeros(0, *SHAPE)).shape == (0, *width_of(model, verb)), verb


# --------------------------------------------------------------------------------- rows are independent
@every_case
def test_rows_do_not_depend_on_the_batch(name):
    """Float64 to 10⁻¹²; `log_prob` draws for row i, so that the first rows stay the first."""
    model, x = trained(name).double(), CASES[name].x.double()
    for verb in verbs_of(model, OF_DATA):
        whole = ASK[verb](model, x)
        for n in (1, 7, 63):
            assert_close(ASK[verb](model, x[:n]), whole[:n], rtol=1e-12, atol=1e-12, msg=f"{verb} of {n}")
        if verb != "log_prob":
            order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
            assert_close(
                ASK[verb](model, x[order]), whole[order], rtol=1e-12, atol=1e-12, msg=f"{verb} shuffled"
            )


@every_case
def test_rows_do_not_depend_on_the_batch_in_single_precision(name):
    model, x = trained(name), CASES[name].x
    for verb in verbs_of(model, OF_DATA):
        whole = ASK[verb](model, x)
        assert_close(ASK[verb](model, x[:5]), whole[:5], rtol=1e-4, atol=1e-4, msg=verb)


@every_case
def test_rows_do_not_depend_on_the_chunks(name, monkeypatch):
    model, x = trained(name).double(), CASES[name].x.double().repeat(3, 1, 1, 1)[:130]
    whole = {verb: ASK[verb](model, x) for verb in verbs_of(model)}
    monkeypatch.setattr(_base, "CHUNK_NUMBERS", 1)
    monkeypatch.setattr(_latent, "DRAW_NUMBERS", 7 * 64)  # one row at a time, of its 20 draws 7
    for verb, wanted in whole.items():
        assert_close(ASK[verb](model, x), wanted, rtol=1e-12, atol=1e-12, msg=verb)


# ------------------------------------------------------------------------------------------- gradients
@every_case
def test_verbs_are_differentiable(name):
    """Autograd's directional derivative is the one measured, in float64."""
    model = trained(name).double()
    gen = torch.Generator().manual_seed(0)
    x = (0.2 + 0.6 * torch.rand(3, *SHAPE, generator=gen)).double()
    z = codes(model, 3) if "decode" in model.can else None
    smooth = [verb for verb in verbs_of(model, OF_DATA) if verb not in DISCRETE]
    if CASES[name].binary:
        smooth.remove("log_prob")  # it is for pixels of 0 and 1 alone
    asked = [(verb, x, lambda at, verb=verb: ASK[verb](model, at)) for verb in smooth]
    asked += [] if z is None else [("decode", z, model.decode)]
    if isinstance(model, nn.Module):
        asked.append(
            ("forward", codes(model, 3), model._decode)
            if isinstance(model, Generator)
            else ("forward", x, model)
        )
    for verb, at, call in asked:
        direction = torch.randn(at.shape, generator=gen, dtype=torch.float64)
        leaf = at.clone().requires_grad_()
        answer = call(leaf)
        weights = torch.randn(answer.shape, generator=gen, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((answer * weights).sum(), leaf)
        step = 1e-6
        with torch.no_grad():
            measured = ((call(at + step * direction) - call(at - step * direction)) * weights).sum() / (
                2 * step
            )
        assert gradient.abs().max() > 0, verb
        assert_close((gradient * direction).sum(), measured, rtol=1e-5, atol=1e-6, msg=verb)
