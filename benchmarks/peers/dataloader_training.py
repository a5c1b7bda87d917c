"""The training of an encoder as a student writes it: Dataset, DataLoader, a loop."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from l63fast.learning.data import AssimilationDataset


class Windows(Dataset):
    """Samples one by one, as `DataLoader` asks for them."""

    def __init__(self, data: AssimilationDataset):
        self.background = torch.tensor(data.background, dtype=torch.float32)
        self.obs_window = torch.tensor(data.obs_window, dtype=torch.float32)
        self.truth = torch.tensor(data.truth, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.background[i], self.obs_window[i], self.truth[i]


class Network(nn.Module):
    """Reads a window by a GRU, an LSTM or dense layers; corrects the background."""

    def __init__(self, model: str, obs_dim: int, window: int, scales: dict[str, Any]):
        super().__init__()
        self.recurrent = model != "mlp"
        if model == "gru":
            self.reader: nn.Module = nn.GRU(obs_dim, 64, batch_first=True)
        elif model == "lstm":
            self.reader = nn.LSTM(obs_dim, 55, batch_first=True)
        else:
            self.reader = nn.Sequential(
                nn.Flatten(), nn.Linear(window * obs_dim, 160), nn.ReLU(),
                nn.Linear(160, 64), nn.ReLU(),
            )  # fmt: skip
        size = 55 if model == "lstm" else 64
        self.head = nn.Sequential(
            nn.Linear(size + 3 + obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
            nn.Linear(64, 3),
        )  # fmt: skip
        for name, value in scales.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def forward(self, background: Tensor, obs_window: Tensor) -> Tensor:
        seen = (obs_window - self.obs_mean) / self.obs_std
        read = self.reader(seen)
        context = read[0][:, -1] if self.recurrent else read
        state = (background - self.state_mean) / self.state_std
        seen_b = background[:, : obs_window.shape[-1]]  # linear operators only
        innovation = (obs_window[:, -1] - seen_b) / self.innovation_std
        inputs = torch.cat([context, state, innovation], dim=1)
        return background + self.increment_std * self.head(inputs)


def scales_of(data: AssimilationDataset) -> dict[str, np.ndarray]:
    """Return means and standard deviations of a training set."""
    m = data.obs_dim
    return {
        "obs_mean": data.obs_window.mean(axis=(0, 1)),
        "obs_std": data.obs_window.std(axis=(0, 1)),
        "state_mean": data.truth.mean(axis=0),
        "state_std": data.truth.std(axis=0),
        "increment_std": (data.truth - data.background).std(axis=0),
        "innovation_std": (data.obs_window[:, -1] - data.background[:, :m]).std(axis=0),
    }


def train_by_dataloader(
    model: str,
    train_data: AssimilationDataset,
    val_data: AssimilationDataset,
    test_data: AssimilationDataset,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
) -> float:
    """Return the root mean square test error of a network trained on a dataset."""
    torch.manual_seed(0)
    scales = scales_of(train_data)
    network = Network(model, train_data.obs_dim, train_data.window, scales)
    loaders = [
        DataLoader(Windows(data), batch_size=batch_size, shuffle=first)
        for data, first in ((train_data, True), (val_data, False), (test_data, False))
    ]
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    weight = 1.0 / network.increment_std.square().mean()
    best, best_weights = float("inf"), copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        network.train()
        total = 0.0
        for background, obs_window, truth in loaders[0]:
            optimiser.zero_grad()
            analysis = network(background, obs_window)
            loss = weight * nn.functional.mse_loss(analysis, truth)
            loss.backward()
            optimiser.step()
            total += loss.item()
        error = evaluated(network, loaders[1])
        if error < best:
            best, best_weights = error, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)
    return evaluated(network, loaders[2])


def evaluated(network: Network, loader: DataLoader) -> float:
    """Return the root mean square error over a loader's samples."""
    network.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for background, obs_window, truth in loader:
            error = network(background, obs_window) - truth
            total += error.square().sum().item()
            count += error.numel()
    return float((total / count) ** 0.5)
