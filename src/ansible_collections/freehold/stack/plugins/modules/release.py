"""Module behind the ``release`` action: a release of upstream, pinned by its SHA-256, unpacked on the host."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import installed

DOCUMENTATION = r"""
module: release
short_description: Brings a release of upstream to the host
description:
  - Downloads a file, holds it against its SHA-256, and unpacks it into a folder that is then put in place at once, so
    that there is the old release or the new one and never half of one.
  - Nothing is done while the folder holds what this SHA-256 stands for.
  - An interrupted download is taken up where it stopped, where the server can do that.
  - Archives that end in C(.tar.zst) need the package C(zstd) on the host.
options:
  url: {description: "Where the file lies: an archive or a plain program.", type: str, required: true}
  sha256: {description: SHA-256 of the file in hexadecimal., type: str, required: true}
  dest: {description: Folder that holds the release and nothing else., type: path, required: true}
  strip: {description: Leading folders of the archive's paths that are left out., type: int, default: 0}
  file: {description: Name below O(dest) of a file that is no archive; it becomes executable., type: str, default: ""}
  timeout: {description: Seconds that the download may take., type: int, default: 3600}
  service: {description: Set by the action., type: str, default: ""}
  handlers: {description: Set by the action., type: list, elements: str, default: []}
attributes:
  check_mode: {support: full, description: Says whether the release would change.}
  diff_mode: {support: full, description: Shows address and checksum.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Install Qdrant
  freehold.stack.release:
    url: "{{ qdrant_artifact.url }}"
    sha256: "{{ qdrant_artifact.sha256 }}"
    dest: /opt/qdrant
  notify: Restart Qdrant
"""

_BLOCK = 1 << 20
_ATTEMPTS = 4


class _Release(installed.Installation):
    def __init__(self, module: AnsibleModule) -> None:
        self.url = str(module.params["url"])
        self.sha256 = str(module.params["sha256"])
        self.strip = int(module.params["strip"])
        advice = (
            "Check that this host reaches it, or give the client a mirror (sources.mirror of the stack file), and run "
            "again."
        )
        super().__init__(module, module.params["dest"], self.url, advice)

    def text(self) -> str:
        """Checksum, name and options."""
        name = PurePosixPath(self.url).name
        return f"{self.sha256} {name} {self.strip} {self.module.params['file']}".rstrip() + "\n"

    def leftovers(self) -> Iterable[Path]:
        """Downloads, too."""
        return (*super().leftovers(), *self.path.parent.glob(f".{self.path.name}.*.part"))

    def install(self) -> None:
        """Download, unpack, put in place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.{self.sha256[:12]}.part")
        self.download(partial)
        self.begin()
        try:
            self.unpack(partial, self.new)
        except (OSError, tarfile.TarError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
            self.fail("unpacked", error)
        self.put()

    def download(self, partial: Path) -> None:
        """Bring the file to ``partial``, going on where an earlier download stopped."""
        deadline = time.monotonic() + self.module.params["timeout"]
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self.fetch(partial, deadline)
                break
            except (OSError, urllib.error.URLError) as error:
                definite = isinstance(error, urllib.error.HTTPError) and error.code in {401, 403, 404, 410}
                if definite or attempt == _ATTEMPTS or time.monotonic() > deadline:
                    self.fail("downloaded", error)
                time.sleep(2**attempt)
        found = _sha256(partial)
        if found != self.sha256:
            partial.unlink()
            self.fail("installed", f"it has the SHA-256 {found}, and the lock says {self.sha256}")

    def fetch(self, partial: Path, deadline: float) -> None:
        """Append what is missing of the file."""
        have = partial.stat().st_size if partial.exists() else 0
        if have and _sha256(partial) == self.sha256:
            return
        request = urllib.request.Request(self.url, headers={"User-Agent": "freehold"})  # noqa: S310 - checked in main
        if have:
            request.add_header("Range", f"bytes={have}-")
        context = ssl.create_default_context() if self.url.startswith("https:") else None
        try:
            answer = urllib.request.urlopen(request, timeout=60, context=context)  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            partial.unlink()  # what is there is no part of this file
            raise OSError("the download began anew") from error
        with answer, partial.open("ab" if answer.status == 206 else "wb") as stream:
            while block := answer.read(_BLOCK):
                stream.write(block)
                if time.monotonic() > deadline:
                    self.fail("downloaded", f"no end after {self.module.params['timeout']} seconds")

    def unpack(self, file: Path, folder: Path) -> None:
        """Unpack an archive, or lay a program there."""
        name = PurePosixPath(self.url).name
        if program := self.module.params["file"]:
            shutil.copyfile(file, folder / program)
            (folder / program).chmod(0o755)
        elif name.endswith((".zip", ".whl")):
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    parts = PurePosixPath(member.filename).parts[self.strip :]
                    if not parts or ".." in parts or member.is_dir():
                        continue
                    target = folder.joinpath(*parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
                    # What is public may be read by everybody, whatever whoever packed it had for a mask.
                    target.chmod((member.external_attr >> 16) & 0o755 | 0o644)
        elif name.endswith(".zst"):
            command = ["zstd", "--decompress", "--stdout", "--quiet", str(file)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                    self.extract(archive, folder)
                assert process.stdout is not None
                while process.stdout.read(_BLOCK):
                    pass
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, command)
        else:
            with tarfile.open(file) as archive:
                self.extract(archive, folder)

    def extract(self, archive: tarfile.TarFile, folder: Path) -> None:
        """Unpack a tar archive as root's; what leads out of the folder, or is a device, is an error."""
        # Debian 12's Python has no extraction filters: https://docs.python.org/3/library/tarfile.html#extraction-filters
        trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        for member in archive:
            parts = tuple(part for part in PurePosixPath(member.name).parts if part != ".")
            if member.name.startswith("/") or ".." in parts:
                raise tarfile.TarError(f"{member.name} leads out of the archive")
            if not parts[self.strip :]:
                continue
            member.name = str(PurePosixPath(*parts[self.strip :]))
            if member.islnk():
                linked = tuple(part for part in PurePosixPath(member.linkname).parts if part != ".")
                member.linkname = str(PurePosixPath(*linked[self.strip :]))
            target = PurePosixPath(member.linkname) if member.islnk() or member.issym() else PurePosixPath()
            base = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
            if target.is_absolute() or os.path.normpath(base / target).startswith(".."):
                raise tarfile.TarError(f"{member.name} links to {member.linkname}, out of the archive")
            if not (member.isreg() or member.isdir() or member.islnk() or member.issym()):
                raise tarfile.TarError(f"{member.name} is no file, folder or link")
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mode &= 0o755
            archive.extract(member, folder, **trusted)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    """Hold the folder against the release and install what differs."""
    module = AnsibleModule(
        argument_spec={
            **installed.OPTIONS,
            "url": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "strip": {"type": "int", "default": 0},
            "file": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    release = _Release(module)
    if not release.url.startswith(("https://", "http://")):
        module.fail_json(msg=f"{release.url} is no address of a file: it must begin with https:// or http://")
    if len(release.sha256) != 64 or not set(release.sha256) <= set("0123456789abcdef"):
        module.fail_json(
            msg=f"There is no checksum for {release.url}, so it is not installed. "
            "Where it can be reached, `freehold versions lock` writes its checksum into the lock."
        )
    module.exit_json(**release.bring())


if __name__ == "__main__":
    main()
