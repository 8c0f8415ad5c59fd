"""What every model of the zoo promises of training, files, your own networks, and its arguments."""

from __future__ import annotations

import inspect
import json
import re
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import (
    ASK,
    CASES,
    OWN,
    SHAPE,
    SLOTS,
    digits,
    fitted,
    in_slot,
    own,
    passes,
    same_state,
    state,
    trained,
    verbs_of,
)
from psiphi.basis.errors import ArgumentError, FileError, MissingVerb, ShapeError
from psiphi.basis.registry import models
from psiphi.models import LatentModel, _base
from psiphi.parts import Dirac, DistortionDecoder, Statistics, nll

exactly = dict(rtol=0, atol=0)
every_case = pytest.mark.parametrize("name", CASES)


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


NAMES = r"(?:[a-z_]+, )*[a-z_]+"
IN_PROSE = {"classes", "critic_hidden"}  # what a shape or another parameter's sentence tells of


@pytest.mark.parametrize("name", [entry.name for entry in models])
def test_every_model_is_documented(name):
    """`name: what it is` for each parameter, here or where the rest is as in, and for nothing that is none."""
    entry = models[name]
    assert re.fullmatch(r".{20,}\.", entry.summary), "the first line is a sentence"
    parts, doc = [], inspect.getdoc(entry.build) or ""
    while True:
        parts.append(doc.partition("\n")[2].partition("\nSource:")[0])
        said = re.search(r"rest\s+as in `(\w+)`", doc)
        if said is None:
            break
        doc = inspect.getdoc(models[said[1]].build) or ""
    told = [each.split(", ") for part in parts for each in re.findall(rf"\b({NAMES}):", part)]
    described = {parameter for names in told for parameter in names}
    for parameter in set(entry.parameters) - {"shape", "latent_dim", "seed", "net", "hidden"} - described:
        assert parameter in IN_PROSE, f"{name} does not say what {parameter} is"
        assert re.search(rf"\b{parameter}\b", "\n".join(parts)), f"{name} does not mention {parameter}"
    own = re.findall(rf"(?:^|[.;]\s)({NAMES}):\s", parts[0], re.M)
    gone = {parameter for names in own for parameter in names.split(", ")} - set(entry.parameters)
    assert not gone, f"{name} describes {gone}, which it does not take"
