"""Fast data-assimilation experiments on the Lorenz-63 system."""
