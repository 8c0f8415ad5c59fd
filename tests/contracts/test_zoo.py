"""What every model of the zoo promises. A new model is tested by being registered."""

from __future__ import annotations

import inspect
import json
import re
from copy import deepcopy

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
    OWN,
    ROWS,
    SHAPE,
    SLOTS,
    codes,
    digits,
    fitted,
    in_slot,
    own,
    passes,
    state,
    trained,
    verbs_of,
)
from psiphi.basis.errors import ArgumentError, DataError, FileError, MissingVerb, PsiphiError, ShapeError
from psiphi.basis.registry import models
from psiphi.models import DenoiserModel, Generator, LatentModel, _base, _latent
from psiphi.models._base import VERBS
from psiphi.parts import Dirac, DistortionDecoder, Statistics, nll

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


def same_state(before: dict, after: dict) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert_close(after[key], value, **exactly, msg=key)


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


# --------------------------------------------------------------------------------------------- training
@every_case
def test_fit_leaves_eval_mode_and_no_trace_in_the_global_state(name):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = fitted(CASES[name], steps=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in model.modules())
    assert bool(model.statistics.measured)


@every_case
def test_training_lowers_the_loss_and_moves_every_parameter(name):
    """Of the rows trained on, with the same noise at each look: else a distance of codes and prior (`mmd`, weighed 99
    in info_vae) could rise by chance. A game's loss may rise; what it has of reconstruction falls."""
    model, fresh, x, y = trained(name), CASES[name].build(), CASES[name].x, digits()[1]
    if not list(model.parameters()):
        assert any(not torch.equal(a, b) for a, b in zip(model.buffers(), fresh.buffers()))
        return
    for (key, now), then in zip(model.named_parameters(), fresh.parameters()):
        assert not torch.equal(now, then) or indifferent(key, now), key
    history = pp.fit(fresh, x, y, validation=(x, y), epochs=8, batch_size=32, quiet=True)
    held = [part for part in history.rows[0] if part.startswith("validation_")]
    lone = len(fresh.players()) == 1
    for part in ["validation_loss"] if lone else [part for part in held if part.endswith("nll")]:
        assert history[part][-1] < history[part][0], part


def indifferent(key: str, value: torch.Tensor) -> bool:
    """A critic's last bias, which cancels from the difference of two scores."""
    return "critic" in key and value.shape == (1,)


