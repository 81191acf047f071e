"""Agora from the command line."""
