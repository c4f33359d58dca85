"""Two network namespaces with one cable: the pod's, and the node's, where probes come from and the upstreams are."""

import subprocess
from dataclasses import dataclass, field

from tests.pod.debian import with_programs
from tests.pod.kernel import Network

NODE = {"4": "10.77.0.1", "6": "fd77::1"}
STRANGER = "10.77.0.9"  # another machine's
POD = {"4": "10.77.0.2", "6": "fd77::2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """`families`: "4", "6" or "46". Both ends are gone when this is closed and the processes in them have ended."""

    families: str = "46"
    pod: Network = field(default_factory=Network)
    node: Network = field(default_factory=Network)

    def lay(self) -> None:
        """Addresses and links up. The loopback device has both families in any pod."""
        _ip(self.pod, "link", "set", "lo", "up")
        _ip(self.node, "link", "set", "lo", "up")
        _ip(self.pod, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.node.path)
        for network, addresses in ((self.pod, POD), (self.node, NODE)):
            for family in self.families:
                prefix, more = ("/24", ()) if family == "4" else ("/64", ("nodad",))
                _ip(network, "address", "add", addresses[family] + prefix, "dev", "eth0", *more)
            _ip(network, "link", "set", "eth0", "up")

    @property
    def pod_address(self) -> str:
        """The pod's address as the downward API tells it: the first of its families."""
        return POD[self.families[0]]

    @property
    def node_address(self) -> str:
        return NODE[self.families[0]]

    def add_stranger(self) -> None:
        """An address beside the node's own, from which and to which somebody else speaks."""
        _ip(self.node, "address", "add", f"{STRANGER}/24", "dev", "eth0")

    def filter(self, rules: str) -> None:
        """nftables rules in the pod's network, as a NetworkPolicy ends up."""
        command = ["nsenter", f"--net={self.pod.path}", *with_programs("nftables"), "nft", "-f", "-"]
        subprocess.run(command, input=rules, text=True, check=True, timeout=60)

    def close(self) -> None:
        """Let go of both."""
        self.pod.close()
        self.node.close()


def _ip(network: Network, *words: str) -> None:
    subprocess.run(["nsenter", f"--net={network.path}", "ip", *words], check=True, timeout=20)
