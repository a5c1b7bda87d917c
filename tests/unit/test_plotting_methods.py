"""Figures of cycled methods: scores, claims, axes of cases, particles, ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from figure_help import drawn, shown_marks
from l63fast import plotting
from l63fast.errors import ArgumentValueError
from l63fast.plotting import MethodScore

SCORES = {
    "3D-Var": MethodScore(1.0, (0.98, 1.02), (1.03, 1.04)),
    "EnKF, N=10": MethodScore(0.6, (0.57, 0.64), (0.5, 0.5)),
    "extended Kalman": MethodScore(math.nan, (math.nan, math.nan)),
    "optimum (N=100)": MethodScore(0.25, (0.24, 0.26)),
}


def beside(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("style", ["l63fast", "user"])
def test_a_notebook_shows_a_figure_without_pyplot(style: str) -> None:
    figure = plotting.method_scores(SCORES, label="rmse_a", style=style)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_scores_stand_beside_what_was_published():
    figure = drawn(plotting.method_scores(SCORES, label="rmse_a", title="somewhere"))
    [ax] = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(SCORES)
    assert beside(ax) == ["1.000", "0.600", "not finite", "0.250"]
    bars = [bar for bar in ax.patches if math.isfinite(bar.get_width())]
    found = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]
    np.testing.assert_allclose(found, [(1.03, 1.04), (0.5, 0.5)])
    assert ax.get_xscale() == "log"
    assert ax.get_title("left") == "somewhere"
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["published"]
    ends = [tuple(line.get_xdata()) for line in ax.lines if line.get_marker() == "|"]
    assert ends == [(0.98, 1.02), (0.57, 0.64), (0.24, 0.26)]
    markers = [line for line in ax.lines if line.get_marker() not in ("None", "|")]
    assert [line.get_xdata()[0] for line in markers] == [1.0, 0.6, 0.25]


def test_a_figure_of_nothing_but_divergence_is_drawn():
    lost = {"EnKF": MethodScore(math.nan, (math.nan, math.nan))}
    [ax] = drawn(plotting.method_scores(lost, label="rmse_a")).axes
    assert beside(ax) == ["not finite"]


def test_decibels_are_on_a_linear_axis_without_a_legend_of_nothing():
    scores = {"EnKF": MethodScore(-10.5, (-10.6, -10.4))}
    figure = drawn(plotting.method_scores(scores, label="MSE", in_decibel=True))
    assert figure.axes[0].get_xscale() == "linear"
    assert figure.legends == []


def test_claims_are_drawn_against_one():
    ratios = {"a": MethodScore(1.1, (1.0, 1.2)), "b": MethodScore(0.9, (0.8, 1.0))}
    [ax] = drawn(plotting.method_claims(ratios)).axes
    assert ax.get_xscale() == "linear"
    assert beside(ax) == ["1.10", "0.90"]
    assert [1.0, 1.0] in [list(line.get_xdata()) for line in ax.lines]
    ratios["c"] = MethodScore(30.0, (20.0, 40.0))
    assert drawn(plotting.method_claims(ratios)).axes[0].get_xscale() == "log"


def test_cases_are_panels_of_operators_and_intervals():
    line = {sigma: MethodScore(0.5 * sigma, (0.4, 0.6)) for sigma in (1.0, 0.1)}
    panels = {
        (column, row): {"3D-Var": line, "optimum": line}
        for column in ("x", "xy")
        for row in ("often", "seldom", "once")
    }
    figure = drawn(plotting.scores_across(panels, "sigma", label="rmse_a"))
    assert len(figure.axes) == 6
    titles = {ax.get_title() for ax in figure.axes}
    assert titles == {f"{column}, {row}" for column, row in panels}
    curve = max(figure.axes[0].lines, key=lambda found: found.get_marker() == "D")
    np.testing.assert_allclose(curve.get_xdata(), [0.1, 1.0])
    np.testing.assert_allclose(curve.get_ydata(), [0.05, 0.5])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["3D-Var", "optimum"]


def test_convergence_is_relative_to_the_last_size():
    curve = [(100, 0.3, 40.0), (200, 0.27, 90.0), (400, 0.25, 200.0)]
    figure = drawn(plotting.convergence({"xyz": [curve, curve[1:]]}))
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [20.0, 8.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(right.lines[0].get_ydata(), [40.0, 45.0, 50.0])
    np.testing.assert_allclose(right.lines[1].get_ydata(), [45.0, 50.0])
    assert left.get_xscale() == right.get_xscale() == "log"
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["xyz"]


def test_the_marks_of_a_convergence_can_be_read():
    curve = [(16_000, 1.064, 8e3), (32_000, 1.03, 2e4), (128_000, 1.0, 6e4)]
    left, right = drawn(plotting.convergence({"x": [curve]})).axes
    assert {"0", "1", "2", "5"} <= set(shown_marks(left.yaxis))
    assert shown_marks(right.xaxis) == ["20,000", "50,000", "100,000"]


def test_rank_histograms_have_a_bar_for_each_place():
    shares = np.full((3, 6), 1 / 6)
    shares[1] = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    axes = drawn(plotting.rank_histograms({"EnKF": shares, "other": shares})).axes
    assert len(axes) == 6
    assert [ax.get_title() for ax in axes[:3]] == ["EnKF: x", "EnKF: y", "EnKF: z"]
    heights = [bar.get_height() for bar in axes[1].patches]
    np.testing.assert_allclose(heights, shares[1])
    assert axes[1].lines[0].get_ydata()[0] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: plotting.method_scores({}, label="rmse_a"), "scores"),
        (lambda: plotting.method_claims({}), "scores"),
        (lambda: plotting.scores_across({}, "sigma", label="rmse_a"), "panels"),
        (lambda: plotting.convergence({}), "groups"),
        (lambda: plotting.rank_histograms({}), "shares"),
    ],
)
def test_nothing_to_draw_is_refused(draw, name):
    with pytest.raises(ArgumentValueError, match=f"{name}: expected at least one"):
        draw()
