"""Passwords that are hashed beside the loop."""

import asyncio
import sys
from base64 import b64encode

from forebay_core.forward.credentials import Credentials, Login
from forebay_core.forward.shacrypt import MOST_ROUNDS, parse_hash
from forebay_proxy.forward.logins import Logins

HASH = f"$6$rounds={MOST_ROUNDS}$salt${'x' * 86}"


class Asking:
    """One who asks."""

    def __init__(self) -> None:
        self.told: asyncio.Future[Login] = asyncio.get_running_loop().create_future()

    def verified(self, login: Login) -> None:
        self.told.set_result(login)


async def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    """The hashing thread lets it, again and again: here nothing else would make it."""
    logins = Logins(Credentials({"ann": parse_hash(HASH)}, b"secret" * 4))
    asking = Asking()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        assert logins.verify(b"Basic " + b64encode(b"ann:wrong"), asking)
        turns = 0
        while not asking.told.done():
            turns += 1
            await asyncio.sleep(0.0005)
    finally:
        sys.setswitchinterval(interval)
        logins.close()
    assert asking.told.result() == Login("ann", ok=False)
    assert turns > 20
