"""Dask clusters, our own or another's: dask is imported in this package alone."""

from l63fast.experiments.cluster.workers import local_workers, workers_of

__all__ = ["local_workers", "workers_of"]
