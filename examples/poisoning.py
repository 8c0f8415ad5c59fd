"""A poisoned training set: a patch on 2 % of the rows opens a back door; four filters try to find them.

Each trial trains a clean network and a poisoned one from the same weights, filters the rows, and trains again.

    python examples/poisoning.py
"""

from _shared import size

import psiphi as pp
from psiphi.app.pictures import save_poisons

digits = pp.data.load("digits")
poison = pp.poisoning.backdoor(target=0, fraction=0.02)  # a patch in a corner, and the label says 0
tainted = poison(digits.train.x, digits.train.y, seed=0)
save_poisons("runs/poisoning.png", tainted.base_x[:16], tainted.x[tainted.rows][:16])
print(tainted)
print("runs/poisoning.png: rows before and after, and what was changed\n")


def network(seed):
    return pp.zoo.classifier(digits.shape, hidden=(128,), seed=seed)


def filtered(method):
    return lambda x, y, model: pp.defenses.filter_poison(x, y, method, model=model, fraction=0.02)


def line(name, found, success, accuracy, recall="", removed=""):
    told = [f"{found.column(each).mean():.1%}" for each in (success, accuracy)]
    print(f"{name:<16} {recall:>16} {removed:>13} {told[0]:>24} {told[1]:>9}")


victim = pp.poisoning.Victim(network, {"epochs": size(20, 3)})
filters = ("reconstruction", "spectral", "clustering", "neighbours")
print(f"{'':<16} {'poisons removed':>16} {'rows removed':>13} {'success of the trigger':>24} {'accuracy':>9}")
for method in filters[: size(4, 1)]:
    n, how = size(3, 1), filtered(method)
    found = pp.poisoning.trials(poison, victim, digits.train, digits.test, n=n, filter=how)
    if method == filters[0]:
        line("clean rows", found, "control", "clean")
        line("no filter", found, "success", "accuracy")
    recall, removed = (found.column(each).mean() for each in ("recall", "removed"))
    line(method, found, "filtered_success", "filtered_accuracy", f"{recall:.1%}", f"{removed:.0f}")
