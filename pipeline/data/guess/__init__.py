"""Guess the TOML file of a new competition from its data folder."""
