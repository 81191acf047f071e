"""How use cases run without blocking the event loop. Nothing here knows a database driver or a web framework."""
