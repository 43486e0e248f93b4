"""The command line; the check of a machine and of a data set."""
