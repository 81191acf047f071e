"""Executors that run use cases without blocking the event loop.

No module here knows a database driver or a web framework.
"""
