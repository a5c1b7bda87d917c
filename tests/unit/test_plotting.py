"""Figures show what they were given: lines, labels, limits, legends, files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image

from figure_help import drawn, shown_marks
from l63fast import plotting
from l63fast.errors import ArgumentTypeError, ArgumentValueError

BLACK, RED, BLUE = "#000000", "#d55e00", "#0072b2"
WINDOW = 4


def tendency(s):
    x, y, z = s[..., 0], s[..., 1], s[..., 2]
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=-1)


def path(n, n_steps):
    """Return (n, n_steps + 1, 3) states of Lorenz-63, by midpoint steps of 0.01."""
    state = np.random.default_rng(3).normal((2.0, 2.0, 22.0), 3.0, (n, 3))
    states = [state]
    for _ in range(200 + n_steps):
        middle = state + 0.005 * tendency(state)
        state = state + 0.01 * tendency(middle)
        states.append(state)
    return np.stack(states[200:], axis=1)


def make(n=3, n_times=30, power=1):
    """Return the arrays of an experiment with x observed every 10 steps."""
    rng = np.random.default_rng(5)
    truth = path(n, 10 * n_times)
    true = truth[:, 10::10]
    analysis = true + 0.3 * rng.standard_normal(true.shape)
    analysis[:, : WINDOW - 1] = np.nan
    return {
        "truth": truth,
        "background": true + 0.8 * rng.standard_normal(true.shape),
        "analysis": analysis,
        "observations": true[..., :1] ** power + rng.standard_normal((n, n_times, 1)),
        "truth_times": 0.01 * np.arange(10 * n_times + 1),
        "times": 0.1 * np.arange(1, n_times + 1),
    }


def without(data, *names):
    return {name: value for name, value in data.items() if name not in names}


def rmse(states, data):
    return np.sqrt(np.mean((states - data["truth"][:, 10::10]) ** 2, axis=-1))


def drawn_panels(data, operator="x", **options):
    titles = [f"case {i}" for i in range(len(data["truth"]))]
    return plotting.panels(**data, operator=operator, titles=titles, **options)


def lines(ax, label):
    return [line for line in ax.get_lines() if line.get_label() == label]


def grid_of(fig, n_columns):
    return np.array(fig.axes, dtype=object).reshape(-1, n_columns)


def legend_texts(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def assert_within(ax, x, y):
    for low_high, values in ((ax.get_xlim(), x), (ax.get_ylim(), y)):
        finite = np.asarray(values)[np.isfinite(values)]
        assert min(low_high) <= finite.min()
        assert finite.max() <= max(low_high)


def test_panels_draw_each_component_of_each_trajectory():
    data = make()
    axes = grid_of(drawn_panels(data), 3)
    for case in range(3):
        for c in range(3):
            ax = axes[c, case]
            for name, color, times in (
                ("truth", BLACK, "truth_times"),
                ("background", RED, "times"),
                ("analysis", BLUE, "times"),
            ):
                (line,) = lines(ax, name)
                np.testing.assert_array_equal(line.get_xdata(), data[times])
                np.testing.assert_array_equal(line.get_ydata(), data[name][case, :, c])
                assert to_hex(line.get_color()) == color
                assert_within(ax, line.get_xdata(), line.get_ydata())
            # States at observation times are no curve.
            assert lines(ax, "background")[0].get_linestyle() == "None"
            assert len(lines(ax, "observation")) == (c == 0)
        (seen,) = lines(axes[0, case], "observation")
        np.testing.assert_allclose(seen.get_ydata(), data["observations"][case, :, 0])


def test_the_background_is_the_forecast_it_is_and_jumps_to_the_analysis():
    data = make(n=2)
    forecasts = np.random.default_rng(8).normal(size=(2, 29, 11, 3))
    axes = grid_of(drawn_panels(data, forecasts=forecasts), 2)
    for case in range(2):
        for c in range(3):
            [line] = lines(axes[c, case], "background")
            assert line.get_linestyle() == "--"
            times, states = line.get_data()
            for k in (9, 20):
                there = states[np.isclose(times, data["times"][k], atol=1e-12)]
                end, start = forecasts[case, k - 1, -1, c], forecasts[case, k, 0, c]
                assert there.tolist() == [end, data["background"][case, k, c], start]
            between = (data["times"][9] < times) & (times < data["times"][10])
            np.testing.assert_array_equal(states[between], forecasts[case, 9, 1:-1, c])
    with pytest.raises(ArgumentValueError, match=r"forecasts: expected \(2, 29, n, 3"):
        drawn_panels(data, forecasts=forecasts[:, 1:])


def test_panels_titles_tell_errors_over_the_scored_times_only():
    data = make()
    axes = grid_of(drawn_panels(data), 3)
    for case in range(3):
        before = rmse(data["background"], data)[case, WINDOW - 1 :].mean()
        after = rmse(data["analysis"], data)[case, WINDOW - 1 :].mean()
        title = axes[0, case].get_title()
        assert title == f"case {case}\nrmse {before:.3f} → {after:.3f}"


def test_panels_label_everything():
    fig = drawn_panels(make(n=1, power=2), "x2", mirror_aware=True)
    axes = grid_of(fig, 1)
    assert [ax.get_ylabel() for ax in axes[:3, 0]] == ["x", "y", "z"]
    assert "mirror-aware" in axes[3, 0].get_ylabel()
    assert axes[3, 0].get_xlabel() == "time (time units)"
    assert legend_texts(fig) == [
        "truth",
        "background",
        "analysis",
        "observation ±√y (where y > 0)",
    ]


def test_panels_draw_a_square_as_both_roots_where_it_is_positive():
    data = make(n=1, power=2)
    data["observations"][0, 5] = -0.5
    ax = grid_of(drawn_panels(data, "x2"), 1)[0, 0]
    plus, minus = (line.get_ydata() for line in lines(ax, "observation"))
    there = data["observations"][0, :, 0] > 0
    assert not there[5]
    np.testing.assert_array_equal(np.isfinite(plus), there)
    np.testing.assert_allclose(
        plus[there] ** 2, data["observations"][0, there, 0], rtol=1e-12
    )
    np.testing.assert_array_equal(minus, -plus)


def test_panels_errors_forgive_the_mirror_image_only_when_asked():
    data = make(n=1)
    data["analysis"] = data["analysis"] * (-1.0, -1.0, 1.0)
    plain = grid_of(drawn_panels(data), 1)[3, 0].get_lines()[1].get_ydata()
    fair = grid_of(drawn_panels(data, mirror_aware=True), 1)[3, 0]
    fair = fair.get_lines()[1].get_ydata()
    scored = slice(WINDOW - 1, None)
    assert plain[scored].max() > 5.0
    assert fair[scored].max() < 2.0


def test_panels_of_a_long_series_show_its_largest_error():
    data = make(n=1, n_times=300)
    data["analysis"][0, 222] += 9.0
    ax = grid_of(drawn_panels(data), 1)[3, 0]
    low, high = ax.get_xlim()
    assert low < data["times"][222] < high
    assert high - low == pytest.approx(10.0)
    assert "excerpt" in ax.get_xlabel()


@pytest.mark.filterwarnings("error")
def test_a_single_analysis_can_be_seen():
    data = {k: v[..., -1:] if "times" in k else v[:, -1:] for k, v in make(n=2).items()}
    axes = grid_of(drawn_panels(data), 2)
    drawn = [line for ax in axes.flat for line in ax.lines]
    assert len(drawn) == 2 * (3 * 3 + 1 + 2)
    for line in drawn:
        assert len(line.get_xdata()) == 1
        assert line.get_marker() in ("o", "D")


def test_a_diverged_trajectory_is_named_and_leaves_the_truth_readable():
    data = make(n=2)
    data["analysis"][0, 20:] = np.nan
    data["analysis"][1, 20:] = 1e9
    axes = grid_of(drawn_panels(data), 2)
    assert axes[0, 0].get_title().endswith("→ not finite")
    assert axes[0, 1].get_ylim()[1] < 50.0
    assert_within(axes[0, 1], data["truth_times"], data["truth"][1, :, 0])
    fig = plotting.attractor(**without(data, "observations"))
    assert fig.axes[1].get_title() == "analysis: not finite, 20 points outside"


def test_select_cases_ranks_a_diverged_trajectory_worst():
    errors = np.linspace(1.0, 2.0, 21)
    errors[7] = np.nan
    assert plotting.select_cases(errors) == {"good": 2, "median": 11, "worst": 7}
    assert plotting.select_cases(np.array([0.4])) == {
        "good": 0,
        "median": 0,
        "worst": 0,
    }


def test_attractor_joins_each_estimate_to_its_truth():
    data = make(n=2)
    fig = plotting.attractor(**without(data, "observations"), title="trajectory 4")
    assert fig.get_suptitle() == "trajectory 4"
    for ax, name in zip(fig.axes, ("background", "analysis"), strict=True):
        first, second, points = ax.get_lines()
        np.testing.assert_array_equal(first.get_data_3d(), data["truth"][0].T)
        np.testing.assert_array_equal(second.get_data_3d(), data["truth"][1].T)
        states = data[name].reshape(-1, 3)
        states = states[np.isfinite(states).all(axis=1)]
        np.testing.assert_array_equal(np.array(points.get_data_3d()).T, states)
        (segments,) = ax.collections
        ends = np.array(segments._segments3d)
        lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1) / np.sqrt(3.0)
        errors = rmse(data[name], data).ravel()
        np.testing.assert_allclose(lengths, errors[np.isfinite(errors)], rtol=1e-12)
    assert len(legend_texts(fig)) == 3


def methods(data):
    return {
        "background": rmse(data["background"], data),
        "GRU": rmse(data["analysis"], data),
    }


def test_error_against_time_draws_mean_and_band():
    data = make(n=20)
    errors = methods(data)
    fig = plotting.error_against_time(data["times"], errors, label="error of x")
    assert fig.get_supylabel() == "error of x"
    assert fig.get_supxlabel() == "time (time units)"
    for ax, (name, error) in zip(fig.axes, errors.items(), strict=True):
        there = np.isfinite(error).all(axis=0)
        for other, its in errors.items():
            (line,) = lines(ax, other)
            begun = np.isfinite(its).all(axis=0)
            np.testing.assert_array_equal(line.get_xdata(), data["times"][begun])
            np.testing.assert_allclose(line.get_ydata(), its[:, begun].mean(axis=0))
        band = ax.collections[0].get_paths()[0].vertices
        low, high = np.percentile(error[:, there], (10, 90), axis=0)
        assert band[:, 1].min() == pytest.approx(low.min())
        assert band[:, 1].max() == pytest.approx(high.max())
        assert_within(ax, data["times"][there], np.concatenate([low, high]))
        assert ax.get_title() == f"{name}: {np.nanmean(error):.3f}"
        assert to_hex(ax.title.get_color()) == (RED if name == "background" else BLUE)


def test_error_against_time_counts_what_diverged():
    data = make(n=5)
    errors = methods(data)
    errors["GRU"][2, 20:] = np.inf
    fig = plotting.error_against_time(data["times"], errors)
    assert fig.axes[1].get_title().endswith("(1 of 5 not finite)")
    assert "not finite" not in fig.axes[0].get_title()


def test_error_distribution_is_the_empirical_one():
    rng = np.random.default_rng(0)
    sample = rng.lognormal(size=(40, 50))
    fig = plotting.error_distribution({"LSTM": sample})
    body, tail = fig.axes
    curve, dots = body.get_lines()
    ordered = np.sort(sample, axis=None)
    rank = np.searchsorted(ordered, curve.get_xdata(), side="right")
    np.testing.assert_array_equal(ordered[rank - 1], curve.get_xdata())
    np.testing.assert_allclose(curve.get_ydata(), rank / sample.size)
    np.testing.assert_allclose(
        tail.get_lines()[0].get_ydata(), 1.0 - (rank - 1) / sample.size
    )
    median, p95 = ordered[999], ordered[1899]
    np.testing.assert_array_equal(dots.get_xdata(), [median, p95])
    np.testing.assert_array_equal(dots.get_ydata(), [0.5, 0.95])
    assert legend_texts(fig) == [f"LSTM: {median:.3f}, {p95:.2f}"]
    assert curve.get_xdata().max() == ordered[-1]
    assert body.get_xscale() == tail.get_xscale() == tail.get_yscale() == "log"
    assert_within(tail, ordered, [1.0 / sample.size, 1.0])


def test_error_distribution_counts_what_diverged():
    sample = np.ones((10, 4))
    sample[:, 0] = np.nan
    sample[0, 2:] = np.inf
    fig = plotting.error_distribution({"MLP": sample})
    assert fig.axes[0].get_lines()[0].get_ydata().max() == pytest.approx(28 / 30)
    assert legend_texts(fig) == ["MLP: 1.00, not finite"]


def test_training_curves_mark_the_best_epoch():
    history = [
        {"epoch": i, "train_loss": 1.0 / i, "val_loss": 0.5 + (i - 4) ** 2}
        for i in range(1, 8)
    ]
    fig = plotting.training_curves(history)
    training, validation, best = fig.axes[0].get_lines()
    np.testing.assert_array_equal(training.get_xdata(), range(1, 8))
    np.testing.assert_array_equal(
        training.get_ydata(), [row["train_loss"] for row in history]
    )
    np.testing.assert_array_equal(
        validation.get_ydata(), [row["val_loss"] for row in history]
    )
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (4, 0.5)
    assert legend_texts(fig)[2] == "best epoch 4: validation 0.5"
    kept = plotting.training_curves(history, best_epoch=6)
    assert kept.axes[0].get_lines()[2].get_xdata()[0] == 6


@pytest.mark.parametrize("most", [1.02, 1.3, 2.9, 30.0, 1e6])
def test_the_labels_of_training_curves_stand_apart(most):
    losses = np.geomspace(0.05, 0.05 * most, 25)
    history = [
        {"epoch": i, "train_loss": loss, "val_loss": loss}
        for i, loss in enumerate(losses)
    ]
    fig = drawn(plotting.training_curves(history))
    [ax] = fig.axes
    for axis in (ax.xaxis, ax.yaxis):
        assert 3 <= len(shown_marks(axis)) <= 12
        shown = [label for label in axis.get_ticklabels() if label.get_text()]
        boxes = [label.get_window_extent() for label in shown]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_tuning_curve_marks_the_choice():
    scales, scores = np.geomspace(0.1, 10.0, 5), np.array([3.0, 2.0, 1.0, 2.0, 3.0])
    fig = plotting.tuning_curve(scales, scores, 1.0, label="rmse for xy")
    curve, best = fig.axes[0].get_lines()
    np.testing.assert_array_equal(curve.get_xydata(), np.stack([scales, scores], 1))
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (1.0, 1.0)
    assert fig.axes[0].get_ylabel() == "rmse for xy"


OVERVIEW = {
    "xy": {
        "climatology": (7.6, 7.5, 7.7),
        "3D-Var": (0.8, 0.75, 0.85),
        "GRU, K=1": (0.5, 0.48, 0.52),
        "GRU, K=3": (0.4, 0.38, 0.42),
    },
    "x2": {"3D-Var": (0.2, 0.18, 0.22), "GRU, K=3": (np.nan, np.nan, np.nan)},
}


def test_overview_tells_who_wins_and_by_how_much():
    fig = plotting.overview(
        OVERVIEW, labels={"x2": "mirror-aware rmse"}, best={"xy": ["GRU, K=3"]}
    )
    xy, x2 = fig.axes
    dots = [line for line in xy.get_lines() if len(line.get_xdata()) == 1]
    # Climatology, ten times as far off, is an arrow beside its number.
    assert [dot.get_xdata()[0] for dot in dots] == [0.8, 0.5, 0.4]
    [arrow] = [text.arrow_patch for text in xy.texts if text.arrow_patch]
    assert to_hex(arrow.get_edgecolor()) == "#777777"
    assert xy.get_xlim()[1] < 1.5
    bars = [tuple(line.get_xdata()) for line in xy.get_lines() if line not in dots]
    assert bars == [(0.75, 0.85), (0.48, 0.52), (0.38, 0.42), (0.8, 0.8)]
    assert [tick.get_text() for tick in xy.get_yticklabels()] == list(OVERVIEW["xy"])
    written = {text.get_text(): text for text in xy.texts}
    assert {"7.600", "× 9.5", "0.400", "−50.0 %", "vs 3D-Var"} <= written.keys()
    bold = {label for label, text in written.items() if text.get_weight() == "bold"}
    assert bold == {"0.400", "−50.0 %"}
    assert (xy.get_title("left"), x2.get_title("left")) == (
        "observed: x, y",
        "observed: x²",
    )
    assert (xy.get_xlabel(), x2.get_xlabel()) == ("rmse", "mirror-aware rmse")
    assert "not finite" in [text.get_text() for text in x2.texts]
    assert_within(xy, [0.18, 0.85], range(4))


def test_marks_of_many_narrow_panels_stand_apart():
    name = "LSTM, K=3, var3d_window"
    row = {"climatology": (8.5, 8.4, 8.6), name: (0.16, 0.15, 0.17)}
    fig = drawn(plotting.overview(dict.fromkeys(("x", "xy", "xyz", "x2"), row)))
    for ax in fig.axes:
        low, high = ax.get_xlim()
        labels = ax.get_xticklabels()
        places = [label.get_position()[0] for label in labels]
        boxes = [
            label.get_window_extent()
            for label, place in zip(labels, places, strict=True)
            if low <= place <= high
        ]
        assert len(boxes) >= 2
        assert all(a.x1 + 2.0 < b.x0 for a, b in pairwise(boxes))


def figures():
    data = make()
    errors = methods(data)
    history = [{"epoch": 1, "train_loss": 1.0, "val_loss": 2.0}]
    return {
        "panels": drawn_panels(data),
        "attractor": plotting.attractor(**without(data, "observations")),
        "time": plotting.error_against_time(data["times"], errors),
        "distribution": plotting.error_distribution(errors),
        "training": plotting.training_curves(history),
        "tuning": plotting.tuning_curve(
            np.array([1.0, 2.0]), np.array([0.5, 0.4]), 2.0
        ),
        "overview": plotting.overview(OVERVIEW),
    }


def no_overlap(fig):
    """Refuse titles and legends that lie over one another or leave the page."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [legend.get_window_extent(renderer) for legend in fig.legends]
    boxes += [
        text.get_window_extent(renderer)
        for ax in fig.axes
        for text in (ax.title, *(axis.label for axis in ax._axis_map.values()))
        if text.get_text()
    ]
    for i, box in enumerate(boxes):
        assert fig.bbox.x0 - 1 <= box.x0
        assert box.x1 <= fig.bbox.x1 + 1
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.slow
def test_files_are_the_same_bytes_each_time_whatever_the_users_settings(tmp_path):
    for name, fig in figures().items():
        paths = plotting.save_figure(fig, tmp_path / "first", name)
        assert [p.name for p in paths] == [f"{name}.png", f"{name}.svg"]
        no_overlap(fig)
    with mpl.rc_context({"font.size": 20.0, "axes.facecolor": "red", "savefig.dpi": 9}):
        for name, fig in figures().items():
            plotting.save_figure(fig, tmp_path / "second", name)
    first = sorted((tmp_path / "first").iterdir())
    assert len(first) == 14
    for written in first:
        assert written.read_bytes() == (tmp_path / "second" / written.name).read_bytes()
        if written.suffix == ".png":
            with Image.open(written) as picture:
                dpi = picture.info["dpi"]
            assert dpi == pytest.approx((150, 150), abs=0.1)