@every_case
def test_the_seed_decides_the_weights(name):
    case = CASES[name]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = case.build(seed=5), case.build(seed=5), case.build(seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    same_state(state(first), state(again))
    for (key, mine), theirs in zip(first.named_parameters(), other.parameters()):
        if mine.ndim > 1 and mine.any():
            assert not torch.equal(mine, theirs), key


@every_case
def test_the_seed_of_fit_decides_the_result(name):
    torch.manual_seed(1)
    first = fitted(CASES[name], steps=3, seed=5)
    torch.manual_seed(2)
    same_state(state(first), state(fitted(CASES[name], steps=3, seed=5)))
    other = fitted(CASES[name], steps=3, seed=6)
    for (key, mine), theirs in zip(first.named_parameters(), other.parameters()):
        if mine.ndim > 1 and mine.any():
            assert not torch.equal(mine, theirs), key


@every_case
def test_a_run_goes_on_from_its_folder(name, tmp_path):
    case = CASES[name]
    whole = fitted(case, steps=12, out=tmp_path / "whole")
    fitted(case, steps=6, out=tmp_path / "run")
    assert case.build().statistics.measured.item() is False
    resumed = fitted(case, steps=12, out=tmp_path / "run", resume=True)
    same_state(state(whole), state(resumed))
    same_state(state(whole), state(pp.load(tmp_path / "run")))


@every_case
def test_training_goes_on_from_a_loaded_model(name, tmp_path):
    trained(name).save(tmp_path)
    model = pp.load(tmp_path)
    before = state(model)
    pp.fit(model, CASES[name].x, digits()[1], steps=2, quiet=True)
    for key, value in model.named_parameters():
        assert not torch.equal(value, before[key]) or indifferent(key, value), key
    same_state(
        {k: v for k, v in before.items() if "statistics" in k},
        {k: v for k, v in state(model).items() if "statistics" in k},
    )


# ------------------------------------------------------------------------------------------------ files
@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_loaded_is_what_was_saved(name, dtype, tmp_path):
    model, x = trained(name).to(dtype), CASES[name].x
    pp.save(model, tmp_path / "model")
    loaded = pp.load(tmp_path / "model")
    same_state(state(model), state(loaded))
    assert type(loaded) is type(model)
    assert loaded.dtype == dtype
    assert (loaded.title, loaded.can, loaded.shape) == (model.title, model.can, model.shape)
    assert loaded.provenance == model.provenance
    assert json.loads(json.dumps(loaded.recipe)) == json.loads(json.dumps(model.recipe))
    assert not any(module.training for module in loaded.modules())
    for verb in verbs_of(model):
        assert_close(ASK[verb](loaded, x), ASK[verb](model, x), **exactly, msg=verb)


@every_case
def test_an_untrained_model_is_saved_as_well(name, tmp_path):
    model = CASES[name].build(seed=9)
    model.save(tmp_path)
    same_state(state(model), state(pp.load(tmp_path)))


@every_case
def test_recipe_and_provenance_are_plain_and_complete(name):
    model, case = trained(name), CASES[name]
    recipe = json.loads(json.dumps(model.recipe))
    assert recipe["model"] == case.model
    assert set(recipe["arguments"]) == set(models[case.model].parameters)
    again = models[case.model].build(**recipe["arguments"])
    same_state(state(case.build()), state(again))
    provenance = json.loads(json.dumps(model.provenance))
    assert provenance == model.provenance
    assert provenance["seed"] == 0
    assert {"torch", "psiphi"} <= provenance["versions"].keys()


@every_case
def test_provenance_tells_data_apart(name):
    case = CASES[name]
    found = []
    for x in (case.x, case.x, 1 - case.x):
        model = case.build()
        pp.fit(model, x, digits()[1], steps=1, quiet=True)
        found.append(model.provenance["data"])
    assert found[0] == found[1] != found[2]


@every_case
def test_loading_into_the_wrong_model_gets_a_sentence(name, tmp_path):
    trained(name).save(tmp_path)
    other = "pca" if CASES[name].model != "pca" else "ae"
    with pytest.raises(FileError, match="the weights belong to another model"):
        pp.load(tmp_path, into=CASES[other].build())
    changed = next(
        each
        for each in ("latent_dim", "components", "classes")
        if each in models[CASES[name].model].parameters
    )
    with pytest.raises(FileError, match=r"has shape .* the model needs"):
        pp.load(tmp_path, into=CASES[name].build(**{changed: 3}))


# ------------------------------------------------------------------------------------ your own networks
every_slot = pytest.mark.parametrize(("name", "slot"), OWN)


class Fixed(nn.Module):
    """Gives one shape whatever comes."""

    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape

    def forward(self, x, *told):
        return torch.zeros(len(x), *self.shape)


@every_slot
def test_your_own_network_takes_the_slot(name, slot, tmp_path):
    given, mine = own(name, slot)
    before, rng = state(given), torch.get_rng_state()
    model = CASES[name].build(**{slot: given})
    same_state(before, state(given))
    assert mine.training
    assert mine.drop.training
    assert torch.equal(torch.get_rng_state(), rng)
    assert SLOTS[slot](model) is given
    pp.fit(model, CASES[name].x, digits()[1], steps=3, quiet=True)
    assert int(mine.norm.num_batches_tracked) == 3 * passes(model, slot)
    buffers = state(model)
    answers = {verb: ASK[verb](model, CASES[name].x) for verb in verbs_of(model)}
    same_state(buffers, state(model))
    json.dumps(model.provenance)

    plain = CASES[name].build(
        **{slot: in_slot(name, slot, deepcopy(mine.inner))}
    )  # what `mine` is in eval mode
    plain.load_state_dict({k.replace(".inner.", "."): v for k, v in buffers.items() if ".norm." not in k})
    model.save(tmp_path)
    with pytest.raises(
        FileError,
        match=rf"built with {slot}={type(given).__name__} of your own; .*pp\.load\(path, into=model\)",
    ):
        pp.load(tmp_path)
    loaded = pp.load(tmp_path, into=CASES[name].build(seed=8, **{slot: own(name, slot)[0]}))
    assert loaded.provenance == model.provenance
    for verb, answer in answers.items():
        assert_close(ASK[verb](plain, CASES[name].x), answer, **exactly, msg=f"{verb} by the network alone")
        assert_close(ASK[verb](loaded, CASES[name].x), answer, **exactly, msg=f"{verb} of what was loaded")


def test_every_parameter_that_takes_a_module_is_a_slot():
    assert {slot for _, slot in OWN} == set(SLOTS)
    assert {name for name, slot in OWN if slot == "critic"} >= {"gan", "wgan", "wgan_gp", "aae", "vae_gan"}


@every_slot
def test_a_network_of_another_shape_gets_a_sentence(name, slot):
    what = "encoder|network|classifier" if slot in ("encoder", "network") else slot
    with pytest.raises(
        ShapeError, match=rf"your ({what}) gives \(2, 3, 5\) for a batch of 2; \(2, .*\) is needed"
    ):
        CASES[name].build(**{slot: in_slot(name, slot, Fixed(3, 5))})
    with pytest.raises(ShapeError, match=rf"your ({what}) cannot take \(2, "):
        CASES[name].build(**{slot: in_slot(name, slot, nn.Linear(999, 3))})


def test_a_builder_of_your_own_is_known_to_files(tmp_path):
    @pp.zoo.register
    def mine(shape, width, *, bias: bool = True, seed: int = 0):
        """My autoencoder."""
        statistics = Statistics(tuple(shape))
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, width, bias=bias))
        decoder = nn.Sequential(nn.Linear(width, 64), nn.Unflatten(1, tuple(shape)))
        return LatentModel(
            statistics, width, Dirac(encoder, statistics),
            DistortionDecoder(decoder, tuple(shape), statistics), objective=nll,
        )  # fmt: skip

    try:
        model, x = mine(SHAPE, 3, bias=False), digits()[0]
        assert model.title == "mine"
        assert "mine" in models
        pp.fit(model, x, steps=2, quiet=True)
        model.save(tmp_path)
        loaded = pp.load(tmp_path)
        assert_close(loaded.reconstruct(x), model.reconstruct(x), **exactly)
        assert_close(pp.load(tmp_path, into=mine(SHAPE, 3, bias=False)).encode(x), model.encode(x), **exactly)
        # `who_can` builds an example of every model; one that needs more than usual is left out, not fatal.
        _base.who_can.cache_clear()
        with pytest.raises(MissingVerb, match=r"mine cannot sample: .* Models that can: .*vae"):
            model.sample(3)
    finally:
        del models._entries["mine"]
        _base.who_can.cache_clear()
    with pytest.raises(FileError, match="no builder is called 'mine': import the module that registers it"):
        pp.load(tmp_path)


