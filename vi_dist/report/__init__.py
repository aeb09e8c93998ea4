"""Leaderboards from a sweep's tables."""
