from collections.abc import Sequence

import numpy as np

def levels() -> list[str]: ...
def register_bytes(level: str) -> int: ...
def instructions(kind: int, single: bool, rounds: int, level: str) -> int: ...
def fill(out: np.ndarray, non_temporal: bool, level: str) -> None: ...
def integrate(
    initial: np.ndarray,
    out: np.ndarray,
    save_every: int,
    dt: float,
    sigma: float,
    rho: float,
    beta: float,
    streamed: bool,
    n_threads: int,
    level: str,
) -> int: ...
def analyse(
    background: np.ndarray,
    observation: np.ndarray,
    b_matrices: np.ndarray,
    r_matrices: np.ndarray,
    components: Sequence[int],
    powers: Sequence[int],
    n_starts: int,
    max_iter: int,
    tol: float,
    n_threads: int,
    level: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...
def tangent(
    state: np.ndarray,
    perturbation: np.ndarray,
    n_steps: int,
    dt: float,
    sigma: float,
    rho: float,
    beta: float,
    n_threads: int,
    level: str,
) -> tuple[np.ndarray, np.ndarray, int]: ...
def adjoint(
    state: np.ndarray,
    gradient: np.ndarray,
    n_steps: int,
    dt: float,
    sigma: float,
    rho: float,
    beta: float,
    n_threads: int,
    level: str,
) -> tuple[np.ndarray, int]: ...
def filter_particles(
    states: np.ndarray,
    log_weights: np.ndarray,
    observation: np.ndarray,
    n_cycles: int,
    forecasts: bool,
    analyses: bool,
    n_steps: int,
    dt: float,
    sigma: float,
    rho: float,
    beta: float,
    noise_root: np.ndarray,
    whitening: np.ndarray,
    components: Sequence[int],
    powers: Sequence[int],
    threshold: float,
    bandwidth: float,
    lost: float,
    rescue_root: np.ndarray,
    folded: bool,
    key_0: int,
    key_1: int,
    first_stage: int,
    n_threads: int,
    level: str,
) -> tuple[
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
]: ...
def gru(
    inputs: np.ndarray,
    input_weights: np.ndarray,
    state_weights: np.ndarray,
    input_bias: np.ndarray,
    state_bias: np.ndarray,
    gates: np.ndarray,
    states: np.ndarray,
    n_threads: int,
    level: str,
) -> None: ...
def gru_back(
    state_weights: np.ndarray,
    gates: np.ndarray,
    states: np.ndarray,
    gradient: np.ndarray,
    slopes: np.ndarray,
    n_threads: int,
    level: str,
) -> None: ...
