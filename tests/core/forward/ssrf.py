"""Where attackers send a forward proxy, and what it says: for the rules here, and for a whole proxy elsewhere.

The document that they run against lets go to `*.good.test` and to 127.0.0.2, and to nothing else that is private. So a
test can put its honest server on 127.0.0.2 and traps on all other loopback addresses: what reaches a trap is a failure.
"""

from typing import Any, NamedTuple

MALFORMED = "400"
REACHED = ""

FORWARD: dict[str, Any] = {"allowHosts": ["*.good.test", "*.evil.test", "localhost", "127.0.0.2", "0.0.0.0/0", "::/0"]}


class Case(NamedTuple):
    """A host as it stands in a URL or before CONNECT's port, and the rule that denies it; REACHED: it gets to 127.0.0.2
    and nowhere else."""

    host: str
    verdict: str


_LITERALS = (
    *("127.0.0.1", "127.0.0.3", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1"),
    *("172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0.0.0.1]"),
    *("[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:127.0.0.2]", "[::ffff:8.8.8.8]"),
    *("[::ffff:0:127.0.0.1]", "[::127.0.0.1]", "[::7f00:1]"),
    *("[64:ff9b::127.0.0.1]", "[64:ff9b::a00:1]", "[64:ff9b::8.8.8.8]", "[64:ff9b:1::7f00:1]"),
    *("[2002:7f00:1::]", "[2002:a00:1::1]", "[2001::7f00:1]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]"),
    *("[fc00::1]", "[fd12:3456::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fe80::1]", "[fec0::1]", "[ff02::1]"),
    *("[ff05::1:3]", "[100::1]", "[4000::1]", "[::2]"),
)
_MALFORMED = (
    # What getaddrinfo would read as an address: decimal, octal, hexadecimal and short forms, alone and mixed.
    *("2130706433", "017700000001", "0x7f000001", "0X7F000001", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1"),
    *(
        "127.0.0.01",
        "127.0.0.0x1",
        "0177.0.0.0x1",
        "0",
        "0x0",
        "0x",
        "00000000177.1",
        "127.0.0.1.",
        "127.1.",
        "2852039166",
    ),
    *("256.0.0.1", "1.2.3", "1.2.3.4.5", "127.0.0.1.1", "4294967297", "a.0x7f", "example.1"),
    # Not an address and not a name.
    *(
        "",
        ".",
        "..",
        "a..good.test",
        ".good.test",
        "-a.good.test",
        "a-.good.test",
        "a" * 64 + ".good.test",
        "a." * 128 + "b",
    ),
    *(
        "[127.0.0.1]",
        "[::1",
        "::1",
        "[::1%25lo]",
        "[::1%lo]",
        "[fe80::1%25eth0]",
        "[]",
        "[::g]",
        "[1::2::3]",
        "[::ffff:127.1]",
    ),
    # A user, or what some parsers take for one.
    *(
        "good.test@127.0.0.1",
        "user:secret@127.0.0.1",
        "a.good.test:80@127.0.0.1",
        "@127.0.0.1",
        "127.0.0.1\\@a.good.test",
    ),
    # Encoded, or in letters and digits of other scripts, which IDNA maps to ASCII.
    *(
        "127%2e0%2e0%2e1",
        "%6c%6f%63%61%6c%68%6f%73%74",
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
        "127\u30020\u30020\u30021",
    ),
    *("\uff11\uff12\uff17.0.0.1", "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54", "\u0661\u0662\u0667.0.0.1"),
    *(
        "caf\u00e9.good.test",
        "a\u00ad.good.test",
        "a.good.test\u200b",
        "a.good.test,127.0.0.1",
        "a.good.test;x",
        "127.0.0.1 ",
    ),
)
# How names of the test's zone resolve; each of a list's answers is given in turn, the last one again and again.
ZONE: dict[str, list[list[str]]] = {
    "a.good.test": [["127.0.0.2"]],
    "xn--caf-dma.good.test": [["127.0.0.2"]],
    "_a.good.test": [["127.0.0.2"]],
    "both.good.test": [["127.0.0.1", "127.0.0.2", "10.0.0.1"]],  # only one of them may be connected to
    "six.good.test": [["::1", "127.0.0.2"]],
    "loopback.evil.test": [["127.0.0.1"]],
    "six.evil.test": [["::1"]],
    "private.evil.test": [["10.0.0.1", "192.168.0.1"]],
    "carrier.evil.test": [["100.64.0.1"]],
    "metadata.evil.test": [["169.254.169.254"]],
    "zero.evil.test": [["0.0.0.0"]],
    "mapped.evil.test": [["::ffff:127.0.0.1"]],
    "nat64.evil.test": [["64:ff9b::7f00:1"]],
    "local.evil.test": [["fe80::1"]],
    "127.0.0.1.evil.test": [["127.0.0.1"]],  # as wildcard DNS services do
    "0x7f.1.evil.test": [["127.0.0.1"]],
    "rebound.evil.test": [["127.0.0.2"], ["127.0.0.1"]],  # whoever resolves twice is lost
    "bound.evil.test": [["127.0.0.1"], ["127.0.0.2"]],
    "localhost": [["127.0.0.1", "::1"]],
}
# What they are other names of; their addresses are those of the last in the chain.
ALIASES = {
    "alias.good.test": "a.good.test",
    "alias.evil.test": "loopback.evil.test",
    "chain.good.test": "alias.evil.test",
    "outside.good.test": "metadata.evil.test",
}
_NAMES = (
    *(
        Case(host, REACHED)
        for host in ("a.good.test", "A.Good.TEST", "a.good.test.", "xn--caf-dma.good.test", "_a.good.test")
    ),
    *(
        Case(host, REACHED)
        for host in ("both.good.test", "six.good.test", "alias.good.test", "rebound.evil.test", "127.0.0.2")
    ),
    *(
        Case(f"{name}.evil.test", "denyPrivate")
        for name in ("loopback", "six", "private", "carrier", "metadata", "zero", "mapped", "nat64", "local", "alias")
    ),
    *(Case(host, "denyPrivate") for host in ("127.0.0.1.evil.test", "0x7f.1.evil.test", "LOOPBACK.evil.test.")),
    *(
        Case(host, "denyPrivate")
        for host in ("localhost", "LocalHost", "localhost.", "chain.good.test", "outside.good.test")
    ),
    Case("bound.evil.test", "denyPrivate"),
)
CASES = (
    *(Case(host, "denyPrivate") for host in _LITERALS),
    *(Case(host, MALFORMED) for host in _MALFORMED),
    *_NAMES,
)


def addresses(host: str) -> list[str]:
    """What the zone's server says first."""
    name = host.lower().removesuffix(".")
    while name in ALIASES:
        name = ALIASES[name]
    return ZONE[name][0]
