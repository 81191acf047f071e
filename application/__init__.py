"""Use cases and their ports. Imports the standard library and the domain only."""
