"""Seeds as an axis of cycled experiments: repetitions of data and of training."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from cycled_samples import tiny_cycled
from l63fast.errors import ConfigurationError
from l63fast.experiments.cycled.repeated import repeated_rows
from l63fast.experiments.cycled.table import markdown_blocks
from l63fast.experiments.runner import run_experiment


def test_a_seed_is_of_data_and_of_training() -> None:
    gru = {"gru": {"scheme": "encoder", "hidden": 4}}
    experiment = tiny_cycled("enkf", "pf", experiment={"seeds": [0, 5]}, methods=gru)
    cells = experiment.cells()
    assert [cell.name for cell in cells] == ["r0-oi", "r0-gru", "r5-oi", "r5-gru"]
    assert [cell.data.seed for cell in cells] == [0, 0, 5, 5]
    assert [cells[i].method.training.seed for i in (1, 3)] == [0, 5]
    with pytest.raises(ConfigurationError, match=r"data\.seed: is varied by"):
        tiny_cycled(experiment={"seeds": [0, 5]}, data={"seed": 1})
    with pytest.raises(ConfigurationError, match="seeds: expected each once"):
        tiny_cycled(experiment={"seeds": [0, 0]})


def test_one_row_for_all_seeds_and_a_rank(tmp_path: Path) -> None:
    experiment = tiny_cycled("pf", experiment={"seeds": [0, 1, 2]})
    outcome = run_experiment(experiment, tmp_path)
    assert outcome.failures == {}
    rows = {row.method: row for row in repeated_rows(outcome.results)}
    assert {row.n_seeds for row in rows.values()} == {3}
    scores = [
        r.metrics["scores"]["rms"] for r in outcome.results if r.settings.key == "enkf"
    ]
    assert rows["enkf"].score == pytest.approx(sum(scores) / 3)
    assert rows["enkf"].low < rows["enkf"].score < rows["enkf"].high
    # Optimal interpolation is worse than an ensemble by far more than seeds differ.
    assert (rows["enkf"].rank, rows["oi"].rank) == (1, 2)
    assert "over 3 seeds and their trajectories" in markdown_blocks(outcome.results)
    text = (tmp_path / "tiny" / "summary" / "seeds.csv").read_text()
    assert len(list(csv.DictReader(io.StringIO(text)))) == 2
