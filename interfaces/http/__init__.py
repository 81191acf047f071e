"""Agora over HTTP."""
