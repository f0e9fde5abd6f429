"""The intermediate representation: types, sizes, graphs, their text, their checks and their NumPy meaning."""
