"""Import dependency-injector without its wiring.

`dependency_injector.containers` imports the module that wires decorated functions, and with it each installed web
framework: a third of the start of a command. Agora passes dependencies to constructors and decorates no function.
"""

import sys
from types import ModuleType

_unused = ModuleType("dependency_injector.wiring")
vars(_unused).update(wire=None, unwire=None)
sys.modules.setdefault(_unused.__name__, _unused)

from dependency_injector import containers, providers  # noqa: E402 - it imports the module above

__all__ = ["containers", "providers"]
