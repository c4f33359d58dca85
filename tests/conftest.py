"""What all tests share."""

import signal

# A shell that starts us in the background has SIGINT ignored, and what is ignored stays so in every process that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
