"""How Agora is reached: over HTTP and from the command line.

Both call use cases through the same front door, `application.app.App`.
"""
