"""Adapters: the only place that names a third-party service."""
