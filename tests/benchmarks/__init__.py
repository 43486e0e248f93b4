"""Time and memory against peers, in one run on one machine.

``python -m tests.benchmarks.loss``: the loss alone. ``python -m tests.benchmarks.step``: a whole training
step, its parts, and a pipeline of DataLoader workers.
"""
