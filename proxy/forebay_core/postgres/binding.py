"""Channel binding by tls-server-end-point (RFC 5929 section 4.1): a hash of the server's certificate.

The hash is that of the certificate's signature, SHA-256 in place of MD5 and SHA-1; a signature without one
(Ed25519) has no such binding. Only as much of DER is read as it takes to find the signature's algorithm.
"""

import hashlib

_HASHES = {  # object identifiers of signatures and of hashes, DER content
    bytes.fromhex("2a864886f70d010104"): "sha256",  # md5WithRSAEncryption
    bytes.fromhex("2a864886f70d010105"): "sha256",  # sha1WithRSAEncryption
    bytes.fromhex("2a864886f70d01010b"): "sha256",
    bytes.fromhex("2a864886f70d01010c"): "sha384",
    bytes.fromhex("2a864886f70d01010d"): "sha512",
    bytes.fromhex("2a864886f70d01010e"): "sha224",
    bytes.fromhex("2a8648ce3d0401"): "sha256",  # ecdsa-with-SHA1
    bytes.fromhex("2a8648ce3d040301"): "sha224",
    bytes.fromhex("2a8648ce3d040302"): "sha256",
    bytes.fromhex("2a8648ce3d040303"): "sha384",
    bytes.fromhex("2a8648ce3d040304"): "sha512",
    bytes.fromhex("2b0e03021a"): "sha256",  # SHA-1 as a parameter of RSASSA-PSS
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
    bytes.fromhex("608648016503040204"): "sha224",
}
_RSASSA_PSS = bytes.fromhex("2a864886f70d01010a")
_SEQUENCE, _OBJECT, _FIRST = 0x30, 0x06, 0xA0


def server_end_point(certificate: bytes) -> bytes | None:
    """The binding of a certificate in DER; None where it has none, or is no certificate."""
    try:
        signed_and_signature, _ = _element(certificate, _SEQUENCE)
        _, rest = _element(signed_and_signature, _SEQUENCE)
        name = _hash_name(_element(rest, _SEQUENCE)[0])
    except (IndexError, ValueError):
        return None
    return hashlib.new(name, certificate).digest() if name else None


def _hash_name(algorithm: bytes) -> str | None:
    oid, parameters = _element(algorithm, _OBJECT)
    if oid != _RSASSA_PSS:
        return _HASHES.get(oid)
    content = _element(parameters, _SEQUENCE)[0]
    if not content or content[0] != _FIRST:
        return "sha256"  # the default of RSASSA-PSS is SHA-1 (RFC 4055 section 3.1)
    return _hash_name(_element(_element(content, _FIRST)[0], _SEQUENCE)[0])


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Content and what follows of the first element. Raises ValueError where it is another or cut."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if data[0] != tag or len(data) < start + length:
        raise ValueError("not the DER that a certificate has there")
    return data[start : start + length], data[start + length :]
