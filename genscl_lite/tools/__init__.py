"""The command line, the check of a machine, benchmarks."""
