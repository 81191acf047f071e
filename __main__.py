"""`python -m agora`, and the command `agora`."""

import sys
from pathlib import Path

# An installation holds the packages below agora/, where other distributions do not meet them; only this process imports
# them by their own names.
sys.path.insert(0, str(Path(__file__).parent))

from interfaces.cli.main import main

if __name__ == "__main__":
    main()
