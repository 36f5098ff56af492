"""A PostgreSQL server of the tests' own, in a temporary folder, which can be stopped and started as they like."""

import atexit
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Literal, Self

USER = "tada"
PASSWORD = "s3cret@/: %{x}"
"""Has everything in it that templates and configuration files trip over."""

PASSFILE = Path(os.environ.get("PGPASSFILE", ""))
"""Where libpq finds the passwords of all servers of this process, and so do the processes that it starts."""

if not PASSFILE.parent.name.startswith("tada-pgpass-"):  # else this process was started by a test
    PASSFILE = Path(tempfile.mkdtemp(prefix="tada-pgpass-")) / "pgpass"
    PASSFILE.touch(mode=0o600)
    atexit.register(shutil.rmtree, PASSFILE.parent)
    os.environ["PGPASSFILE"] = str(PASSFILE)


def found() -> str | None:
    """None if there is a server to start, else the reason why not."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        return f"psycopg cannot be imported: {error}"
    return None if _programs() else "PostgreSQL is not installed: no initdb and pg_ctl"


def _programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, which Debian keeps off the PATH."""
    folders = [Path(path).parent for path in [shutil.which("pg_ctl")] if path]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    if pg_config := shutil.which("pg_config"):
        shown = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(shown.stdout.strip()))
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


class Server:
    """One server on 127.0.0.1, stopped and removed by :meth:`dispose` or at the end of the process.

    Its user ``tada`` is a superuser and needs ``PASSWORD``, which this process's PGPASSFILE has. As root, whom
    PostgreSQL refuses, it runs as the system's user ``postgres``. With ``fsync`` what it has committed outlives a power
    cut, as on a server in use.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self._fsync = "on" if fsync else "off"
        programs = _programs()
        assert programs is not None, found()
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="tada-postgres-"))
        self._names = itertools.count()
        self._as_user: dict[str, object] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        atexit.register(self.dispose)
        self.port = 0
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "--pgdata", "data", "--username", USER, "--pwfile", "password", "--auth", "scram-sha-256",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()

    def start(self) -> None:
        """Start, on the port it had before if there was one, and return when it answers."""
        for attempt in range(3):
            port = self.port or _free_port()
            options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync={self._fsync}"
            try:
                self._run("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", options)
            except subprocess.CalledProcessError:
                if self.port or attempt == 2:
                    raise RuntimeError((self._folder / "log").read_text()) from None
            else:
                self.port = port
                self.know_password(USER, PASSWORD)
                return

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop; ``fast`` ends every connection, ``immediate`` is as good as a crash."""
        self._run("pg_ctl", "stop", "-w", "-D", "data", "-m", mode)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start again, on the same port."""
        self.stop(mode)
        self.start()

    def know_password(self, user: str, password: str) -> None:
        """Have this process, and those it starts, find the password of a user; the first one counts."""
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        with PASSFILE.open("a") as file:
            file.write(f"127.0.0.1:{self.port}:*:{user}:{escaped}\n")

    def url(self, database: str = "postgres", *, user: str = USER) -> str:
        """The URL of a database."""
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """The name of a database made just now."""
        name = f"db{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What one statement returns, carried out as the superuser."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def dispose(self) -> None:
        """Stop the server and remove all it had."""
        atexit.unregister(self.dispose)
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        # Its output must not be a pipe: the server keeps it open.
        with (self._folder / "output").open("ab") as output:
            subprocess.run(
                [str(self._programs / program), *arguments],
                cwd=self._folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=True,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}, **self._as_user,  # type: ignore[call-overload]
            )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
