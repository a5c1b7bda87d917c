"""Objects show themselves on one screen, become xarray, and give their samples."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from torch.utils.data import DataLoader

from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.three_d_var import ThreeDVar, three_d_var
from l63fast.errors import ArgumentValueError
from l63fast.learning.data import AssimilationDataset
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import instantaneous_rms

TWIN = TwinExperiment.generate(
    TwinSettings("xz2", n_train=6, n_val=2, n_test=4, n_steps=240, save_every=5)
)
RESULT = run_cycles(
    EnKF.for_twin(TWIN, B=TWIN.climatology.covariance, n_members=8),
    TWIN, burn_in=4, keep_members=True,
)  # fmt: skip
SAMPLES = AssimilationDataset.from_twin(
    TWIN, "train", TWIN.train.truth_at_observations, window=3
)
ANALYSES = three_d_var(
    TWIN.test.initial_state, TWIN.test.observations[:, 0], "xz2", B=np.eye(3),
    R=np.eye(2),
)  # fmt: skip


@pytest.mark.parametrize(
    "thing",
    [TWIN, TWIN.test, RESULT, SAMPLES, ANALYSES],
    ids=lambda x: type(x).__name__,
)
def test_a_repr_is_one_screen_and_in_notebooks_a_table_of_the_same(thing):
    lines = repr(thing).splitlines()
    assert lines[0] == type(thing).__name__
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 130
    html = thing._repr_html_()
    assert html.count("<tr>") == len(lines) - 1


def test_a_repr_says_shapes_how_analyses_ended_and_opens_no_split(tmp_path):
    assert "(4, 20, 3) float64" in repr(RESULT)
    number = np.count_nonzero(RESULT.status == 0)
    assert f"status                 {number} converged" in repr(RESULT)
    TWIN.save(tmp_path / "twin")
    loaded = TwinExperiment.load(tmp_path / "twin")
    for path in (tmp_path / "twin").glob("*.nc"):
        path.unlink()
    assert "xz2" in repr(loaded)
    assert "[[1., 0.], [0., 1.]]" in repr(loaded)


def test_a_split_in_xarray_is_what_its_file_holds(tmp_path):
    TWIN.save(tmp_path / "twin")
    for name in ("train", "val", "test"):
        with xr.open_dataset(tmp_path / "twin" / f"{name}.nc") as stored:
            xr.testing.assert_identical(TWIN.split(name).to_xarray(), stored.load())


def test_a_twin_in_xarray_is_its_splits_one_after_the_other():
    data = TWIN.to_xarray()
    assert dict(data.sizes) == {
        "trajectory": 12, "time": 49, "component": 3, "observation_time": 24,
        "observed": 2, "observed_too": 2,
    }  # fmt: skip
    assert data.attrs["test_sha256"] == TWIN.hashes["test"]
    for name in ("train", "val", "test"):
        part, split = data.isel(trajectory=data.split == name), TWIN.split(name)
        assert np.array_equal(part.truth, split.truth)
        assert np.array_equal(part.observation, split.observations)
    assert data.time[-1] == 2.4


def test_cycles_in_xarray_meet_the_truth_by_their_times():
    found, truth = RESULT.to_xarray(), TWIN.test.to_xarray().truth
    error = found.analysis - truth
    assert error.dims == ("trajectory", "time", "component")
    expected = instantaneous_rms(
        RESULT.analysis, TWIN.test.truth_at_observations[:, RESULT.scored]
    )
    assert np.array_equal(np.sqrt((error**2).mean("component")), expected)
    assert found.members.dims == ("trajectory", "time", "member", "component")
    assert found.innovation.dims == ("trajectory", "time", "observed")
    assert list(found.observed.values) == ["x", "z²"]
    assert found.attrs["operator"] == "xz2"
    assert found.attrs["split"] == "test"
    assert "effective_size" not in found


def test_cycles_in_xarray_name_an_imperfect_model_and_can_be_written(tmp_path):
    wrong = ThreeDVar.for_twin(TWIN, B=np.eye(3), dt=0.02)
    found = run_cycles(wrong, TWIN, "val", imperfect_model=True).to_xarray()
    assert found.attrs["imperfect_model"] == "dt 0.02 instead of 0.01"
    assert found.attrs["split"] == "val"
    found.to_netcdf(tmp_path / "cycles.nc")


def test_one_sample_is_a_tuple_and_several_are_a_dataset():
    one = SAMPLES[-1]
    assert [part.shape for part in one] == [(3,), (3, 2), (3,)]
    assert np.array_equal(one.truth, SAMPLES.truth[-1])
    for index in (slice(1, 9, 2), [5, 1], np.arange(4), SAMPLES.trajectory == 2):
        part = SAMPLES[index]
        assert isinstance(part, AssimilationDataset)
        at = np.arange(len(SAMPLES))[index]
        assert np.array_equal(part.obs_window, SAMPLES.obs_window[at])
        assert np.array_equal(part.time_index, SAMPLES.time_index[at])
        assert part.made_for is SAMPLES.made_for
    assert len(SAMPLES[[]]) == 0


def test_it_is_iterated_once_and_torch_makes_batches_of_it():
    assert len(list(SAMPLES)) == len(SAMPLES)
    batches = list(DataLoader(SAMPLES, batch_size=50))
    assert sum(len(batch.truth) for batch in batches) == len(SAMPLES)
    assert batches[0].obs_window.shape == (50, 3, 2)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (132, "for 132 samples: index 132 is out of bounds"),
        ([0, -133], "for 132 samples: index -133 is out of bounds"),
        (1.0, "an int, a slice or an array .* for 132 samples"),
        ("truth", "an int, a slice or an array .* for 132 samples"),
        (None, "for 132 samples, got NoneType"),
        ([[0]], "for 132 samples, got list"),
        (True, "for 132 samples, got bool"),
        ([True, False], "boolean"),
    ],
)
def test_an_index_that_is_none_is_refused(index, sentence):
    with pytest.raises(ArgumentValueError, match=sentence):
        SAMPLES[index]
