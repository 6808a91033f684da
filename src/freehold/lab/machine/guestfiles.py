"""Writing into a container's root file system from the host (lab: a stand-in of a Proxmox VE node).

The container's root may have put a symbolic link anywhere, so no component of a path is followed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from freehold.lab.backend import BackendError
from freehold.lab.machine.rootfs import IdMap

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class GuestFiles:
    """The files of one container as its root would see them."""

    def __init__(self, root: Path, ids: IdMap) -> None:
        self.root = root
        self.ids = ids

    @contextlib.contextmanager
    def _folder(self, parts: tuple[str, ...], create: bool) -> Iterator[int]:
        descriptor = os.open(self.root, DIRECTORY)
        try:
            for part in parts:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=descriptor)
                        os.chown(part, self.ids.root, self.ids.root, dir_fd=descriptor, follow_symlinks=False)
                inner = os.open(part, DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        except OSError as error:
            raise BackendError(
                f"unable to open '/{'/'.join(parts)}' in the container: {error.strerror}"
            ) from error
        finally:
            os.close(descriptor)

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> None:
        """Replace a file by a new one of the container's root, creating its folders."""
        parts = PurePosixPath(path.lstrip("/")).parts
        content = text.encode() if isinstance(text, str) else text
        with self._folder(parts[:-1], create=True) as folder:
            temporary = f".{parts[-1]}.freehold-lab"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            descriptor = os.open(
                temporary,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
                dir_fd=folder,
            )
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                os.fchown(stream.fileno(), self.ids.root, self.ids.root)
                os.fchmod(stream.fileno(), mode)
            os.rename(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)

    def read(self, path: str) -> str:
        """The text of a file; empty when there is no regular file at ``path``."""
        parts = PurePosixPath(path.lstrip("/")).parts
        try:
            with self._folder(parts[:-1], create=False) as folder:
                descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape") as stream:
                    return stream.read()
        except BackendError:
            return ""

    def exists(self, path: str) -> bool:
        """Whether there is anything at ``path``; a link counts, wherever it leads."""
        parts = PurePosixPath(path.lstrip("/")).parts
        try:
            with self._folder(parts[:-1], create=False) as folder:
                os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except BackendError:
            return False
        return True

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link at ``path``, over what is there."""
        parts = PurePosixPath(path.lstrip("/")).parts
        with self._folder(parts[:-1], create=True) as folder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(parts[-1], dir_fd=folder)
            os.symlink(target, parts[-1], dir_fd=folder)
            os.chown(parts[-1], self.ids.root, self.ids.root, dir_fd=folder, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a file or link; gone already is fine."""
        parts = PurePosixPath(path.lstrip("/")).parts
        with contextlib.suppress(BackendError), self._folder(parts[:-1], create=False) as folder:
            os.unlink(parts[-1], dir_fd=folder)

    def make_folder(self, path: str) -> None:
        """Create a folder of the container's root, with its parents."""
        with self._folder(PurePosixPath(path.lstrip("/")).parts, create=True):
            pass

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode of a folder."""
        with self._folder(PurePosixPath(path.lstrip("/")).parts, create=False) as folder:
            os.fchmod(folder, mode)
