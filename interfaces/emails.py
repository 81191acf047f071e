"""What counts as an e-mail address on the way in, over HTTP and at the command line alike."""

from email_validator import EmailNotValidError, validate_email

from domain.users import EMAIL_INPUT_MAX


def require_email(text: str) -> str:
    """Accept an address of the form that mail servers accept (RFC 5321, RFC 6531), trimmed and else as given.

    Nothing is looked up. Names under `.test` are fine (RFC 2606): people try things out with them.

    Raises:
        ValueError: it is not one; the message says what is wrong.
    """
    address = text.strip()
    if len(address) > EMAIL_INPUT_MAX:  # validation takes more than linear time
        raise ValueError("the e-mail address is too long")
    try:
        validate_email(address, check_deliverability=False, strict=True, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return address