# ------------------------------------------------------------------------------- arguments of the zoo
@pytest.mark.parametrize("name", [entry.name for entry in models if "latent_dim" in entry.parameters])
def test_a_code_that_is_too_large_or_none_gets_a_sentence(name):
    if name in (
        "k_sparse_ae",
        "sparse_ae",
        "denoising_ae",
        "gan",
        "wgan",
        "wgan_gp",
    ):  # no copy, whatever its size
        assert CASES[name].build(latent_dim=65).latent_dim == 65
    else:
        with pytest.raises(ArgumentError, match="a latent of 65 is larger than the data"):
            CASES[name].build(latent_dim=65)
    with pytest.raises(ArgumentError, match=r"latent_dim must be at least [01]; got -1"):
        CASES[name].build(latent_dim=-1)


@pytest.mark.parametrize("name", [entry.name for entry in models if "net" in entry.parameters])
def test_an_unknown_network_gets_a_sentence(name):
    for hidden in (512, (0,), (16, -1), ("a",), (2.5,)):
        with pytest.raises(ArgumentError, match="hidden is a list of widths of at least 1"):
            CASES[name].build(hidden=hidden)
    with pytest.raises(ArgumentError, match=r"no network is called 'transformer'; use mlp or (conv|unet)"):
        CASES[name].build(net="transformer")


@pytest.mark.parametrize("name", [entry.name for entry in models])
def test_every_model_is_documented(name):
    entry = models[name]
    doc = inspect.getdoc(entry.build)
    assert re.fullmatch(r".{20,}\.", entry.summary), "the first line is a sentence"
    assert doc is not None
    described = doc.split("\n", 1)[1]
    while said := re.search(r"rest\s+as in `(\w+)`", doc):  # and what that one says, and so on
        doc = inspect.getdoc(models[said[1]].build) or ""
        described += doc
    for parameter in set(entry.parameters) - {"shape", "latent_dim", "seed", "net", "hidden"}:
        assert re.search(rf"\b{parameter}\b", described), f"{name} does not say what {parameter} is"
