"""Free ports of the loopback for servers that come and go.

Below the range from which the kernel takes the ports of outgoing connections: otherwise a client that keeps trying while its
server is down may be given the server's own port, and the server cannot come back.
"""

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000


def free_ports(count: int) -> list[int]:
    """`count` different ports on which nobody listens now."""
    found: list[int] = []
    for port in random.sample(range(LOWEST, HIGHEST), HIGHEST - LOWEST):
        with socket.socket() as door:
            if len(found) < count and door.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between {LOWEST} and {HIGHEST}; end some servers")
