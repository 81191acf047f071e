"""Operations on whole databases, past the ports: check, fill, export, import, adopt."""
