"""Ports of the application: what it needs, and what every adapter guarantees."""
