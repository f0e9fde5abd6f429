"""Graph to graph: abstraction of what a program is generic in, and simplification."""
