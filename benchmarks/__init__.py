"""The measured table: `python -m benchmarks`. See `benchmarks/__main__.py`."""
