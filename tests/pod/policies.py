"""A NetworkPolicy as a network plugin puts it in force: nftables rules in the pod's network."""

from collections.abc import Iterator, Mapping

from tests.pod.manifest import Tree

_NAMESPACE = "kubernetes.io/metadata.name"


def rules(policy: Tree, peers: Mapping[str, str], node: str) -> str:
    """Of its `spec`. `peers`: namespace -> address of who is there; the node itself always reaches its pods (probes)."""
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    came = "\n".join(
        line for rule in policy.get("ingress", ()) for line in _lines(rule, rule.get("from"), "saddr", peers)
    )
    went = "\n".join(line for rule in policy.get("egress", ()) for line in _lines(rule, rule.get("to"), "daddr", peers))
    return f"""
table inet guard {{
  chain coming {{
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    ct state established,related accept
    ip saddr {node} accept
    {came}
  }}
  chain going {{
    type filter hook output priority 0; policy drop;
    oifname "lo" accept
    ct state established,related accept
    {went}
  }}
}}
"""


def _lines(rule: Tree, others: list[Tree] | None, side: str, peers: Mapping[str, str]) -> Iterator[str]:
    """One line for each pair of peer and port; neither means any, and a peer that nobody is means nobody."""
    for address in [""] if others is None else [f"ip {side} {found} " for found in _addresses(others, peers)]:
        for port in rule.get("ports", [{}]):
            yield f"{address}{port['protocol'].lower()} dport {port['port']} accept" if port else f"{address}accept"


def _addresses(others: list[Tree], peers: Mapping[str, str]) -> Iterator[str]:
    for other in others:
        assert set(other) == {"namespaceSelector"}, f"the rig plays no peer like {other}"
        if found := peers.get(other["namespaceSelector"]["matchLabels"][_NAMESPACE]):
            yield found
