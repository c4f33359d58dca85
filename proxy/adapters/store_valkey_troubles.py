"""What can be wrong with a shared store, as a refusal: a sentence for the operator, in the details, without addresses."""

import socket
import ssl

import hiredis

from proxy.errors import Code, Refusal

# What stands in the way, by the first word of an error reply.
_MEANINGS = {
    "WRONGPASS": "it does not take this password for this user (`username`, `password_file`)",
    "NOAUTH": "it asks for a password (`password_file`, and `username` where it has users)",
    "NOPERM": "this user lacks a right (deploy/README.md lists those that suffice)",
    "LOADING": "it is still reading its data after a start",
    "BUSY": "somebody's script keeps it busy",
    "READONLY": "it is a replica: name the primary",
    "MASTERDOWN": "it is a replica, and its primary is away: name the primary",
    "NOREPLICAS": "too few of its replicas can be reached (min-replicas-to-write)",
    "MISCONF": "it cannot write to its disk",
    "OOM": "its memory is full (maxmemory)",
    "CLUSTERDOWN": "no node of its cluster serves our keys",
    "MOVED": "another node of its cluster has our keys: name that one",
    "ASK": "its cluster is moving our keys",
    "TRYAGAIN": "its cluster is moving our keys",
}
# After these there may be another server behind the same name by now, or this one may ask who we are.
_ELSEWHERE = {"READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN"}

_CONNECTING = (
    (socket.gaierror, "the name of its host is not known"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted ({}); is `ca_file` the CA that it is from?"),
    (ssl.SSLError, "it does not speak TLS there, or none that is safe"),
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "nobody listens there"),
    (FileNotFoundError, "there is no such socket"),
    (ConnectionError, "the connection was closed"),
)


def unavailable(why: str) -> Refusal:
    """The refusal while the store cannot be asked; the cause goes to the details only."""
    return Refusal(
        Code.STATE_UNAVAILABLE, "The state of conversations is not available.", details={"error": why}, retry_after=1
    )


def word_of(error: hiredis.ReplyError) -> str:
    """What an error reply is, as its first word says (OOM, READONLY ...); the rest may quote us."""
    return str(error).split(" ", 1)[0][:32]


def refused_by_server(error: hiredis.ReplyError) -> Refusal:
    """An error reply as a refusal."""
    word = word_of(error)
    meaning = _MEANINGS.get(word)
    return unavailable(f"the server answers {word}" + (f": {meaning}" if meaning else ""))


def serves_no_more(error: hiredis.ReplyError) -> bool:
    """Whether the next command should go over a new connection."""
    return word_of(error) in _ELSEWHERE


def not_connected(error: OSError) -> Refusal:
    """Why there is no connection."""
    for kind, sentence in _CONNECTING:
        if isinstance(error, kind):
            return unavailable(f"cannot connect: {sentence.format(getattr(error, 'verify_message', ''))}")
    return unavailable(f"cannot connect: {error.strerror or type(error).__name__}")


def why(refusal: Refusal) -> str:
    """The operator's sentence of a refusal."""
    return str((refusal.details or {}).get("error", refusal.message))
