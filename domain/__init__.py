"""Entities and rules of Agora. Standard library only, no I/O, no clock."""
