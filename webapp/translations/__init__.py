"""The catalogues of all languages, and what brings them up to date."""
