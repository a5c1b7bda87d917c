"""Draws cycled.png, error against time per cycle, from tables of the documentation.

    python docs/images/cycled.py

The tables are those of `l63fast experiment encoders` in README.md and of `l63fast
experiment sakov2012` in docs/explanation/yardstick.md: the same truth and observations.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from l63fast import plotting

REPOSITORY = Path(__file__).resolve().parents[2]
SHOWN = {  # label: what it is, where its name stands from the mark (points, alignment)
    "optimum": ("optimum", (6, 9, "right")),
    "particle filter, N=4000": ("pf", (0, -20, "center")),
    "particle filter, N=800": ("pf", (0, 10, "center")),
    "particle filter, N=100": ("pf", (9, -3, "left")),
    "GRU, carried": ("gru", (-9, -3, "right")),
    "LSTM, carried": ("lstm", (6, -17, "left")),
    "MLP, L=1": ("mlp", (-9, -3, "right")),
    "4D-Var, L=8": ("4dvar", (9, -3, "left")),
    "EnKF, N=10": ("enkf", (9, -3, "left")),
    "extended Kalman": ("extkf", (9, -3, "left")),
    "3D-Var": ("3dvar", (9, -3, "left")),
}


def column(page: str, name: str) -> dict[str, float]:
    """Return a column of the tables of a page, by method; the first table counts."""
    found: dict[str, float] = {}
    header: list[str] = []
    for line in (REPOSITORY / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        elif name in header and "method" in header:
            method, value = cells[header.index("method")], cells[header.index(name)]
            if method in SHOWN and method not in found and value:
                found[method] = float(value)
    return found


def main() -> None:
    """Draw it."""
    yardstick = "docs/explanation/yardstick.md"
    scores = column(yardstick, "rmse_a") | column("README.md", "rmse_a")
    times = column(yardstick, "µs/cycle") | column("README.md", "µs per cycle")
    looks = plotting.method_looks(
        SHOWN, {name: kind for name, (kind, _) in SHOWN.items()}
    )
    fig = Figure(figsize=(8.4, 3.9), layout="constrained", dpi=150)
    ax = fig.subplots()
    for name, (kind, (right, up, side)) in SHOWN.items():
        encoder = kind in ("gru", "lstm", "mlp")
        at = times[name], scores[name]
        ax.plot(*at, markersize=11 if encoder else 8, **looks[name].mark)
        ax.annotate(
            f"{name} {scores[name]:.3f}",
            at,
            (right, up),
            textcoords="offset points",
            ha=side,
            fontsize=9,
            weight="bold" if encoder else "normal",
        )
    best = scores["optimum"]
    ax.axhspan(0.2, best, color="0.92", linewidth=0)
    ax.annotate("below the optimum's rmse_a", (0.28, 0.222), fontsize=9, color="0.4")
    ax.set(xscale="log", yscale="log", xlim=(0.25, 1500), ylim=(0.21, 1.2))
    ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    ax.set_yticks(
        [0.25, 0.3, 0.4, 0.5, 0.7, 1], ["0.25", "0.3", "0.4", "0.5", "0.7", "1"]
    )
    ax.minorticks_off()
    ax.set_xlabel("time per trajectory and cycle (µs)")
    ax.set_ylabel("error of the analyses (rmse_a)")
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
