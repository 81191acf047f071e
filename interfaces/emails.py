"""Validation of e-mail addresses from clients, over HTTP and on the command line."""

from email_validator import EmailNotValidError, validate_email

from domain.users import EMAIL_INPUT_MAX


def require_email(text: str) -> str:
    """Return a valid address (RFC 5321, RFC 6531), trimmed and otherwise unchanged.

    There is no DNS query. Domains under `.test` (RFC 2606) are valid, for trials.

    Raises:
        ValueError: the address is invalid; the message says why.
    """
    address = text.strip()
    if len(address) > EMAIL_INPUT_MAX:  # validation takes more than linear time
        raise ValueError("the e-mail address is too long")
    try:
        validate_email(address, check_deliverability=False, strict=True, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return address
