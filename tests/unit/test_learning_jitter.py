"""Noise on what is seen: of the size asked for, repeatable, and it keeps sets small."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from l63fast.errors import ArgumentValueError
from l63fast.learning.batches import FixedBatches, Jittered
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.learning.training import train
from learning_samples import samples

DATA = samples("xy", 400)
SCALES = Normaliser.fit(DATA, "xy")


def test_the_noise_has_the_size_asked_for_and_the_truth_has_none() -> None:
    plain = FixedBatches(DATA, 200, seed=3)
    noisy = Jittered(FixedBatches(DATA, 200, seed=3), 0.5, SCALES, seed=3)
    assert noisy.n_batches == plain.n_batches == 2
    on_background, on_observations = [], []
    for epoch in range(20):
        for clean, batch in zip(
            plain.batches(epoch), noisy.batches(epoch), strict=True
        ):
            assert torch.equal(clean.truth, batch.truth)
            on_background.append((batch.background - clean.background).numpy())
            on_observations.append((batch.obs_window - clean.obs_window).numpy())
    background = np.concatenate(on_background) / SCALES.background_std
    seen = np.concatenate(on_observations) / SCALES.innovation_std
    for noise in (*background.T, *seen.reshape(-1, 4).T):
        assert abs(noise.std() - 0.5) < 0.02
        assert abs(noise.mean()) < 0.03
    together = np.concatenate([background, seen.reshape(-1, 4)], axis=1)
    correlations = np.corrcoef(together.T) - np.eye(7)
    assert np.abs(correlations).max() < 0.05


def test_the_noise_depends_on_seed_epoch_and_step_alone() -> None:
    def epoch(seed: int, number: int) -> list[torch.Tensor]:
        source = Jittered(FixedBatches(DATA, 200, seed=0), 1.0, SCALES, seed=seed)
        return [batch.background for batch in source.batches(number)]

    first, second = epoch(0, 0)
    again = epoch(0, 0)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    truths = [b.truth for b in FixedBatches(DATA, 200, seed=0).batches(0)]
    assert not torch.allclose(first - truths[0], second - truths[1])
    assert not torch.equal(epoch(1, 0)[0], first)


@pytest.mark.parametrize("jitter", [-0.1, np.nan, 11.0])
def test_nonsense_is_refused(jitter: float) -> None:
    with pytest.raises(ArgumentValueError, match="jitter: expected"):
        TrainSettings(jitter=jitter)


def test_a_small_set_is_not_learned_by_heart() -> None:
    few, others = samples("xy", 60, window=4), samples("xy", 2000, seed=9, window=4)
    encoder = EncoderSettings("mlp", "xy", window=4, hidden=32, n_iterations=1)
    plain = TrainSettings(
        epochs=150, batch_size=60, learning_rate=1e-2, patience=1000, mirror=False
    )
    heard = {
        jitter: train(
            encoder, dataclasses.replace(plain, jitter=jitter), few, others
        ).history[-1]
        for jitter in (0.0, 1.0)
    }
    assert heard[1.0]["train_loss"] > 2.0 * heard[0.0]["train_loss"]
    assert heard[1.0]["val_rmse_pooled_a"] < 0.85 * heard[0.0]["val_rmse_pooled_a"]
