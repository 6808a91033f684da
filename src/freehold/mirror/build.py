"""Filling a mirror: what is there is kept, what is missing is fetched, and the index says at each moment what is whole."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from freehold.catalog import versions
from freehold.errors import BadInputError
from freehold.layout.compute import of_stack
from freehold.mirror import apt, npm, oci, pypi
from freehold.mirror.fetch import Wanted, fetch_all, hub_headers, sum_of
from freehold.mirror.index import Entry, Index, Met
from freehold.mirror.needs import File, Image, Modules, Need, Packages, Wheels, of
from freehold.schema.load import load_stack

Say = Callable[[str, int], None]
"""Called with what is being done (then with 0), and with each file that came (then with its bytes)."""


@dataclass(frozen=True)
class Upstream:
    """Addresses of archives that take the place of those that this machine's own tools use."""

    debian: str | None = None
    debian_security: str | None = None
    npm: str | None = None


@dataclass
class Result:
    """What a build did."""

    needs: int = 0
    files: int = 0
    """In the mirror, for these needs."""
    size: int = 0
    """Bytes of them."""
    fetched: int = 0
    """Files that came."""
    fetched_size: int = 0
    removed: int = 0
    packages: dict[str, int] = field(default_factory=dict)
    """Files by kind of source."""


@dataclass(frozen=True)
class Damage:
    """A file that is not what it should be."""

    path: str
    what: str


def needs(clients: Sequence[str | Path], only: str | None = None) -> list[Need]:
    """What the stacks of these clients download, as if they had no mirror.

    Raises:
        StackError: A stack file is wrong.
        UnpinnedError: The checksum of something is not known.
    """
    found: dict[str, Need] = {}
    for client in clients:
        loaded = load_stack(client)
        sources = loaded.stack.sources.model_copy(update={"mirror": None})
        loaded = replace(loaded, stack=loaded.stack.model_copy(update={"sources": sources}))
        for need in of(of_stack(loaded, only), versions.load(loaded.directory)):
            found.setdefault(need.key, need)
    return list(found.values())


def build(
    root: Path, wanted: Sequence[Need], say: Say, *, upstream: Upstream | None = None, prune: bool = False
) -> Result:
    """Bring a mirror to hold what is needed. Run again, it fetches what changed; cut off, it goes on.

    Args:
        root: The mirror's folder; made when it is not there.
        wanted: What it must hold.
        say: Told of each step and each file.
        upstream: Addresses that take the place of this machine's own.
        prune: Remove what is not needed any more.

    Raises:
        BadInputError: Another build works on this folder; or it is no mirror, and not empty.
        FreeholdError: Something could not be fetched; what came is kept.
    """
    with _alone(root):
        work = _Build(root, say, upstream or Upstream())
        work.run(wanted)
        if prune:
            work.prune({need.key for need in wanted})
        return work.result(wanted)


def check(root: Path) -> list[Damage]:
    """Read every file of a mirror and hold it against its checksum."""
    damaged = []
    for path, entry in sorted(Index.read(root).files.items()):
        try:
            found = sum_of(root / path)
        except FileNotFoundError:
            damaged.append(Damage(path, "is not there"))
        else:
            if found != entry.sha256:
                damaged.append(Damage(path, "has another content"))
    return damaged


def forget(root: Path, damaged: Sequence[Damage]) -> None:
    """Remove damaged files, so that the next build fetches them again."""
    for one in damaged:
        (root / one.path).unlink(missing_ok=True)


