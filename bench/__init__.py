"""Measurements beside peers: `python -m bench`. See docs/reference/bench.md."""
