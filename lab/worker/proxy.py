"""A wire between a worker and its broker that the lab can freeze, cut, or trip on a protocol event.

Orders, each answered by an event of the same name with its ``order``:

    {"order": n, "do": "freeze", "way": "up" | "down"}    bytes of that way wait here; up is to the broker
    {"order": n, "do": "thaw"}                            all that waits goes on
    {"order": n, "do": "cut"}                             every connection is reset, new ones are too
    {"order": n, "do": "mend"}                            new connections are let through again
    {"order": n, "do": "arm", "trip": name}               freeze by itself at the next such moment

A trip fires once, inside the pump that sees the bytes: nothing else can pass in between. It says
``tripped`` when it has. Bytes that a frozen way keeps here are reported as ``withheld`` when they carry a
message that was popped, its registration, an acknowledgement, or a publish: then they have left their sender.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .events import emit
from .inbox import orders

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, as a middlebox that forgot the connection

#: AMQP 0-9-1: a method frame of 13 bytes on any channel, class 60 (basic), method 80 (ack).
BASIC_ACK = re.compile(rb"\x01..\x00\x00\x00\x0d\x00\x3c\x00\x50", re.DOTALL)
#: The same of method 40 (publish), of any size under 64 KiB; on Redis a publish is one LPUSH.
PUBLISH = re.compile(rb"\x01..\x00\x00..\x00\x3c\x00\x28|\r\nLPUSH\r\n", re.DOTALL)
#: kombu 5.7.0 transport/redis.py: QoS.append adds a delivery to the hash of those unacknowledged, QoS.ack
#: removes it. Channel._brpop_start asks on a connection of its own, which carries one answer at a time: an
#: array of queue and message, or a null.
REDIS_REGISTRATION = re.compile(rb"\r\nHSET\r\n\$\d+\r\nunacked\r\n")
REDIS_ACK = re.compile(rb"\r\nHDEL\r\n\$\d+\r\nunacked\r\n")
BRPOP = re.compile(rb"\r\nBRPOP\r\n")
POPPED = b"*2\r\n"


@dataclass(frozen=True, slots=True)
class Trip:
    """At a chunk of bytes of one way: freeze which way. A chunk of the way that freezes waits too."""

    way: str
    sees: Callable[[Wire, bytes], bool]
    freezes: str


@dataclass(slots=True, eq=False)
class Wire:
    """One connection of a client, with its connection to the broker. ``popping``: a BRPOP is pending."""

    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    popping: bool = False

    def reset(self) -> None:
        """Close both ends at once."""
        for writer in (self.client, self.broker):
            if (sock := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):  # that end is closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


def popped(wire: Wire, data: bytes) -> bool:
    """Whether this is the broker's answer to BRPOP, with a message in it."""
    return wire.popping and data.startswith(POPPED)


def acks(_: Wire, data: bytes) -> bool:
    """Whether this carries an acknowledgement."""
    return bool(BASIC_ACK.search(data) or REDIS_ACK.search(data))


def publishes(_: Wire, data: bytes) -> bool:
    """Whether this carries a message to the broker."""
    return bool(PUBLISH.search(data))


def registers(_: Wire, data: bytes) -> bool:
    """Whether this tells Redis that a message is out with a worker."""
    return bool(REDIS_REGISTRATION.search(data))


#: ``popped``: the broker's answer to BRPOP reaches the worker, and nothing that it then sends arrives.
#: ``popping``: the worker waits in BRPOP, and the answer will not reach it. ``acking``: the
#: acknowledgement leaves the worker and does not arrive.
TRIPS: Mapping[str, Trip] = {
    "popped": Trip("down", popped, "up"),
    "popping": Trip("up", lambda wire, _: wire.popping, "down"),
    "acking": Trip("up", acks, "up"),
}
WITHHELD: Mapping[str, tuple[Callable[[Wire, bytes], bool], ...]] = {
    "down": (popped,),
    "up": (registers, acks, publishes),
}


@dataclass(slots=True)
class Proxy:
    """All wires of one node, and what is done to them."""

    host: str
    port: int
    wires: set[Wire] = field(default_factory=set)
    armed: str | None = None
    broken: bool = False
    open: Mapping[str, asyncio.Event] = field(
        default_factory=lambda: {"up": asyncio.Event(), "down": asyncio.Event()}
    )

    def obey(self, order: Mapping[str, Any]) -> None:
        """Do what an order says, and tell that it is done."""
        match order["do"]:
            case "freeze":
                self.open[order["way"]].clear()
            case "thaw":
                self.thaw()
            case "cut":
                self.broken = True
                for wire in tuple(self.wires):
                    wire.reset()
            case "mend":
                self.broken = False
            case "arm":
                self.armed = order["trip"]
            case unknown:
                raise ValueError(f"no such order: {unknown}")
        emit(str(order["do"]), order=order["order"], wires=len(self.wires))

    def thaw(self) -> None:
        for way in self.open.values():
            way.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until either end closes."""
        try:
            from_broker, to_broker = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        wire = Wire(writer, to_broker)
        if self.broken:
            wire.reset()
            return
        self.wires.add(wire)
        try:
            await asyncio.wait(
                [
                    asyncio.create_task(self.pump("up", wire, reader, to_broker)),
                    asyncio.create_task(self.pump("down", wire, from_broker, writer)),
                ],
                return_when=asyncio.ALL_COMPLETED,
            )
        finally:
            self.wires.discard(wire)

    async def pump(
        self, way: str, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry bytes one way, until that end closes; then close the other end."""
        try:
            while data := await reader.read(CHUNK):
                if way == "up":
                    wire.popping = bool(BRPOP.search(data))
                self.trip(way, wire, data)
                self.report(way, wire, data)
                await self.open[way].wait()
                if way == "down":
                    wire.popping = False
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        try:
            await self.open[way].wait()  # the end of a connection waits like its bytes
        finally:
            writer.close()

    def trip(self, way: str, wire: Wire, data: bytes) -> None:
        """Freeze now, if this is the moment of the trip that is armed; it is armed no more then."""
        trip = TRIPS[self.armed] if self.armed else None
        if trip and trip.way == way and trip.sees(wire, data):
            self.armed = None
            self.open[trip.freezes].clear()
            emit("tripped", way=trip.freezes)

    def report(self, way: str, wire: Wire, data: bytes) -> None:
        """Say what has to wait here, if it is something that a delivery hangs on."""
        if not self.open[way].is_set() and any(sees(wire, data) for sees in WITHHELD[way]):
            emit("withheld", way=way)


async def serve(port: int, host: str) -> None:
    """Listen, and do what the orders say, until killed."""
    proxy = Proxy(host, port)
    proxy.thaw()
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(proxy.accept, port=port)
    emit("ready")

    def read_orders() -> None:
        for order in orders():
            loop.call_soon_threadsafe(proxy.obey, order)

    async with server:
        await asyncio.to_thread(read_orders)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
