"""Generalized Supervised Contrastive Learning (arXiv 2206.00384), thin and readable.

The loss alone: ``from genscl_lite.losses import GenSupConLoss``.
"""
