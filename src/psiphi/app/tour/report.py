"""One self-contained HTML file that tells a `Story`: no network, no script needed to read it."""

from __future__ import annotations

from math import floor, log, log10
from pathlib import Path
from typing import Any

from psiphi.app import _console as console
from psiphi.app import _pages as pages
from psiphi.app import fields, modes_map, pictures, plots
from psiphi.app.tour import _attack_page as attack_page
from psiphi.app.tour import _attacks as tour_attacks
from psiphi.app.tour import _defence_page as defence_page
from psiphi.app.tour import _defences as tour_defences
from psiphi.app.tour import _figures as figures
from psiphi.app.tour import _map as tour_map
from psiphi.app.tour import _models as tour_models
from psiphi.app.tour import _plane as tour_plane
from psiphi.app.tour import _words as words
from psiphi.app.tour._story import Story
from psiphi.basis import files
from psiphi.basis.provenance import versions
from psiphi.evaluation import heading

SECTIONS = (
    ("data", "The data"),
    ("models", "Nine models"),
    ("table", "Side by side"),
    ("samples", "Samples"),
    ("codes", "Codes"),
    ("map", "The map"),
    ("odd", "What is odd"),
    ("modes", "Modes on a ring"),
    ("downhill", "Out of noise"),
    ("attacks", "Attacks"),
    ("defences", "Defences"),
    ("laws", "The laws"),
    ("time", "Time"),
    ("again", "Do it again"),
)


def write(folder: Path, story: Story) -> Path:
    """Write report.html and the pictures that the docs show; returns the page's path."""
    page = folder / "report.html"
    files.write(page, render(story))
    save_pictures(folder / "pictures", story)
    return page


def render(story: Story) -> str:
    """The page."""
    filters = {
        "number": console.number, "share": console.percent, "law": _law, "error": _error, "heading": heading,
        "log": log, "thousands": lambda value: f"{value:,}", "ticked": _ticked, "within": _within,
    }  # fmt: skip
    return pages.rendered(
        "report.html.j2",
        filters,
        sections=SECTIONS,
        story=story,
        models=story.models,
        **words.facts(story),
        **_drawn(story),
    )


def _law(value: float) -> str:
    """A number to compare: rounding errors in two digits, others in five."""
    return console.number(value, 5 if abs(value) >= 1e-4 else 2)


def _error(value: float) -> str:
    return f"{value:#.2g}".removesuffix(".")


def _within(value: float, error: float) -> str:
    """A number and its error, both to the error's second digit."""
    if not error > 0:
        return console.number(value)
    places = max(0, 1 - floor(log10(error)))
    return f"{value:.{places}f} ± {error:.{places}f}".replace("-", "−")


def _ticked(sentence: str) -> Any:
    """A sentence whose words in `ticks` are code."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in sentence.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


def _drawn(story: Story) -> dict[str, Any]:
    """Every figure, ready for the page."""
    from markupsafe import Markup

    worst, best = figures.strangest(story)
    spiral = story.spiral

    def svg(name: str, draw: plots.Draw, alt: str, size: plots.Size = (4.6, 3.1)) -> Any:
        return Markup(plots.svg(draw, name, alt, size))

    return {
        "data_strip": figures.strip(
            figures.data_rows(story),
            len(story.data.classes),
            "three training digits of each class, 0 to 9",
            story.span,
        ),
        "rows": figures.reconstructions(story),
        "shown": figures.DRAWN,
        "sample_rows": figures.samples(story),
        "traversals": figures.traversals(story),
        "worst": worst,
        "best": best,
        "curves": [svg(name, draw, alt, (4.2, 2.7)) for name, (draw, alt) in figures.losses(story).items()],
        "class_svg": svg(
            "classes",
            figures.classes(story),
            "Shares of the ten classes among test digits and the VAE's samples",
            (4.6, 2.7),
        ),
        "map_svgs": [
            svg(f"map-{i}", each.draw, each.words, (4.4, 3.9))
            for i, each in enumerate(figures.latent_maps(story))
        ],
        "pad": tour_map.drawn(story.map, story.span, story.data.classes),
        "modes_svgs": [
            svg(f"ring-{i}", modes_map.draw(each, modes_map.SHOWN), modes_map.words(each), (4.2, 4.4))
            for i, each in enumerate(story.ring.maps)
        ],
        "plane": {
            name: svg(name, draw, alt, (8.4, 4.4))
            for name, draw, alt in tour_plane.pairs(spiral, tour_plane.DOTS)
        },
        "example": figures.example(story),
        "attacks": attack_page.drawn(story.attacks, Markup),
        "defences": defence_page.drawn(story.defences, Markup),
        "journey": figures.strip(
            fields.strip(spiral.images), 12, fields.strip_words(spiral.images, 4, 12), story.span
        ),
    }


def numbers(story: Story) -> dict[str, Any]:
    """What the page says, for machines."""
    return console.plain(
        {
            "data": story.data.provenance.as_dict(),
            "seed": story.seed,
            "versions": versions(),
            "quick": story.quick,
            **tour_models.numbers(story.models),
            "map": story.map.as_dict(),
            "modes": tour_plane.numbers(story.ring),
            "attacks": tour_attacks.numbers(story.attacks),
            "defences": tour_defences.numbers(story.defences),
            "laws": [each.as_dict() for each in story.laws],
            "skipped": story.skipped,
            "timings": {
                each.what: {"seconds": round(each.seconds, 2), "processor": round(each.processor, 2)}
                for each in story.timings
            },
        }
    )


def save_pictures(folder: Path, story: Story) -> None:
    """The page's figures as PNG files on white."""
    low, high = story.span
    for found in story.models.found:
        if found.drawn is not None:
            pictures.save_grid(
                folder / f"samples-{found.name}.png", found.drawn[:60], low=low, high=high, columns=12
            )
    pictures.save_grid(
        folder / "data.png", figures.data_rows(story), low=low, high=high, columns=len(story.data.classes)
    )
    pictures.save_grid(
        folder / "plane.png", tour_map.sheet(story.map), low=low, high=high, columns=tour_map.SHEET
    )
    for name, each in zip(figures.MAPPED, figures.latent_maps(story), strict=True):
        plots.png(folder / f"latent-map-{name}.png", each.draw, (5.2, 4.6))
    plots.png(folder / "modes.png", tour_plane.modes_picture(story.ring), (8.4, 8.6))
    for name, draw, _ in tour_plane.pairs(story.spiral):
        plots.png(folder / f"{name}.png", draw, (8.4, 4.4))
    for name, (draw, _) in figures.losses(story).items():
        plots.png(folder / f"{name}.png", draw, (4.2, 2.7))
    figures.hero(folder / "hero.png", story)
