"""The server: uvicorn, and what Agora adds to it."""
