"""Saved filters: a person's own names for what they ask a list for."""
