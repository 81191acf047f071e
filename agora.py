"""`python -m agora` runs the command `agora`."""

from interfaces.cli.main import main

if __name__ == "__main__":
    main()
