"""Named experiments with encoders that are trained in their own cycles."""

from __future__ import annotations

from typing import Any, Final

from l63fast.experiments.cycled.presets import CYCLED, Tables

__all__ = ["ENCODERS", "RECIPES"]

# What brings a GRU to within a few per cent of the optimum in some minutes on a core.
_TRAINING: Final[Tables] = {
    "loss": "distance",
    "epochs": 32,
    "batch_size": 192,
    "learning_rate": 0.001,
    "warm_up": 0.02,
    "clip": 0.1,
    "patience": 1000,
    "averaging": 0.998,
    "optimiser": "muon",
    "matrix_rate": 6.0,
}
_CYCLES: Final[Tables] = {
    "updates": 400,
    "unroll": 24,
    "first_unroll": 8,
    "growth": 0.1,
    "through_model": 0.1,
}


def _encoder(
    model: str,
    *,
    training: Tables | None = None,
    cycles: Tables | None = None,
    **settings: Any,
) -> Tables:
    return {
        "scheme": "encoder",
        "model": model,
        **settings,
        "training": {**_TRAINING, **(training or {})},
        "cycles": {**_CYCLES, **(cycles or {})},
    }


def _optimum(n_particles: int, max_particles: int) -> Tables:
    """Return the optimum, of more particles than is usual: encoders come near it."""
    return {
        "scheme": "optimum",
        "n_particles": n_particles,
        "max_particles": max_particles,
        "regularisation": 0.5,
    }


def _on(preset: str, methods: Tables, **experiment: Any) -> Tables:
    """Return an experiment on the data and cycles of a preset, some of its methods.

    Encoders are trained three times, so that it shows what that makes of a score.
    """
    tables = {key: value for key, value in CYCLED[preset].items() if key != "methods"}
    experiment = {"training_seeds": [0, 1, 2], **experiment}
    tables["experiment"] = {**tables.get("experiment", {}), **experiment}
    known = CYCLED[preset]["methods"]
    return {**tables, "methods": {k: v or known[k] for k, v in methods.items()}}


# An empty table stands for the method of that name in the preset below it.
_SAKOV2012: Final[Tables] = {
    "gru": _encoder("gru"),
    "lstm": _encoder("lstm"),
    "mlp": _encoder("mlp", memory="window", window=1),
    "3dvar": {},
    "4dvar-8": {},
    "enkf-10": {},
}
# What has less time learns faster.
_FAST: Final = 0.004
# A nearly linear problem: it is learned in two epochs, and after ten of a long and
# fast schedule a gradient of many thousand times the usual undoes it.
_KNET: Final = _encoder(
    "gru",
    training={"epochs": 8, "learning_rate": _FAST},
    cycles={"start_sigma": 0.3},
)
_SHORT: Final = {"epochs": 5, "learning_rate": _FAST}


def _settings() -> Tables:
    """Return variants of the GRU's recipe; but for the first four of about one cost."""
    brief = {"epochs": 8, "learning_rate": _FAST}
    cost = _CYCLES["updates"] * _CYCLES["unroll"]
    return {
        **{
            f"gru-{n}": _encoder("gru", training={**brief, "epochs": n})
            for n in (2, 4, 8, 16)
        },
        **{
            f"gru-unroll-{n}": _encoder(
                "gru",
                training=brief,
                cycles={"unroll": n, "first_unroll": min(n, 8), "updates": cost // n},
            )
            for n in (3, 6, 12, 48)
        },
        **{
            f"gru-k-{k}": _encoder(
                "gru", n_iterations=k, training={**brief, "epochs": n}
            )
            for k, n in ((2, 6), (4, 4))
        },
        **{
            f"gru-window-{n}": _encoder(
                "gru", memory="window", window=n, training=brief
            )
            for n in (1, 2, 4, 8)
        },
    }


ENCODERS: Final[dict[str, Tables]] = {
    # The three architectures at equal budget, beside their classical rivals.
    "encoders": _on(
        "sakov2012",
        {
            **_SAKOV2012,
            # With 128,000 particles its pool is lower by 0.1 %, in over twice the time.
            "optimum": _optimum(16_000, 64_000),
        },
    ),
    # The same in some minutes: one training of a sixth the length, a smaller filter.
    "encoders-short": _on(
        "sakov2012",
        {
            **_SAKOV2012,
            "gru": _encoder("gru", training=_SHORT),
            "lstm": _encoder("lstm", training=_SHORT),
            "mlp": _encoder("mlp", training=_SHORT, memory="window", window=1),
            "pf-4000": {},
        },
        training_seeds=[0],
    ),
    # One recipe for every operator.
    "encoders-operators": _on(
        "grid",
        {
            "gru": _encoder("gru"),
            "3dvar": {},
            "enkf-20": {},
            "optimum": _optimum(8000, 128_000),
        },
        sigmas=[1.0],
        intervals=[10],
    ),
    "encoders-wiljes2017": _on(
        "wiljes2017",
        {
            "gru": _encoder("gru"),
            "4dvar-8": {},
            "enkf-n-30": {},
            "pf-4000": {},
            "optimum": _optimum(16_000, 128_000),
        },
    ),
    # What a recipe is made of: training time, unroll, iterations, observations seen.
    "encoders-settings": _on(
        "sakov2012", {**_settings(), "3dvar": {}, "pf-4000": {}}, training_seeds=[0]
    ),
    "encoders-knet": _on("knet", {"gru": _KNET, "extkf": {}, "enkf-20": {}}),
}

# What `l63fast train --recipe` trains: methods of the preset `encoders`.
RECIPES: Final[dict[str, str]] = {
    f"cycled-{name}": name for name in ("gru", "lstm", "mlp")
}
