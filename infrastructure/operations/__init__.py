"""Operations on whole databases, past the ports.

Check, fill, export, import, adopt.
"""
