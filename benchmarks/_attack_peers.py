"""Other libraries' attacks, and the network that all sides attack; runs in the peers' interpreter.

Each entry of `SIDES` makes an attack from the row's settings: f(net, seed, **settings) → g(x, y) → images. What an
entry imports and builds is not timed. Settings are those of the row; all else is left as the library has it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Run = Callable[[Tensor, Tensor], Tensor]


def network(kind: str = "plain") -> nn.Sequential:
    """Two convolutions, two linear layers; of the kind "small", two strided convolutions and a linear layer."""
    if kind == "small":
        return nn.Sequential(
            *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 7 * 7, 10)),
        )
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


class Counted(nn.Module):
    """A network that counts the rows sent through it and back."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.forwards, self.backwards = net, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        logits = self.net(x)
        if logits.requires_grad:
            logits.register_hook(self.back)
        return logits

    def back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


# -------------------------------------------------------------------------------------------------------- PGD
def pgd_torchattacks(net: nn.Module, seed: int, eps: float, step: float, steps: int) -> Run:
    import torchattacks

    return torchattacks.PGD(net, eps=eps, alpha=step, steps=steps, random_start=True)


def pgd_foolbox(net: nn.Module, seed: int, eps: float, step: float, steps: int) -> Run:
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=True)
    return lambda x, y: attack(model, x, y, epsilons=eps)[1]


def pgd_art(net: nn.Module, seed: int, eps: float, step: float, steps: int) -> Run:
    from art.attacks.evasion import ProjectedGradientDescent

    attack = ProjectedGradientDescent(
        _art(net), norm=np.inf, eps=eps, eps_step=step, max_iter=steps, num_random_init=1, batch_size=256,
        verbose=False,
    )  # fmt: skip
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def pgd_adv_lib(net: nn.Module, seed: int, eps: float, step: float, steps: int) -> Run:
    attack = _adv_lib().pgd_linf
    return lambda x, y: attack(net, x, y, eps, steps=steps, absolute_step_size=step)


# ------------------------------------------------------------------------------------------------------- APGD
def apgd_reference(net: nn.Module, seed: int, eps: float, steps: int) -> Run:
    from pyautoattack.autopgd_base import APGDAttack

    return APGDAttack(net, n_iter=steps, norm="Linf", eps=eps, seed=seed, loss="ce", device="cpu").perturb


def apgd_adv_lib(net: nn.Module, seed: int, eps: float, steps: int) -> Run:
    attack = _adv_lib().apgd
    return lambda x, y: attack(net, x, y, eps, norm=float("inf"), n_iter=steps, loss_function="ce")


def apgd_torchattacks(net: nn.Module, seed: int, eps: float, steps: int) -> Run:
    import torchattacks

    return torchattacks.APGD(net, norm="Linf", eps=eps, steps=steps, seed=seed, loss="ce")


# --------------------------------------------------------------------------------------------- Carlini-Wagner
def cw_foolbox(net: nn.Module, seed: int, steps: int, bisections: int) -> Run:
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=bisections, steps=steps, stepsize=0.01, initial_const=1e-3
    )

    def run(x: Tensor, y: Tensor) -> Tensor:
        found = attack(model, x, y, epsilons=None)[1]
        return torch.where(found.flatten(1).any(1)[:, None, None, None], found, x)  # black where it failed

    return run


def cw_adv_lib(net: nn.Module, seed: int, steps: int, bisections: int) -> Run:
    attack = _adv_lib().carlini_wagner_l2
    return lambda x, y: attack(
        net,
        x,
        y,
        learning_rate=0.01,
        initial_const=1e-3,
        binary_search_steps=bisections,
        max_iterations=steps,
    )


def cw_art(net: nn.Module, seed: int, steps: int, bisections: int) -> Run:
    from art.attacks.evasion import CarliniL2Method

    attack = CarliniL2Method(
        _art(net), learning_rate=0.01, initial_const=1e-3, binary_search_steps=bisections, max_iter=steps,
        batch_size=32, verbose=False,
    )  # fmt: skip
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def cw_torchattacks(net: nn.Module, seed: int, steps: int, bisections: int) -> Run:
    import torchattacks

    return torchattacks.CW(net, steps=steps, lr=0.01)


# -------------------------------------------------------------------------------------------------------- DDN
def ddn_adv_lib(net: nn.Module, seed: int, steps: int) -> Run:
    attack = _adv_lib().ddn
    return lambda x, y: attack(net, x, y, steps=steps, levels=None)


def ddn_adv_lib_levels(net: nn.Module, seed: int, steps: int) -> Run:
    attack = _adv_lib().ddn
    return lambda x, y: attack(net, x, y, steps=steps)


def ddn_foolbox(net: nn.Module, seed: int, steps: int) -> Run:
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    attack = foolbox.attacks.DDNAttack(steps=steps)
    return lambda x, y: attack(model, x, y, epsilons=None)[1]


