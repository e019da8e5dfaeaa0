"""Leaderboards: tables made from results only."""
