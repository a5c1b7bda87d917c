"""Figures of the report: what is drawn is what was given, and looks stay the same."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from figure_help import drawn, shown_marks
from l63fast import plotting
from l63fast.errors import ArgumentValueError
from l63fast.plotting import ErrorGrowth, Excerpt, Increments, MethodScore

LEAD = np.linspace(0.0, 4.0, 41)
NAMES = ["EnKF, N=100", "3D-Var", "EnKF, N=10"]


def growing(start, rate=1.0):
    error = np.minimum(start * np.exp(rate * LEAD), 9.0)
    return ErrorGrowth(LEAD, error, 0.5 * error, 2.0 * error)


def increments():
    edges = np.tile(np.linspace(-3.0, 3.0, 7), (3, 1))
    shares = np.tile([0.0, 0.2, 0.3, 0.3, 0.2, 0.0], (3, 1))
    rms = np.array([1.0, 1.0, 0.0])
    return Increments(edges, shares, shares, rms, np.ones(3), np.array([0.9, 0.8, 0]))


def excerpt(title="test 3: sign flip"):
    times = 0.1 * np.arange(1, 11)
    path = np.tile(np.linspace(1.0, 9.0, 91)[:, None], (1, 3))
    truth = path[::10]
    moved = truth * [-1.0, -1.0, 1.0]
    return Excerpt(title, times, truth, truth + 1.0, moved, path,
                   0.1 + 0.01 * np.arange(91))  # fmt: skip


def test_the_horizon_is_where_the_mean_crosses_the_limit():
    assert plotting.horizon(growing(1.0), math.e) == pytest.approx(1.0)
    assert plotting.horizon(growing(0.5), 1.0) == pytest.approx(math.log(2.0))
    assert plotting.horizon(growing(1e-6), 3.8) == math.inf
    assert plotting.horizon(growing(5.0), 3.8) == 0.0
    broken = growing(1.0)._replace(mean=[math.nan] * 41)
    assert plotting.horizon(broken, 3.8) == 0.0


def test_forecast_growth_says_when_each_method_is_of_no_use():
    curves = {"3D-Var": growing(1.0), "optimum": growing(1e-3)}
    figure = drawn(plotting.forecast_growth(curves, limit=math.e, band="optimum"))
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["3D-Var: 1.0", "optimum: beyond"]
    [ax] = figure.axes
    assert len(ax.collections) == 1  # the band
    assert ax.get_yscale() == "log"


def test_a_method_looks_alike_whatever_stands_beside_it():
    together = plotting.method_looks(NAMES, NAMES)
    assert together["EnKF, N=10"].color == "#e69f00"  # the shortest of its kind
    assert len({look.color for look in together.values()}) == 3
    for name in NAMES:
        assert plotting.method_looks([name], NAMES) == {name: together[name]}
    costs = dict.fromkeys(reversed(NAMES), (1e-06, 1.0))
    figure = drawn(plotting.score_against_cost(costs, label="rmse_a", among=NAMES))
    found = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    for name, look in together.items():
        assert to_hex(found[name].get_color()) == look.color


def test_a_name_for_methods_of_several_cases_has_the_plain_look_of_its_kind():
    kinds = {"optimum (N=100)": "optimum", "GRU, L=1": "gru", "GRU, L=10": "gru"}
    looks = plotting.method_looks(["optimum", "GRU, hidden 8", *kinds], kinds)
    assert looks["optimum"] == looks["optimum (N=100)"]
    assert looks["GRU, hidden 8"] == looks["GRU, L=1"] != looks["GRU, L=10"]


def test_parameters_are_drawn_with_their_intervals_beside_the_truth():
    times, truth = np.arange(4.0), np.array([10.0, 27.0, 2.5])
    error = np.array([0.4, 0.3, 0.2, 0.1])[:, None] * [1.0, 2.0, 0.0]
    methods = {
        name: plotting.ParameterEstimates(truth + k * error, 2.0 * error, k * error)
        for name, k in (("joint EnKF", 2.0), ("joint particle filter", 1.0))
    }
    figure = drawn(plotting.parameter_estimates(times, truth, methods))
    # beta is known by both and has no column.
    assert [ax.get_title() for ax in figure.axes[:2]] == ["sigma", "rho"]
    assert len(figure.axes) == 4
    for c, (above, below) in enumerate(
        zip(figure.axes[:2], figure.axes[2:], strict=True)
    ):
        line, *estimates = above.get_lines()
        assert set(line.get_ydata()) == {truth[c]}
        for one, method in zip(estimates, methods.values(), strict=True):
            np.testing.assert_array_equal(one.get_ydata(), method.estimate[:, c])
        for band, method in zip(above.collections, methods.values(), strict=True):
            ends = band.get_paths()[0].vertices[:, 1]
            top = (method.estimate + method.half_width)[:, c]
            assert (ends.min(), ends.max()) == (
                pytest.approx((method.estimate - method.half_width)[:, c].min()),
                pytest.approx(top.max()),
            )
        found = [one.get_ydata() for one in below.get_lines()]
        np.testing.assert_array_equal(
            found, [method.error[:, c] for method in methods.values()]
        )
    known = plotting.ParameterEstimates(*np.zeros((3, 4, 3)))
    with pytest.raises(ArgumentValueError, match="an estimated parameter"):
        plotting.parameter_estimates(times, truth, {"joint": known})
    wrong = plotting.ParameterEstimates(*np.ones((2, 4, 3)), np.ones((3, 3)))
    with pytest.raises(ArgumentValueError, match="joint: error"):
        plotting.parameter_estimates(times, truth, {"joint": wrong})


SCORE = {"GRU": MethodScore(0.5, (0.4, 0.6)), "3D-Var": MethodScore(1.0, (0.9, 1.1))}
EPOCHS = [{"epoch": k, "train_loss": 1.0 / k, "val_loss": 2.0 / k} for k in (1, 2, 3)]
SINGLE = {
    "scores": lambda **how: plotting.method_scores(SCORE, label="rmse_a", **how),
    "claims": lambda **how: plotting.method_claims(SCORE, **how),
    "cost": lambda **how: plotting.score_against_cost(
        {"GRU": (1e-6, 0.5, 0.4, 0.6)}, label="rmse_a", **how
    ),
    "growth": lambda **how: plotting.forecast_growth(
        {"GRU": growing(1.0)}, limit=2.0, **how
    ),
    "age": lambda **how: plotting.error_since_observed(
        {"GRU": (np.array([0.0, 0.1]), np.array([0.5, 0.6]))}, **how
    ),
    "shares": lambda **how: plotting.failure_shares(
        {"GRU": [0.01, 0.02, 0.0, 0.0]}, ["flip", "lobe", "far", "lost"], **how
    ),
    "training": lambda **how: plotting.training_curves(EPOCHS, **how),
    "tuning": lambda **how: plotting.tuning_curve(
        np.array([1.0, 2.0]), np.array([0.5, 0.4]), 2.0, **how
    ),
    "validation": lambda **how: plotting.validation_curves(
        {"GRU": [(1.0, 0.9), (2.0, 0.4)]}, **how
    ),
    "spread": lambda **how: plotting.spread_against_error(
        {"EnKF": (np.array([0.1, 0.2]), np.array([0.2, 0.4]))}, **how
    ),
    "speed": lambda **how: plotting.speed_bars(
        {"forecast": (1e9, 2e9, "writes")}, title="here", **how
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_figure_is_drawn_into_the_axes_of_the_user_and_nowhere_else(name):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    before = set(figure.findobj()) - set(left.findobj())
    with mpl.rc_context():
        settings = dict(mpl.rcParams)
        assert SINGLE[name](ax=left) is figure
        assert dict(mpl.rcParams) == settings
    assert left.has_data()
    assert not right.has_data()
    assert set(figure.findobj()) - set(left.findobj()) == before
    assert (figure.axes, figure.legends, figure.texts) == ([left, right], [], [])
    drawn(figure)


@pytest.mark.parametrize("name", SINGLE)
def test_a_figure_in_the_style_of_the_user_has_all_of_it(name):
    mine = {"figure.figsize": (4.0, 3.0), "font.size": 13.0, "axes.facecolor": "red"}
    mine |= {"axes.grid": False, "axes.spines.top": True, "ytick.labelsize": 7.0}
    with mpl.rc_context(mine):
        settings = dict(mpl.rcParams)
        figure, ours = SINGLE[name](style="user"), SINGLE[name]()
        assert dict(mpl.rcParams) == settings
    [ax] = drawn(figure).axes
    assert tuple(figure.get_size_inches()) == (4.0, 3.0)
    assert (
        to_hex(ax.get_facecolor()) == "#ff0000" != to_hex(ours.axes[0].get_facecolor())
    )
    assert ax.spines["top"].get_visible()
    assert ax.xaxis.label.get_size() == 13.0
    assert {label.get_size() for label in ax.get_yticklabels()} == {7.0}
    assert not any(line.get_visible() for line in ax.get_xgridlines())
    with pytest.raises(ArgumentValueError, match="style: expected one of"):
        SINGLE[name](style="mine")


def test_no_two_methods_of_an_experiment_look_alike():
    kinds = {
        **{f"3D-Var, {b}": "3dvar" for b in "bc"},
        **{f"4D-Var, L={n}": "4dvar" for n in (4, 8)},
        **{f"EnKF, N={n}": "enkf" for n in (3, 5, 10, 20, 50, 100)},
        **{f"pf, N={n}": "pf" for n in (100, 800)},
        **{"oi": "oi", "climatology": "climatology", "LSTM": "lstm", "GRU": "gru"},
    }
    looks = plotting.method_looks(kinds, kinds)
    assert len({look.color for look in looks.values()}) == len(kinds)
    assert looks["oi"].marker == "X"  # a kind keeps its marker beside another's colour


def test_the_kind_says_how_a_method_looks_and_other_kinds_take_colours_in_turn():
    kinds = {"one": "gru", "EnKF": "pf", "mine": "package:A", "yours": "package:B"}
    looks = plotting.method_looks(kinds, kinds)
    assert (looks["one"].color, looks["EnKF"].color) == ("#0072b2", "#cc79a7")
    assert looks["mine"] != looks["yours"]
    assert plotting.method_looks(["GRU"])["GRU"] == looks["one"]
    errors = dict.fromkeys(kinds, np.ones((2, 3)))
    figure = plotting.error_against_time(np.arange(3.0), errors, among=kinds)
    titles = [to_hex(ax.title.get_color()) for ax in figure.axes]
    assert titles == [looks[name].color for name in kinds]


def test_maps_share_one_scale_and_are_empty_where_the_truth_never_was():
    values = np.full((3, 4), np.nan)
    values[1, 2] = 2.0
    maps = {"a": values, "b": 2.0 * values}
    figure = drawn(
        plotting.error_maps(maps, x_edges=np.arange(4.0), z_edges=np.arange(5.0))
    )
    meshes = [ax.collections[0] for ax in figure.axes if ax.get_title()]
    assert meshes[0].get_clim() == meshes[1].get_clim()
    assert np.ma.count(meshes[0].get_array()) == 1


def test_ratios_part_their_colours_at_one_and_empty_places_are_not_white():
    maps = {"a": np.array([[4.0, np.nan], [0.5, 1.0]])}
    edges = np.arange(3.0)
    figure = drawn(
        plotting.error_maps(maps, x_edges=edges, z_edges=edges, relative=True)
    )
    [ax] = [ax for ax in figure.axes if ax.get_title()]
    low, high = ax.collections[0].get_clim()
    assert low * high == pytest.approx(1.0)
    assert high > 3.5
    white = ax.collections[0].to_rgba(1.0)
    assert min(white[:3]) > 0.95
    assert to_hex(ax.get_facecolor()) == "#e0e0e0"


@pytest.mark.parametrize("most", [1.1, 1.4, 3.0])
def test_a_bar_of_ratios_is_marked_on_both_sides_of_one(most: float) -> None:
    maps = {"a": np.linspace(1 / most, most, 400).reshape(20, 20)}
    edges = np.arange(21.0)
    figure = drawn(
        plotting.error_maps(maps, x_edges=edges, z_edges=edges, relative=True)
    )
    [bar] = [ax for ax in figure.axes if not ax.get_title()]
    marks = [float(mark) for mark in shown_marks(bar.yaxis)]
    assert min(marks) < 1.0 < max(marks)
    assert 1.0 in marks
    assert 3 <= len(marks) <= 8


def test_increments_tell_of_a_component_that_never_changes():
    figure = drawn(plotting.increment_histograms({"3D-Var": increments()}))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        "1.00 of needed, r = 0.90", "3D-Var\n1.00 of needed, r = 0.80", "unchanged",
    ]  # fmt: skip


def test_failed_shares_add_up_beside_their_bars():
    shares = {"EnKF": [0.01, 0.02, 0.0, 0.0], "optimum": [0.0] * 4}
    kinds = ["sign flip", "wrong lobe", "far off", "not finite"]
    figure = drawn(plotting.failure_shares(shares, kinds))
    [ax] = figure.axes
    assert [text.get_text() for text in ax.texts] == ["3 %", "none"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == kinds


@pytest.mark.parametrize(("operator", "largest"), [("x", 10.0), ("x2", 0.0)])
def test_a_failure_is_drawn_with_its_error(operator, largest):
    figure = drawn(
        plotting.failure_panels([excerpt(), excerpt("b")], operator=operator, far_off=4)
    )
    axes = np.array(figure.axes).reshape(3, 2)
    assert [ax.get_title() for ax in axes[0]] == ["test 3: sign flip", "b"]
    analysis = axes[2, 0].get_lines()[1].get_ydata()
    exact = 18.0 * math.sqrt(2.0 / 3.0) if largest else 0.0
    assert max(analysis) == pytest.approx(exact)


def test_a_method_that_is_lost_altogether_has_no_empty_axes():
    lost = excerpt()._replace(analysis=np.full((10, 3), np.nan))
    lost = lost._replace(background=lost.analysis)
    figure = drawn(plotting.failure_panels([lost, excerpt()], operator="x", far_off=4))
    told = [[text.get_text() for text in ax.texts] for ax in figure.axes[4:]]
    assert told == [["not finite"], []]


def test_the_spread_stands_with_its_ratio_on_equal_axes():
    curve = (np.array([0.1, 0.2]), np.array([0.2, 0.4]))
    figure = drawn(plotting.spread_against_error({"EnKF": curve}, {"EnKF": 0.5}))
    [ax] = figure.axes
    assert ax.get_xlim() == ax.get_ylim()
    assert figure.legends[0].get_texts()[0].get_text() == "EnKF: 0.50"


def test_gains_stand_in_a_panel_per_observed_value():
    gains = {"3D-Var": np.arange(6.0).reshape(3, 2)}
    figure = drawn(plotting.gain_comparison(gains, gains, observed=("x", "y")))
    assert len(figure.axes) == 2
    markers = figure.axes[1].get_lines()[0]
    assert list(markers.get_ydata()) == [1.0, 3.0, 5.0]
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.0, 2.0, 4.0]


def test_scores_stand_against_the_interval():
    points = {0.1: MethodScore(0.5, (0.4, 0.6)), 0.25: MethodScore(1.0, (0.9, 1.1))}
    panels = {("x observed", "σ = 1"): {"3D-Var": points}}
    figure = drawn(plotting.scores_across(panels, "interval", label="rmse_a"))
    line = figure.axes[0].get_lines()[-1]
    assert list(line.get_xdata()) == [0.1, 0.25]
    assert "between observations" in figure.get_supxlabel()


def test_counts_have_a_tick_each_and_no_others():
    line = {n: MethodScore(1.0 / n, (0.9 / n, 1.1 / n)) for n in (1, 3, 10)}
    panels = {("x observed", ""): {"GRU": line}}
    figure = drawn(plotting.scores_across(panels, "window", label="rmse_pooled_a"))
    [ax] = figure.axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "3", "10"]
    assert ax.get_xticks().tolist() == [1, 3, 10]
    assert ax.get_title() == "x observed"
    with pytest.raises(ArgumentValueError, match="axis: expected one of"):
        plotting.scores_across(panels, "weather", label="rmse_pooled_a")


def test_the_lowest_validation_score_is_marked():
    rows = [(1.0, 0.9), (2.0, 0.4), (3.0, 0.5)]
    figure = drawn(plotting.validation_curves({"GRU": rows}))
    [ax] = figure.axes
    assert ax.get_lines()[1].get_xdata()[0] == 2.0


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plotting.forecast_growth({}, limit=1.0),
        lambda: plotting.error_maps({}, x_edges=LEAD, z_edges=LEAD),
        lambda: plotting.increment_histograms({}),
        lambda: plotting.failure_shares({}, []),
        lambda: plotting.failure_panels([], operator="x", far_off=1.0),
        lambda: plotting.spread_against_error({}),
        lambda: plotting.gain_comparison({}, {}, observed=("x",)),
        lambda: plotting.score_against_cost({"a": (1.0, math.nan)}, label="rmse_a"),
        lambda: plotting.validation_curves({}),
        lambda: plotting.scores_across({}, "interval", label="rmse_a"),
    ],
)
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(ArgumentValueError, match="expected"):
        draw()