# -------------------------------------------------------------------------------------------------------- hop
class _Spent(Exception):
    """The last of the budgets is spent."""


class Watched(nn.Module):
    """A network of one image at a time that keeps the nearest point sent within each budget whose argmax is not y."""

    def __init__(self, net: nn.Module, x: Tensor, y: int, norm: str, budgets: list[int]):
        super().__init__()
        self.net, self.x, self.y, self.budgets, self.sent = net, x, y, budgets, 0
        self.order = 2.0 if norm == "L2" else float("inf")
        self.best, self.nearest = (
            torch.full((len(budgets), *x.shape), torch.nan),
            [float("inf")] * len(budgets),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x[: self.budgets[-1] - self.sent].to(self.x)  # ART sends doubles
        if not len(x):
            raise _Spent
        logits, inside = self.net(x), ((x >= 0) & (x <= 1)).flatten(1).all(1)
        far = (x - self.x).flatten(1).norm(self.order, dim=1)
        far[(logits.argmax(1) == self.y) | ~inside] = torch.inf
        for place, budget in enumerate(self.budgets):
            if len(some := far[: max(0, budget - self.sent)]) and some.min() < self.nearest[place]:
                self.nearest[place], self.best[place] = some.min().item(), x[some.argmin()].detach()
        self.sent += len(x)
        if self.sent >= self.budgets[-1]:
            raise _Spent
        return logits


def _watched(
    attack: Callable[[nn.Module, Tensor, Tensor], Any], net: nn.Module, norm: str, budgets: list[int]
) -> Run:
    """The nearest points within each budget, (n, budgets, *x); NaN where there is none."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        found = []
        for image, label in zip(x.split(1), y.split(1), strict=True):
            seen = Watched(net, image[0], int(label), norm, budgets).eval()
            try:
                attack(seen, image, label)
            except _Spent:
                pass
            except ValueError as error:  # foolbox, where no random image is misclassified
                print(error, file=sys.stderr)
            found.append(seen.best)
        return torch.stack(found)

    return run


def hop_foolbox(net: nn.Module, seed: int, norm: str, budgets: list[int]) -> Run:
    import foolbox

    attack = foolbox.attacks.HopSkipJumpAttack(steps=10_000, constraint=norm.lower())

    def one(seen: nn.Module, x: Tensor, y: Tensor) -> None:
        attack.run(foolbox.PyTorchModel(seen, bounds=(0, 1)), x, y)

    return _watched(one, net, norm, budgets)


def hop_art(net: nn.Module, seed: int, norm: str, budgets: list[int]) -> Run:
    from art.attacks.evasion import HopSkipJump

    def one(seen: nn.Module, x: Tensor, y: Tensor) -> None:
        order = 2 if norm == "L2" else "inf"
        attack = HopSkipJump(_art(seen), norm=order, max_iter=10_000, batch_size=64, verbose=False)
        attack.generate(x.numpy())

    return _watched(one, net, norm, budgets)


# ----------------------------------------------------------------------------------------------------- battery
def auto_reference(net: nn.Module, seed: int, eps: float) -> Run:
    from pyautoattack import AutoAttack

    attack = AutoAttack(net, norm="Linf", eps=eps, seed=seed, version="standard", device="cpu")
    attack.verbose = False
    return lambda x, y: attack.run_standard_evaluation(x, y, batch_size=len(x))[0]


def auto_torchattacks(net: nn.Module, seed: int, eps: float) -> Run:
    import torchattacks

    return torchattacks.AutoAttack(net, norm="Linf", eps=eps, version="standard", n_classes=10, seed=seed)


# -------------------------------------------------------------------------------------------------- universal
def universal_art(net: nn.Module, seed: int, eps: float) -> Run:
    """δ itself, (1, *x), where the others give images."""
    from art.attacks.evasion import UniversalPerturbation

    attack = UniversalPerturbation(
        _art(net), attacker_params={"verbose": False}, eps=eps, norm=np.inf, verbose=False
    )

    def run(x: Tensor, y: Tensor) -> Tensor:
        attack.generate(x.numpy(), y.numpy())
        return torch.from_numpy(attack.noise)

    return run


def universal_art_targeted(net: nn.Module, seed: int, eps: float, target: int) -> Run:
    from art.attacks.evasion import TargetedUniversalPerturbation

    attack = TargetedUniversalPerturbation(_art(net), eps=eps, norm=np.inf)

    def run(x: Tensor, y: Tensor) -> Tensor:
        attack.generate(x.numpy(), np.tile(np.eye(10)[target], (len(x), 1)))
        return torch.from_numpy(attack.noise)

    return run


# -------------------------------------------------------------------------------------------------- one pixel
def one_pixel_art(net: nn.Module, seed: int) -> Run:
    from art.attacks.evasion import PixelAttack

    attack = PixelAttack(_art(net), th=1, es=1, max_iter=100, verbose=False)
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def one_pixel_torchattacks(net: nn.Module, seed: int) -> Run:
    import torchattacks

    return torchattacks.OnePixel(net, pixels=1)


# ----------------------------------------------------------------------------------------------------- Square
def _single(attack: Any, seed: int) -> Run:
    """One run of images that are classified rightly: of each its queries, then the image, (n, 1 + d)."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        attack.device = x.device
        attack.init_hyperparam(x)
        torch.manual_seed(seed)
        spent, found = attack.attack_single_run(x, y)
        return torch.cat((spent[:, None], found.flatten(1)), 1)

    return run


def square_reference(net: nn.Module, seed: int, norm: str, eps: float, queries: int) -> Run:
    from pyautoattack.square import SquareAttack

    return _single(
        SquareAttack(net, norm=norm, n_queries=queries - 1, eps=eps, seed=seed, device="cpu"), seed
    )


def square_torchattacks(net: nn.Module, seed: int, norm: str, eps: float, queries: int) -> Run:
    import torchattacks

    return _single(torchattacks.Square(net, norm=norm, n_queries=queries - 1, eps=eps, seed=seed), seed)


SIDES: dict[str, dict[str, Callable[..., Run]]] = {
    "auto": {"reference": auto_reference, "torchattacks": auto_torchattacks},
    "pgd": {
        "torchattacks": pgd_torchattacks, "foolbox": pgd_foolbox, "ART": pgd_art, "adv-lib": pgd_adv_lib,
    },
    "apgd": {
        "reference": apgd_reference, "adv-lib": apgd_adv_lib, "torchattacks": apgd_torchattacks,
    },
    "cw": {
        "foolbox": cw_foolbox, "adv-lib": cw_adv_lib, "ART": cw_art, "torchattacks": cw_torchattacks,
    },
    "ddn": {
        "adv-lib": ddn_adv_lib, "adv-lib (256 levels)": ddn_adv_lib_levels, "foolbox": ddn_foolbox,
    },
    "one_pixel": {"ART": one_pixel_art, "torchattacks": one_pixel_torchattacks},
    "universal": {"ART": universal_art, "ART, targeted": universal_art_targeted},
    "hop": {
        "foolbox": hop_foolbox, "ART": hop_art,
    },
    "square": {
        "reference": square_reference, "torchattacks": square_torchattacks,
    },
}  # fmt: skip


def _art(net: nn.Module) -> Any:
    from art.estimators.classification import PyTorchClassifier

    loss = nn.CrossEntropyLoss()
    return PyTorchClassifier(net, loss=loss, input_shape=(1, 28, 28), nb_classes=10, clip_values=(0.0, 1.0))


def _adv_lib() -> Any:
    """adv-lib, which imports a plotting server and image models that none of the attacks here use."""
    for name, parts in {"visdom": ("Visdom",), "torchvision": ("models",)}.items():
        if importlib.util.find_spec(name) is None and name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
            for part in parts:
                setattr(sys.modules[name], part, None)
    import adv_lib.attacks

    return adv_lib.attacks


# ------------------------------------------------------------------------------------------------- the answers
def serve(folder: Path) -> None:
    """Answers each line: attack the images of `task`.npz, leave what came of it in `images`, count and time."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        question = json.loads(line)
        data = np.load(folder / f"{question['task']}.npz", allow_pickle=False)
        torch.set_num_threads(question["threads"])
        net = network(question["network"])
        net.load_state_dict({name: torch.from_numpy(data[f"net.{name}"]) for name in net.state_dict()})
        net = Counted(net).eval()
        x, y = (torch.from_numpy(data[name])[: question["rows"]] for name in ("x", "y"))
        torch.manual_seed(question["seed"])
        np.random.seed(question["seed"])  # noqa: NPY002  what ART draws from
        attack = SIDES[question["family"]][question["side"]](net, question["seed"], **question["settings"])
        warm_up(net, x[:64])
        found, seconds, cpu = [], 0.0, 0.0
        for images, labels in zip(x.split(question["batch"]), y.split(question["batch"]), strict=True):
            began, worked = time.perf_counter(), time.process_time()
            found.append(attack(images, labels).detach())
            seconds += time.perf_counter() - began
            cpu += time.process_time() - worked
        np.save(folder / question["images"], torch.cat(found).numpy())
        answer = {"seconds": seconds, "cpu": cpu, "forwards": net.forwards, "backwards": net.backwards}
        print(json.dumps(answer), file=answers, flush=True)


def warm_up(net: Counted, x: Tensor) -> None:
    """One pass there and back, uncounted: torch loads parts of itself at the first."""
    x = x.clone().requires_grad_()
    torch.autograd.grad(net(x).sum(), x)
    net.forwards = net.backwards = 0


if __name__ == "__main__":
    serve(Path(sys.argv[sys.argv.index("--peer") + 1]))
