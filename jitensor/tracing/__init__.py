"""From Python to graphs: tracers record what a function does with them."""
