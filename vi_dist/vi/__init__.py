"""Variational inference on torch alone: divergences, estimators, guides, packs."""
