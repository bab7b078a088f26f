"""Who may call what, and where a call may reach: lists of names, hosts and paths."""

import os.path
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

from llmspell_otel.builtin.identity import Identity
from llmspell_otel.builtin.masking import Text

_URL: Final = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}:[/\\]{2}[^\s\"'<>`]{1,2000}"
)
_HOST_KEYS: Final = frozenset({"host", "hostname", "server", "domain", "url", "uri", "endpoint"})
_PATH_KEYS: Final = frozenset(
    {"path", "paths", "file", "files", "filename", "filepath", "file_path", "dir", "directory",
     "folder", "source", "destination", "src", "dst", "cwd", "root"}
)  # fmt: skip


def permitted(name: str, allow: Sequence[str], deny: Sequence[str]) -> bool:
    """Whether *name* is on the list *allow*, if there is one, and not on *deny*."""
    if any(fnmatchcase(name, each) for each in deny):
        return False
    return not allow or any(fnmatchcase(name, each) for each in allow)


def hosts_in(text: Text) -> Iterator[str]:
    """Every host that *text* names, as a client would understand it."""
    found = False
    for match in _URL.finditer(text.text):
        found = True
        yield host_of(match.group())
    if not found and text.key.lower() in _HOST_KEYS and text.text:
        yield host_of(f"any://{text.text[:2000]}")


def host_of(url: str) -> str:
    """The host of *url*, in lower case, without user, port and the root's dot."""
    # Clients take a backslash for a slash; what follows it is no host.
    try:
        host = urlsplit(url.replace("\\", "/")).hostname or ""
    except ValueError:
        return "?"  # no address: on no list
    try:
        return host.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        return host.rstrip(".").lower()


def host_permitted(host: str, allow: Sequence[str], deny: Sequence[str]) -> bool:
    """As `permitted`; ``example.com`` on a list stands for its subdomains too."""
    if any(_within_domain(host, each) for each in deny):
        return False
    return not allow or any(_within_domain(host, each) for each in allow)


def _within_domain(host: str, listed: str) -> bool:
    listed = listed.lower().rstrip(".")
    return host == listed or host.endswith(f".{listed}") or fnmatchcase(host, listed)


def path_in(text: Text) -> str | None:
    """The path that *text* names, with links and `..` resolved; None if it names none."""
    given = text.text
    if given.lower().startswith("file:"):
        given = urlsplit(given).path
    elif text.key.lower() not in _PATH_KEYS and not given.startswith(("/", "~/", "../", "./")):
        return None
    if not given or len(given) > _LONGEST or "\n" in given or "://" in given:
        return None
    if "\x00" in given:
        return "?"  # no path: on no list
    return os.path.realpath(os.path.expanduser(given))  # noqa: PTH111 - a text to compare


_LONGEST: Final = 4096


def path_permitted(path: str, allow: Sequence[str], deny: Sequence[str]) -> bool:
    """As `permitted`; a folder on a list stands for everything in it."""
    if any(_within_folder(path, each) for each in deny):
        return False
    return not allow or any(_within_folder(path, each) for each in allow)


def _within_folder(path: str, listed: str) -> bool:
    if "*" in listed or "?" in listed:
        return fnmatchcase(path, os.path.expanduser(listed))  # noqa: PTH111
    folder = os.path.realpath(os.path.expanduser(listed))  # noqa: PTH111
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def missing_role(name: str, roles: Mapping[str, Iterable[str]], identity: Identity) -> str | None:
    """The first entry of *roles* for *name* that asks for a role which *identity* has not."""
    for pattern, wanted in roles.items():
        if fnmatchcase(name, pattern) and not set(wanted) & set(identity.roles):
            return pattern
    return None
