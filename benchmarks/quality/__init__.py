"""What is right, how sure we are of it, and what a promise is worth: `python -m benchmarks.quality [part ...] [--quick]`.

One module per part (parts.py); __main__.py runs them and keeps the figures of the parts that were not run.
"""
