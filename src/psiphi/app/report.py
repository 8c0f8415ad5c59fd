"""One self-contained HTML file that tells a `Story`: no network, no script needed to read it."""

from __future__ import annotations

from math import isfinite, log
from pathlib import Path
from typing import Any

from psiphi.app import _attacked as attacked
from psiphi.app import _console as console
from psiphi.app import _figures as figures
from psiphi.app import _pages as pages
from psiphi.app import fields, gallery, modes_map, pictures, plots
from psiphi.app._judge import GRAY_ALONE
from psiphi.app._story import Story
from psiphi.basis import files
from psiphi.basis.provenance import versions
from psiphi.evaluation import heading

SECTIONS = (
    ("data", "The data"),
    ("codes", "Codes"),
    ("training", "Training"),
    ("samples", "Samples"),
    ("map", "The map"),
    ("judged", "Beside PCA"),
    ("modes", "Modes on a map"),
    ("downhill", "Out of noise"),
    ("attack", "The attack"),
    ("laws", "The laws"),
    ("time", "Time"),
    ("again", "Do it again"),
)


def write(folder: Path, story: Story) -> Path:
    """Write report.html and the pictures that the docs show; returns the page's path."""
    examples = _examples(story)
    page = folder / "report.html"
    files.write(page, render(story, examples))
    save_pictures(folder / "pictures", story, examples)
    return page


def render(story: Story, examples: list[gallery.Example] | None = None) -> str:
    """The page."""
    from markupsafe import Markup

    examples = _examples(story) if examples is None else examples
    filters = {
        "number": console.number, "share": console.percent, "law": _law, "error": _error, "heading": heading,
        "log": log,
    }  # fmt: skip
    told = {"modes": story.maps, "downhill": story.downhill}
    return pages.rendered(
        "report.html.j2",
        filters,
        sections=[each for each in SECTIONS if each[0] not in told or told[each[0]]],
        story=story,
        examples=examples,
        gray_alone=GRAY_ALONE,
        **_facts(story),
        **_drawn(story, Markup),
    )


def _examples(story: Story) -> list[gallery.Example]:
    a = story.assault
    return gallery.build(story.models["classifier"], story.models["vae"], story.x, story.y, a.result)


def _facts(story: Story) -> dict[str, Any]:
    """Numbers and words that the text leans on; every claim in the page is decided here, by what was measured."""
    from psiphi.data import describe

    by_name = {each.name: each for each in story.judged}
    pca, vae = by_name["pca"], by_name["vae"]
    assert pca.reconstruction is not None
    assert vae.reconstruction is not None
    gain = 1 - vae.reconstruction.squared_error / pca.reconstruction.squared_error
    a = story.assault
    measured = sorted({each.likelihood.measure for each in story.judged if each.likelihood})
    untrusted = sum(each.likelihood.untrusted for each in story.judged if each.likelihood)
    knows, does_not = a.defended.white, a.defended.gray
    size = story.models["vae"].latent_dim
    collapses = a.sweep["bare"][-1].value < 0.05
    return {
        "described": describe(story.data),
        "judged": story.judged,
        "gain": gain,
        "measures": measured,
        "untrusted": untrusted,
        "helps_gray": does_not.interval[0] > a.bare.interval[1],
        "helps_white": knows.interval[0] > a.bare.interval[1],
        "collapses": collapses,
        "accuracies": figures.accuracies(story),
        "holding": sum(each.holds for each in story.laws),
        "seconds": sum(each for _, each in story.timings),
        "longest": max((each for _, each in story.timings), default=1.0),
        "params": _parameters(story),
        "latent_dim": size,
        "count": WORDS[size] if size < len(WORDS) else str(size),
        "hidden": story.models["vae"].recipe["arguments"]["hidden"],
        "threads": _threads(),
        "clf_hidden": story.models["classifier"].recipe["arguments"]["hidden"],
    }


WORDS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


def _law(value: float) -> str:
    """A number to compare: rounding errors in two digits, others in five."""
    return console.number(value, 5 if abs(value) >= 1e-4 else 2)


def _error(value: float) -> str:
    return f"{value:#.2g}".removesuffix(".")


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _parameters(story: Story) -> dict[str, int]:
    return {name: sum(p.numel() for p in model.parameters()) for name, model in story.models.items()}


