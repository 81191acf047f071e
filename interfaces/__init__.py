"""How Agora is reached: over HTTP and from the command line.

Both hold the same front door, application.app.App.
"""
