"""Devices, signatures, caches, compiling and executing: everything that happens at call time."""
