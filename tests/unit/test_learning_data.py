"""Windows stay inside their trajectory and in step with the truth; scales are exact."""

import dataclasses

import numpy as np
import pytest

from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.normaliser import Normaliser
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import nearer
from learning_samples import samples

WINDOW = 4


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return TwinExperiment.generate(
        TwinSettings(n_train=5, n_val=3, n_test=2, n_steps=100, spin_up_time=1.0)
    )


def folded(states: np.ndarray) -> np.ndarray:
    """Return states with twice the angle around the z axis."""
    w = states[:, 0] + 1j * states[:, 1]
    doubled = w**2 / np.abs(w)
    return np.stack([doubled.real, doubled.imag, states[:, 2]], 1)


def backgrounds(twin: TwinExperiment, split: str) -> np.ndarray:
    return twin.split(split).truth_at_observations + 0.5


def test_samples_are_those_of_the_twin(twin: TwinExperiment) -> None:
    data = AssimilationDataset.from_twin(
        twin, "train", backgrounds(twin, "train"), window=WINDOW
    )
    split = twin.train
    n_obs = split.observations.shape[1]
    assert len(data) == 5 * (n_obs - WINDOW + 1)
    for i, (j, last) in enumerate(zip(data.trajectory, data.time_index, strict=True)):
        seen = split.observations[j, last - WINDOW + 1 : last + 1]
        assert np.array_equal(data.obs_window[i], seen)
        assert np.array_equal(data.truth[i], split.truth_at_observations[j, last])
    assert np.array_equal(data.background, data.truth + 0.5)
    by_trajectory = data.trajectory.reshape(5, -1)
    assert (by_trajectory == np.arange(5)[:, None]).all()


def test_samples_may_begin_at_analysis_time(twin: TwinExperiment) -> None:
    given = backgrounds(twin, "train")
    data = AssimilationDataset.from_twin(
        twin, "train", given, window=WINDOW, stride=2, analysis_at="first"
    )
    split = twin.train
    for i, (j, at) in enumerate(zip(data.trajectory, data.time_index, strict=True)):
        to_come = split.observations[j, at : at + WINDOW]
        assert np.array_equal(data.obs_window[i], to_come[::-1])
        assert np.array_equal(data.truth[i], split.truth_at_observations[j, at])
    assert np.array_equal(data.background, data.truth + 0.5)
    assert list(np.unique(data.time_index))[:2] == [0, 2]
    with pytest.raises(ArgumentValueError, match="analysis_at: expected one of"):
        AssimilationDataset.from_twin(
            twin, "train", given, window=WINDOW, analysis_at="middle"
        )


def test_stride_skips_samples(twin: TwinExperiment) -> None:
    given = backgrounds(twin, "val")
    every = AssimilationDataset.from_twin(twin, "val", given, window=2)
    third = AssimilationDataset.from_twin(twin, "val", given, window=2, stride=3)
    chosen = (every.time_index - 1) % 3 == 0
    assert np.array_equal(third.obs_window, every.obs_window[chosen])
    assert np.array_equal(third.truth, every.truth[chosen])


@pytest.mark.parametrize("window", [0, 11])
@pytest.mark.promise("I05", "window 0 and beyond the end")
def test_impossible_windows_are_refused(twin: TwinExperiment, window: int) -> None:
    with pytest.raises(ArgumentValueError, match="window: expected"):
        AssimilationDataset.from_twin(
            twin, "val", backgrounds(twin, "val"), window=window
        )


def test_backgrounds_of_another_split_are_refused(twin: TwinExperiment) -> None:
    with pytest.raises(ArgumentValueError, match="backgrounds: expected leading shape"):
        AssimilationDataset.from_twin(
            twin, "val", backgrounds(twin, "train"), window=WINDOW
        )


def test_shapes_that_differ_are_refused() -> None:
    data = samples("xy", 10)
    with pytest.raises(ArgumentValueError, match="truth: expected leading shape"):
        dataclasses.replace(data, truth=data.truth[:9])
    with pytest.raises(ArgumentValueError, match="obs_window: expected"):
        dataclasses.replace(data, obs_window=data.obs_window[:, 0])
    with pytest.raises(ArgumentTypeError, match="background: expected float64"):
        dataclasses.replace(data, background=data.background.astype(np.float32))
    bad = data.truth.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ArgumentValueError, match="truth: expected finite"):
        dataclasses.replace(data, truth=bad)


def test_the_hash_sees_one_bit() -> None:
    data = samples("xy", 10)
    truth = data.truth.copy()
    truth[4, 2] = np.nextafter(truth[4, 2], 0.0)
    assert dataclasses.replace(data, truth=truth).hash != data.hash
    assert samples("xy", 10).hash == data.hash


@pytest.mark.promise("L2", "recomputed equal")
@pytest.mark.parametrize("operator", ["x2", "xy"])
def test_scales_are_those_of_the_training_set(operator: str) -> None:
    data = samples(operator, 500)
    scales = Normaliser.fit(data, operator)
    h = ObservationOperator(operator)
    innovation = data.obs_window[:, -1] - h(data.background)
    folds = operator == "x2"
    truth, background = (
        folded(s) if folds else s for s in (data.truth, data.background)
    )
    rtol = 1e-9 if folds else 1e-12  # folding keeps its root smooth
    assert np.allclose(scales.state_mean, truth.mean(0), rtol=rtol)
    assert np.allclose(scales.state_std, truth.std(0), rtol=rtol)
    assert np.allclose(scales.obs_std, data.obs_window.std((0, 1)), rtol=1e-12)
    for scale, samples_of in (
        (scales.increment_std, truth - background),
        (scales.background_std, nearer(data.truth, data.background) - data.background),
        (scales.innovation_std, innovation),
    ):
        inside = np.abs(samples_of - np.median(samples_of, axis=0)) <= 1.01 * scale
        assert np.allclose(inside.mean(0), 0.68, atol=0.03)
    assert scales.data_hash == data.hash


def test_a_sign_that_cannot_be_seen_is_no_part_of_an_increment() -> None:
    data = samples("x2", 500)
    wrong = np.where(np.arange(500)[:, None] % 2 == 0, [-1.0, -1.0, 1.0], 1.0)
    lost = dataclasses.replace(data, background=data.background * wrong)
    scale = Normaliser.fit(lost, "x2").increment_std
    assert np.allclose(scale, Normaliser.fit(data, "x2").increment_std, rtol=0.05)
    told = dataclasses.replace(lost, obs_window=data.obs_window)
    assert (Normaliser.fit(told, "x").increment_std[:2] > 3.0 * scale[:2]).all()


def test_a_few_that_are_lost_do_not_set_the_scale() -> None:
    data = samples("xy", 500)
    lost = data.background.copy()
    lost[::25] += 1e3
    scales = Normaliser.fit(dataclasses.replace(data, background=lost), "xy")
    usual = Normaliser.fit(data, "xy")
    assert np.allclose(scales.increment_std, usual.increment_std, rtol=0.15)
    assert np.allclose(scales.innovation_std, usual.innovation_std, rtol=0.15)


def test_what_never_varies_keeps_its_unit() -> None:
    data = samples("xy", 50)
    perfect = dataclasses.replace(data, background=data.truth)
    assert np.array_equal(Normaliser.fit(perfect, "xy").increment_std, np.ones(3))


def test_scales_need_samples_of_their_operator() -> None:
    with pytest.raises(ArgumentValueError, match="expected 3 values per observation"):
        Normaliser.fit(samples("xy", 10), "xyz")
    with pytest.raises(ArgumentValueError, match="expected samples, got none"):
        Normaliser.fit(samples("xy", 0), "xy")
