"""ZeroMQ sockets of a station and of its consumers: endpoints, encryption, and errors that say what to do."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq
from zmq.auth import CURVE_ALLOW_ANY, load_certificate
from zmq.auth.thread import ThreadAuthenticator

from runtime.errors import ConfigError

Socket = zmq.Socket[bytes]
Context = zmq.Context[zmq.Socket[bytes]]

MAX_PORT = 65535
"""The largest port of TCP."""

PEER_SILENT_MS = 3000
"""A peer that answers no ping for so long is taken for gone: a machine without power closes nothing."""


class CurveServer:
    """Encryption of a station's sockets, and who may connect; one for a context.

    Args:
        context: The context of the sockets.
        secret_key: The station's secret key file, as `zmq.auth.create_certificates` writes it.
        client_keys: Folder with the public key files of those who may connect; None admits everyone who has
            the station's public key.

    Raises:
        ConfigError: A key file is absent or not one.
    """

    def __init__(self, context: Context, secret_key: Path, client_keys: Path | None) -> None:
        self._public, secret = _read_keys(secret_key)
        if secret is None:
            raise ConfigError(
                f"key file {secret_key}: found a public key only, expected the secret one. "
                "Name the file that ends in '.key_secret'."
            )
        self._secret = secret
        if client_keys is not None and not client_keys.is_dir():
            raise ConfigError(
                f"client keys {client_keys}: found no such folder, expected one with '.key' files. "
                "Make it and put each consumer's public key there."
            )
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve(
            domain="*", location=CURVE_ALLOW_ANY if client_keys is None else str(client_keys)
        )

    def protect(self, socket: Socket) -> None:
        """Make a socket, not bound yet, accept only encrypted connections of those admitted."""
        socket.curve_server = True
        socket.curve_publickey = self._public
        socket.curve_secretkey = self._secret

    def close(self) -> None:
        """Stop admitting; calling it again does nothing."""
        self._authenticator.stop()

    def __enter__(self) -> CurveServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class CurveClient:
    """Encryption of a consumer's sockets.

    Attributes:
        server_key: The station's public key file.
        own_key: The consumer's own secret key file; None makes a pair for this once, which a station that
            lists its clients refuses.
    """

    server_key: Path
    own_key: Path | None = None

    def protect(self, socket: Socket) -> None:
        """Make a socket, not connected yet, encrypt, and trust only this station.

        Raises:
            ConfigError: A key file is absent or not one.
        """
        server, _ = _read_keys(self.server_key)
        public, secret = zmq.curve_keypair() if self.own_key is None else _read_keys(self.own_key)
        if secret is None:
            raise ConfigError(
                f"key file {self.own_key}: found a public key only, expected the secret one. "
                "Name the file that ends in '.key_secret'."
            )
        socket.curve_serverkey = server
        socket.curve_publickey = public
        socket.curve_secretkey = secret


def bind(who: str, socket: Socket, endpoint: str) -> str:
    """Bind a socket; gives the endpoint with the port that the system chose where it was `*`.

    Raises:
        ConfigError: The port is taken, the address is not this machine's, or the text is no endpoint. The
            socket is closed.
    """
    try:
        _check_port(endpoint)
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        remedy = {
            errno.EADDRINUSE: "Stop the process that has it, or name another port",
            errno.EADDRNOTAVAIL: "Name an address of this machine, or 'tcp://*:PORT' for all of them",
            errno.ENODEV: "Name an address of this machine, or 'tcp://*:PORT' for all of them",
            errno.EACCES: "Name a port from 1024 up",
        }.get(error.errno or 0, "Write it like 'tcp://127.0.0.1:5556'")
        raise ConfigError(
            f"{who}: endpoint {endpoint!r} cannot be bound ({_reason(error)}), "
            f"expected a free one of this machine. {remedy}."
        ) from error
    return socket.get_string(zmq.LAST_ENDPOINT)


def connect(who: str, socket: Socket, endpoint: str, curve: CurveClient | None) -> None:
    """Connect a socket; the peer need not be there yet, and may come and go.

    Raises:
        ConfigError: The text is no endpoint, or a key file is bad. The socket is closed.
    """
    try:
        if curve is not None:
            curve.protect(socket)
        _check_port(endpoint)
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise ConfigError(
            f"{who}: cannot connect to {endpoint!r} ({_reason(error)}), expected the endpoint of a station. "
            "Write it like 'tcp://127.0.0.1:5556'."
        ) from error
    except ConfigError:
        socket.close(linger=0)
        raise


def open_socket(context: Context, kind: int, options: dict[int, Any]) -> Socket:
    """A socket that notices a peer gone silently, with further options set before it binds or connects."""
    socket = context.socket(kind)
    for option, value in {
        zmq.HEARTBEAT_IVL: PEER_SILENT_MS // 3,
        zmq.HEARTBEAT_TIMEOUT: PEER_SILENT_MS,
        zmq.RECONNECT_IVL: 50,
        zmq.RECONNECT_IVL_MAX: 1000,
        **options,
    }.items():
        socket.set(option, value)
    return socket


def _check_port(endpoint: str) -> None:
    # ZeroMQ takes 99999 for what is left of it in 16 bits, and then listens where nobody looks.
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("tcp://") and port.isdecimal() and int(port) > MAX_PORT:
        raise zmq.ZMQError(errno.EINVAL)


def _reason(error: zmq.ZMQError) -> str:
    return zmq.strerror(error.errno or 0).lower()


def _read_keys(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return load_certificate(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"key file {path}: cannot be read ({error}), expected a CURVE key. "
            "Make a pair with zmq.auth.create_certificates (see docs/wire.md)."
        ) from error