class _Build:
    def __init__(self, root: Path, say: Say, upstream: Upstream) -> None:
        self.root = root
        self.say = say
        self.upstream = upstream
        self.index = Index.read(root)
        self.fetched = 0
        self.fetched_size = 0
        self.removed = 0

    def run(self, wanted: Sequence[Need]) -> None:
        packages = [need for need in wanted if isinstance(need, Packages)]
        for codename in sorted({need.codename for need in packages}):
            self.packages(codename, [need for need in packages if need.codename == codename])
        for need in wanted:
            if isinstance(need, Packages) or self.index.meets(self.root, need.key):
                continue
            self.say(need.title, 0)
            self.keep(need, self.files(need))
        self.page()

    def came(self, path: str, size: int) -> None:
        self.fetched += 1
        self.fetched_size += size
        self.say(path, size)

    def keep(self, need: Need, files: Sequence[str], known: dict[str, str] | None = None) -> None:
        """Note that a need is met; from now on its files are the mirror's."""
        for path in files:
            size = (self.root / path).stat().st_size
            entry = self.index.files.get(path)
            if entry is None or entry.size != size or path.startswith("npm/") or "/dists/" in path:
                sha256 = (known or {}).get(path) or sum_of(self.root / path)
                self.index.files[path] = Entry(size=size, sha256=sha256)
        self.index.needs[need.key] = Met(title=need.title, files=tuple(sorted(set(files))))
        self.index.write(self.root)

    def packages(self, codename: str, group: Sequence[Packages]) -> None:
        """Debian's packages. The indexes are asked for every time: what they name changes."""
        self.say(f"Debian {codename}", 0)
        archives = {"debian": self.upstream.debian, "debian-security": self.upstream.debian_security}
        given = {name: address.rstrip("/") for name, address in archives.items() if address}
        addresses = given if len(given) == len(archives) else apt.upstream() | given
        indexes = apt.update(self.root, addresses, codename, self.came)
        whole = all(self.index.meets(self.root, need.key) for need in group)
        if whole and not indexes.fetched and all(self.index.has(self.root, path) for path in indexes.files):
            return
        self.index.drop(
            path for path in self.index.files if "/dists/" in path and not (self.root / path).exists()
        )
        found = apt.closures(self.root, codename, [need.names for need in group], addresses)
        for need, files in zip(group, found, strict=True):
            self.say(need.title, 0)
            fetch_all(self.root, self.sound(files), self.came)
            known = {one.path: one.checksum for one in files}
            self.keep(need, [*(one.path for one in files), *indexes.files], known)

    def sound(self, files: Sequence[Wanted]) -> Sequence[Wanted]:
        """The files; those whose size is wrong are removed first, so that they are fetched."""
        for one in files:
            place = self.root / one.path
            if one.size is not None and place.is_file() and place.stat().st_size != one.size:
                place.unlink()
        return files

    def files(self, need: Need) -> list[str]:
        match need:
            case Wheels():
                have = {
                    entry.sha256: Path(path).name
                    for path, entry in self.index.files.items()
                    if path.startswith(f"{pypi.FOLDER}/") and self.index.has(self.root, path)
                }
                return pypi.fetch(
                    self.root, need.lock, need.system, (need.places, need.upstream), have, self.came
                )
            case Modules():
                packages = npm.packages(need.lock)
                address = (self.upstream.npm or npm.registry()).rstrip("/")
                files = npm.wanted(packages, address)
                fetch_all(self.root, files, self.came)
                peers = npm.peers(need.lock)
                self.fetched += npm.entries_upstream(self.root, peers, address)
                return [*(one.path for one in files), *npm.write_entries(self.root, packages, peers)]
            case File():
                headers = hub_headers(need.url) if need.at_hub else {}
                wanted = Wanted(need.path, need.url, "sha256", need.sha256, need.size, headers)
                fetch_all(self.root, [wanted], self.came)
                return [need.path]
            case Image():
                return oci.fetch(
                    self.root, need.image, need.digest, plain_http=need.plain_http, report=self.came
                )
            case Packages():
                raise AssertionError("these are fetched together")

    def page(self) -> None:
        pypi.write_page(self.root, self.index.files)

    def prune(self, keys: set[str]) -> None:
        for path in self.index.keep(keys):
            (self.root / path).unlink(missing_ok=True)
            self.removed += 1
        self.index.write(self.root)
        self.page()

    def result(self, wanted: Sequence[Need]) -> Result:
        made = Result(
            needs=len(wanted), fetched=self.fetched, fetched_size=self.fetched_size, removed=self.removed
        )
        for path in {path for need in wanted for path in self.index.needs[need.key].files}:
            made.files += 1
            made.size += self.index.files[path].size
            kind = path.partition("/")[0]
            made.packages[kind] = made.packages.get(kind, 0) + 1
        return made


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    marker = root / ".freehold-mirror"
    if not marker.exists() and any(root.iterdir()):
        raise BadInputError(
            f"{root} is not empty and no mirror", where=str(root), remedy="Name an empty or a new folder."
        )
    with marker.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInputError(
                f"Another build works on {root}", where=str(marker), remedy="Wait until it has ended."
            ) from error
        for left in root.glob(f"{pypi.FOLDER}/.part-*"):  # of a run that was cut off
            shutil.rmtree(left, ignore_errors=True)
        yield
