"""Nodes, as far as they prove anything: are they there, which boot is it, and since when is the kubelet heard.

Their objects are cluster-scoped: an operator of one namespace has no right to see them, and does without those proofs.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from forebay_core.budget.proofs import Node
from forebay_operator.api import Api, NotFound

LEASES = "kube-node-lease"  # the namespace of the kubelets' Leases
PAUSE = 5.0  # seconds between two looks at a node on which somebody is silent; a kubelet renews every 10


class Renewal(NamedTuple):
    """`looked`: when this text stood there at the last look; `heard`: when the kubelet was surely alive."""

    text: str
    looked: float
    heard: float


@dataclass(slots=True)
class Kubelets:
    """When each kubelet was heard last, by our own clock: clocks of different machines are never compared. A Lease that
    has changed between two of our looks was renewed after the first of them."""

    renewals: dict[str, Renewal] = field(default_factory=dict)

    def due(self, node: str, now: float) -> bool:
        known = self.renewals.get(node)
        return known is None or now - known.looked >= PAUSE

    async def look(self, node: str, api: Api, now: float) -> Node | None:
        """None: the node has been deleted. Raises ApiError."""
        try:
            boot = (await api.get("Node", "", node))["status"]["nodeInfo"]["bootID"]
        except NotFound:
            return None
        try:
            text = (await api.get("Lease", LEASES, node))["spec"]["renewTime"]
        except NotFound:
            text = ""
        known = self.renewals.get(node)
        heard = 0.0 if known is None else known.heard if known.text == text else known.looked
        self.renewals[node] = Renewal(text, now, heard)
        return Node(boot, heard)
