"""Speed and quality, each one command: `python -m benchmarks.NAME`. Results with machine and versions are in `results/`."""
