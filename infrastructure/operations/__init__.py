"""Operations on whole databases, past the ports."""