def frames(n_times=12):
    data = make(n=1, n_times=n_times)
    one = {name: data[name][0] for name in ("truth", "background", "analysis")}
    times = {name: data[name] for name in ("truth_times", "times")}
    return plotting.animation(**one, **times, title="GRU, trajectory 0")


def test_animation_is_a_small_moving_gif(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    pictures = frames()
    assert len(pictures) == 12 - WINDOW + 1
    (gif,) = plotting.save_animation(pictures, tmp_path, "a", seconds=1.8)
    with Image.open(gif) as film:
        assert film.n_frames == len(pictures)
        assert film.info["duration"] == 200
        assert film.info["loop"] == 0
    colors = {rgb for _, rgb in pictures[4].convert("RGB").getcolors()}
    assert {(0, 0, 0), (255, 255, 255), (0xD5, 0x5E, 0), (0, 0x72, 0xB2)} <= colors
    assert gif.stat().st_size < 6_000 * len(pictures)
    # What a frame leaves out is as it was before.
    with Image.open(gif) as film:
        for k, picture in enumerate(pictures):
            film.seek(k)
            assert film.convert("RGB").tobytes() == picture.convert("RGB").tobytes()
    (again,) = plotting.save_animation(frames(), tmp_path, "b", seconds=1.8)
    assert again.read_bytes() == gif.read_bytes()


def test_animation_survives_an_ffmpeg_that_fails(tmp_path, monkeypatch):
    broken = tmp_path / "bin" / "ffmpeg"
    broken.parent.mkdir()
    broken.write_text(
        f"#!{sys.executable}\nimport sys\nopen(sys.argv[-1], 'w')\n1 / 0\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    assert [p.name for p in plotting.save_animation(frames(6), tmp_path, "a")] == [
        "a.gif"
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "bin"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_animation_is_an_mp4_too_where_ffmpeg_is_installed(tmp_path):
    gif, mp4 = plotting.save_animation(frames(6), tmp_path, "a")
    assert (gif.name, mp4.name) == ("a.gif", "a.mp4")
    assert b"ftyp" in mp4.read_bytes()[:16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"analysis": np.zeros((3, 5, 3))}, r"analysis: expected \(3, 30, 3\)"),
        ({"times": 0.1 * np.arange(1, 31) + 0.004}, "times: expected some of"),
        (
            {"observations": np.zeros((3, 30, 2))},
            r"observations: expected \(3, 30, 1\)",
        ),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(ArgumentValueError, match=message):
        drawn_panels(make() | change)


def test_other_bad_arguments_are_refused(tmp_path):
    data = make()
    with pytest.raises(ArgumentValueError, match="titles: expected 3, got 1"):
        plotting.panels(**data, operator="x", titles=["one"])
    with pytest.raises(ArgumentValueError, match="val_loss"):
        plotting.training_curves([{"epoch": 1, "train_loss": 1.0}])
    with pytest.raises(ArgumentValueError, match=r"errors\['GRU'\]: expected some fin"):
        plotting.error_distribution({"GRU": np.full((2, 2), np.nan)})
    with pytest.raises(ArgumentValueError, match="name: expected one name"):
        plotting.save_figure(plotting.overview(OVERVIEW), tmp_path, "../a")
    with pytest.raises(ArgumentTypeError, match="errors"):
        plotting.select_cases(np.array(["a"]))


def test_three_observations_and_one_trajectory_are_enough():
    data = make(n=1, n_times=3)
    data["analysis"] = data["background"] / 2
    fig = drawn_panels(data)
    assert_within(grid_of(fig, 1)[0, 0], data["times"], data["analysis"][0, :, 0])
    plotting.attractor(**without(data, "observations"))
    plotting.error_distribution(methods(data))
    plotting.error_against_time(data["times"], methods(data))


def test_no_pyplot_is_imported_so_that_no_figure_is_kept(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from l63fast import plotting\n"
        "fig = plotting.error_distribution({'GRU': np.array([[1.0, 2.0]])})\n"
        "plotting.save_figure(fig, sys.argv[1], 'a')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert (tmp_path / "a.svg").exists()
