"""What all tests share."""

import signal

from hypothesis import HealthCheck, settings

# A shell that starts us in the background has SIGINT ignored, and what is ignored stays so in every process that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair, and which are tried must not depend on the day: `--hypothesis-profile=wide`
# tries others each time.
settings.register_profile("wide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("wide"), derandomize=True)
settings.load_profile("steady")
