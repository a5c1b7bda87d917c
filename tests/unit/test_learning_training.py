"""Training repeats to the bit, resumes exactly, stops when told and says why."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from l63fast.errors import (
    ArgumentValueError,
    L63Error,
    ModelFileError,
    TrainingDiverged,
)
from l63fast.learning.batches import FixedBatches, FreshBatches, as_batch, mirrored
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.loop import CHECKPOINT
from l63fast.learning.losses import Batch, MeanSquaredError
from l63fast.learning.settings import ENCODER_NAMES, EncoderSettings, TrainSettings
from l63fast.learning.training import TrainResult, train
from l63fast.observation import ObservationOperator
from learning_samples import B, samples

RECIPE = TrainSettings(epochs=3, batch_size=64, learning_rate=3e-3)


def encoder_settings(model: str = "gru", operator: str = "xy") -> EncoderSettings:
    return EncoderSettings(model, operator, window=2, hidden=8, n_iterations=2)


def run(model: str = "gru", recipe: TrainSettings = RECIPE, **kw: Any) -> TrainResult:
    return train(
        encoder_settings(model),
        recipe,
        kw.pop("train_data", samples("xy", 300)),
        samples("xy", 100, seed=1),
        **kw,
    )


def digest(result: TrainResult) -> str:
    sha = hashlib.sha256(repr(result.history).encode())
    for name, value in result.encoder.state_dict().items():
        sha.update(name.encode() + value.numpy().tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize("model", ENCODER_NAMES)
@pytest.mark.promise("N7", "equal sha256, MLP, GRU, LSTM, stopped at every epoch")
def test_training_repeats_and_resumes_to_the_bit(model: str, tmp_path: Path) -> None:
    whole = run(model)
    torch.manual_seed(99)
    assert digest(run(model)) == digest(whole)
    for stop in (1, 2, 3):
        folder = tmp_path / str(stop)
        folder.mkdir()

        def interrupt(record: dict[str, Any], stop: int = stop) -> None:
            if record["epoch"] == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(model, directory=folder, report=interrupt)
        lines: list[str] = []
        resumed = run(model, directory=folder, resume=True, progress=lines.append)
        assert digest(resumed) == digest(whole), stop
        assert lines[0] == f"resumed after epoch {stop} of 3"
        assert len(lines) == 1 + 3 - stop


def test_seed_and_data_change_the_weights() -> None:
    whole = digest(run())
    assert digest(run(recipe=dataclasses.replace(RECIPE, seed=1))) != whole
    data = samples("xy", 300)
    changed = dataclasses.replace(data, truth=data.truth + 1e-3)
    assert digest(run(train_data=changed)) != whole


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": dataclasses.replace(RECIPE, learning_rate=1e-3)}, "learning_rate"),
        ({"recipe": dataclasses.replace(RECIPE, threads=2)}, "threads 1, not 2"),
        ({"model": "mlp"}, "model 'gru', not 'mlp'"),
        ({"train_data": samples("xy", 300, seed=7)}, "train_data"),
        ({"R": np.eye(2)}, "R None, not"),
    ],
)
@pytest.mark.promise("I07", "every difference named")
def test_a_checkpoint_of_another_run_is_refused(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    run(directory=tmp_path)
    with pytest.raises(ModelFileError, match=f"of another run: .*{named}"):
        run(directory=tmp_path, resume=True, **change)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(directory=tmp_path)
    path = tmp_path / CHECKPOINT
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged"):
        run(directory=tmp_path, resume=True)


def test_a_checkpoint_holds_nothing_but_plain_values(tmp_path: Path) -> None:
    run(directory=tmp_path)
    payload = (tmp_path / CHECKPOINT).read_bytes().partition(b"\n")[2]
    (tmp_path / "payload").write_bytes(payload)
    content = torch.load(tmp_path / "payload", weights_only=True)
    assert content["progress"]["history"][0]["epoch"] == 1


def test_training_improves_on_the_background() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=8, learning_rate=1e-2)
    result = run(recipe=recipe, train_data=samples("xy", 2000))
    val = samples("xy", 100, seed=1)
    background = float(np.sqrt(((val.background - val.truth) ** 2).mean()))
    assert result.history[-1]["val_rmse_pooled_a"] < 0.92 * background
    assert [record["epoch"] for record in result.history] == list(range(1, 9))
    assert list(result.history[0]) == [
        *("epoch", "train_loss", "val_loss", "val_rmse_pooled_a"),
        *("learning_rate", "gradient_norm"),
    ]


def test_stops_early_and_keeps_the_best_weights() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=60, learning_rate=3e-2, patience=2)
    lines: list[str] = []
    result = run(recipe=recipe, train_data=samples("xy", 40), progress=lines.append)
    best = result.best_epoch
    assert lines[-1] == (
        f"stopped after epoch {best + 2} of 60: no lower validation loss since epoch "
        f"{best}"
    )
    losses = [record["val_loss"] for record in result.history]
    assert len(losses) == result.best_epoch + 2 < 60
    assert min(losses) == losses[result.best_epoch - 1]
    val = as_batch(samples("xy", 100, seed=1))
    with torch.no_grad():
        analysis, _ = result.encoder(*val[:2], result.encoder.initial_hidden(100))
    mean = ((analysis - val.truth) ** 2).sum(1).mean()
    assert float(mean) == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.promise("I07", "epoch, step and checkpoint named")
def test_a_nan_loss_stops_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def poisoned(self: MeanSquaredError, analysis: Any, batch: Batch) -> Any:
        nonlocal calls
        calls += 1
        error = (analysis - batch.truth).square().sum(1)
        return error * float("nan") if calls > 9 else error

    monkeypatch.setattr(MeanSquaredError, "__call__", poisoned)
    # 300 samples: 1 call for the background, 4 steps and 1 validation an epoch.
    with pytest.raises(TrainingDiverged, match="epoch 2, step 3") as caught:
        run(directory=tmp_path)
    assert (caught.value.epoch, caught.value.step) == (2, 3)
    assert caught.value.checkpoint == str(tmp_path / CHECKPOINT)


def test_threads_are_restored_even_after_an_error() -> None:
    before = torch.get_num_threads()
    recipe = dataclasses.replace(RECIPE, epochs=1, threads=before + 1)
    seen = []

    def report(record: dict[str, Any]) -> None:
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe=recipe, report=report)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("window", [1, 3])
def test_data_of_another_window_are_refused(window: int) -> None:
    with pytest.raises(ArgumentValueError, match="train_data: expected windows"):
        run(train_data=samples("xy", 50, window=window))


def test_no_samples_are_refused() -> None:
    with pytest.raises(L63Error, match="train_data: expected samples, got none"):
        run(train_data=samples("xy", 0))


def test_an_epoch_sees_every_sample_once_in_an_order_of_its_own() -> None:
    data = samples("xy", 103)
    source = FixedBatches(data, 10, seed=0)
    first, second, again = (
        torch.cat([batch.truth for batch in source.batches(epoch)])
        for epoch in (0, 1, 0)
    )
    assert source.n_batches == 10
    assert len({tuple(row) for row in first.tolist()}) == 100
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("operator", ["x", "xy", "x2", "xyz", "x2y"])
def test_mirrored_samples_are_samples_of_the_mirrored_truth(operator: str) -> None:
    h = ObservationOperator(operator)
    batch = as_batch(samples(operator, 20))
    batch = batch._replace(obs_window=h(batch.truth)[:, None].repeat(1, 2, 1))
    sign = torch.ones(20)
    sign[::2] = -1.0
    result = mirrored(batch, sign, h)
    S = torch.tensor([-1.0, -1.0, 1.0])
    assert torch.equal(result.truth[::2], batch.truth[::2] * S)
    assert torch.equal(result.background[::2], batch.background[::2] * S)
    assert torch.equal(result.truth[1::2], batch.truth[1::2])
    assert torch.equal(result.obs_window[:, -1], h(result.truth))


def fresh(epoch: int) -> AssimilationDataset:
    return samples("xy", 300, seed=100 + epoch)


def test_fresh_samples_are_never_seen_twice_and_resume_to_the_bit(
    tmp_path: Path,
) -> None:
    source = FreshBatches(fresh, 64, seed=0)
    seen = {
        tuple(row)
        for epoch in range(3)
        for batch in source.batches(epoch)
        for row in batch.truth.tolist()
    }
    assert len(seen) == 3 * 4 * 64
    whole = run(train_data=fresh)
    assert digest(run(train_data=fresh(0))) != digest(whole)

    def interrupt(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(train_data=fresh, directory=tmp_path, report=interrupt)
    assert digest(run(train_data=fresh, directory=tmp_path, resume=True)) == digest(
        whole
    )
    with pytest.raises(ModelFileError, match="fresh True, not False"):
        run(train_data=fresh(0), directory=tmp_path, resume=True)


def test_var3d_trains_from_its_covariances() -> None:
    recipe = dataclasses.replace(RECIPE, loss="var3d")
    with pytest.raises(ArgumentValueError, match="B: expected"):
        run(recipe=recipe)
    result = run(recipe=recipe, B=B, R=np.eye(2))
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]
