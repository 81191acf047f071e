"""What commands share."""


def examples(*lines: str) -> str:
    """Format the examples at the end of a command's help."""
    return "\n\n".join(("Examples:", *lines))
