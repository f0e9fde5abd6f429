"""Loop nest -> readable `@njit` source. Complete: what `f.kernels()` shows, what `JITENSOR_BACKEND=njit` runs, and what a
user takes away as a plain file. Placeholder until the writer below is filled in by its own commit."""
