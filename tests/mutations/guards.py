"""Guards of the product, each with the smallest break that takes it away and the tests that must turn red.

A break that no test notices is a guard that may go missing; `python -m tests.mutations.run` tries every one.
"""

from tests.mutations import deciding, keeping, reading, sending
from tests.mutations.guard import Guard

GUARDS: tuple[Guard, ...] = (*reading.GUARDS, *sending.GUARDS, *deciding.GUARDS, *keeping.GUARDS)
