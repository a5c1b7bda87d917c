"""A figure of the report with the words that go with it, and the list of sections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["LEADS", "SECTIONS", "Chapter", "Picture"]

# Identifier and title of each section, in the order of the page.
SECTIONS: Final = {
    "answer": "Answer",
    "leaderboard": "Leaderboard",
    "scores": "Scores",
    "states": "Trajectories",
    "failures": "Failures",
    "horizon": "Horizon",
    "attractor": "Attractor",
    "increments": "Increments",
    "ensembles": "Ensembles",
    "gain": "Gain",
    "training": "Training",
    "timing": "Timing",
    "provenance": "Provenance",
}

# What a section is about, where its title does not say it.
LEADS: Final = {
    "states": "What assimilation looks like, when it goes well and when it does not.",
    "failures": "How often analyses are far from the truth, and what went wrong; then "
    "the three worst trajectories of each method, with their largest error.",
    "horizon": "How long a forecast from each analysis is of use.",
    "attractor": "Where in phase space analyses are wrong.",
    "increments": "What the analyses changed, beside what they should have changed.",
    "ensembles": "Whether a method knows how wrong it is.",
    "gain": "How an observation moves the state, beside the best linear way.",
    "training": "How networks learned, and how numbers were tuned, both without the "
    "test split.",
    "timing": "What the accuracy costs.",
}


@dataclass(frozen=True)
class Picture:
    """A figure and its words.

    Attributes
    ----------
    name : str
        Of its files, without suffix.
    figure : Figure, or list of frames of an animation
    caption : str
        What is shown and on how many samples.
    summary : str
        For readers who do not see it, and the line it folds under if `folded`.
    folded : bool
        Whether the page shows it only when asked.
    """

    name: str
    figure: Any
    caption: str
    summary: str
    folded: bool = False


@dataclass
class Chapter:
    """The figures of a section, and what is missing in it."""

    pictures: list[Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
