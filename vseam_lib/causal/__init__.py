"""Causal analyses: recorded runs, replayed with interventions."""