def _drawn(story: Story, markup: Any) -> dict[str, Any]:
    """Every figure, ready for the page."""
    vae = story.models["vae"]
    map_, map_share = figures.latent_map(story)
    worst, best = figures.strangest(story)
    a = story.assault
    said = ", ".join(f"{name} {share.value:.0%}" for name, share, _ in figures.accuracies(story))
    ends = ", ".join(f"{name} {shares[-1].value:.0%}" for name, shares in a.sweep.items())

    def svg(name: str, draw: plots.Draw, alt: str, size: plots.Size = (4.6, 3.1)) -> Any:
        return markup(plots.svg(draw, name, alt, size))

    return {
        "data_strip": figures.strip(
            figures.data_rows(story),
            len(story.data.classes),
            "three training digits of each class, 0 to 9",
            story,
        ),
        "rows": figures.reconstructions(story),
        "sample_strip": figures.strip(
            vae.sample(60, seed=story.seed), 12, "sixty digits that the VAE has drawn", story
        ),
        "traversals": figures.traversals(story),
        "worst": worst,
        "best": best,
        "map_share": map_share,
        "curves": [svg(name, draw, alt, (4.2, 2.7)) for name, (draw, alt) in figures.losses(story).items()],
        "class_svg": svg(
            "classes",
            figures.classes(story),
            "Shares of the ten classes among test digits and samples",
            (4.6, 2.7),
        ),
        "map_svg": svg(
            "map",
            map_,
            "Codes of the test digits, each drawn as its class; equal digits lie together",
            (5.2, 4.6),
        ),
        "modes_svg": svg(
            "modes",
            modes_map.side_by_side(story.maps, modes_map.SHOWN),
            ". ".join(map(modes_map.words, story.maps)),
            (8.4, 4.4),
        )
        if story.maps
        else "",
        **(_downhill(story, svg) if story.downhill else {}),
        "span_svg": svg("spans", figures.spans(story), f"Accuracy: {said}", (4.6, 3.0)),
        "sweep_svg": svg(
            "sweep", figures.sweep(story), f"Accuracy against the radius; at the largest: {ends}", (4.6, 3.0)
        ),
        "curve_svg": svg("curve", attacked.draw(a.curves), attacked.words(a.curves), (4.6, 3.0)),
    }


def _downhill(story: Story, svg: Any) -> dict[str, Any]:
    """The field and the paths in the plane, and digits on their way."""
    d = story.downhill
    assert d is not None
    said = f"{fields.words(d.field)}. {fields.traces_words(d.paths)}"
    return {
        "field_svg": svg("field", _plane(story, 500), said, (8.4, 4.4)),
        "journey": figures.strip(fields.strip(d.images), 12, fields.strip_words(d.images, 4, 12), story),
    }


def _plane(story: Story, shown: int = fields.POINTS) -> plots.Draw:
    d = story.downhill
    assert d is not None
    return fields.side_by_side([fields.arrows(d.field, shown), fields.traces(d.paths, d.field.x[:shown])])


def numbers(story: Story) -> dict[str, Any]:
    """What the page says, for machines."""
    a = story.assault
    return console.plain(
        {
            "data": story.data.provenance.as_dict(),
            "seed": story.seed,
            "versions": versions(),
            "quick": story.quick,
            "models": [each.as_dict() for each in story.judged],
            "samples": story.samples.as_dict(),
            "neighbours": story.neighbours.as_dict(),
            "attack": {
                "attack": repr(a.attack),
                "clean": a.clean.as_dict(),
                "bare": a.bare.as_dict(),
                **{f"purified_{name}": share for name, share in a.defended.as_dict().items()},
                "curve": a.curves.as_dict(),
            },
            "laws": [each.as_dict() for each in story.laws],
            "skipped": story.skipped,
            "modes": {each.name: each.found.as_dict() for each in story.maps},
            "timings": {name: round(seconds, 2) for name, seconds in story.timings if isfinite(seconds)},
        }
    )


def save_pictures(folder: Path, story: Story, examples: list[gallery.Example]) -> None:
    """The page's figures as PNG files on white."""
    low, high = figures.span(story)
    vae = story.models["vae"]
    draw, _ = figures.latent_map(story)
    plots.png(folder / "latent-map.png", draw, (5.2, 4.6))
    plots.png(folder / "accuracy.png", figures.spans(story))
    plots.png(folder / "radius.png", figures.sweep(story))
    plots.png(folder / "curve.png", attacked.draw(story.assault.curves), (5.2, 3.4))
    if story.maps:
        plots.png(folder / "modes.png", modes_map.side_by_side(story.maps), (8.4, 4.4))
    if story.downhill:
        plots.png(folder / "field.png", _plane(story), (8.4, 4.4))
    for name, (draw, _) in figures.losses(story).items():
        plots.png(folder / f"{name}.png", draw, (4.2, 2.7))
    pictures.save_grid(
        folder / "samples.png", vae.sample(60, seed=story.seed), low=low, high=high, columns=12
    )
    pictures.save_grid(
        folder / "data.png", figures.data_rows(story), low=low, high=high, columns=len(story.data.classes)
    )
    if examples:
        gallery.save(folder / "attack.png", examples)
        if examples[0].purified is not None:
            figures.hero(folder / "hero.png", story, examples[0])
