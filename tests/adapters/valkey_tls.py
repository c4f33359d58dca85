"""A server that speaks TLS only and gives its user just the rights that README names."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.redis_server import DURABLE, RedisServer, free_port, redis_server

PASSWORD = "s3cret"
RIGHTS = (
    "~{test}:* resetchannels -@all +@connection +eval +evalsha +script|load +get +set +del "
    "+hset +hget +hdel +hkeys +hgetall +exists +expire +zadd +zrem +zrangebyscore +time +config|get"
)
ACL = f"user default off\nuser admin on >all ~* &* +@all\nuser sidegate on >{PASSWORD} {RIGHTS}\n"


def certificates(folder: Path) -> None:
    """A CA and a server's certificate for localhost."""
    folder.mkdir()
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=test-ca -days 2",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile ext",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def administer(server: RedisServer, *words: str) -> bytes:
    """Say one command as the user who may do everything; the replies to the log-in and to it."""
    return server.commands(("AUTH", "admin", "all"), words)


@asynccontextmanager
async def tls_server(path: Path) -> AsyncIterator[tuple[RedisServer, dict[str, Any]]]:
    """The server, and the settings that fit it."""
    tls, port = path / "tls", free_port()
    certificates(tls)
    (path / "users.acl").write_text(ACL)
    (path / "password").write_text(f"{PASSWORD}\n")
    options = {
        "tls-port": port,
        "tls-cert-file": tls / "server.crt",
        "tls-key-file": tls / "server.key",
        "tls-ca-cert-file": tls / "ca.crt",
        "tls-auth-clients": "no",
        "aclfile": path / "users.acl",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    async with redis_server(path / "redis", *DURABLE, *arguments) as server:
        yield (
            server,
            {
                "url": f"rediss://localhost:{port}/0",
                "ca_file": tls / "ca.crt",
                "username": "sidegate",
                "password_file": path / "password",
            },
        )
