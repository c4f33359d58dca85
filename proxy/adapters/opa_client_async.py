"""AsyncOpaClient of opa-python-client, without the package's `__init__`.

That also imports the synchronous client and with it `requests` and what hangs on it: 6 MiB in every pod and 30 ms of every start
for a client that is never used (tests/benchmarks/README.md, P11).
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

_PACKAGE = "opa_client"


def _async_client() -> Any:
    if _PACKAGE in sys.modules:
        return import_module(f"{_PACKAGE}.opa_async").AsyncOpaClient
    spec = find_spec(_PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"no module named {_PACKAGE}: install opa-python-client", name=_PACKAGE)
    sys.modules[_PACKAGE] = module_from_spec(spec)  # a path on which submodules are found, itself not executed
    try:
        return import_module(f"{_PACKAGE}.opa_async").AsyncOpaClient
    finally:
        # Whoever imports the package later gets all of it.
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]


AsyncOpaClient = _async_client()
