"""Whole runs: presets, planning, notebooks run unattended, result files, tables, trained models."""

from genscl_lite import datasets as datasets  # says what to install if packages are missing
