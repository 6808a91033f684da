"""Prints where the package managers of this host ask, as JSON: host names with port and whether over TLS, by client.

apt is asked for its sources, and pip for its index; what pip sends downloads on to is its own knowledge.
"""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit


def way(address):
    """Name, port and whether over TLS."""
    parts = urlsplit(address)
    tls = parts.scheme == "https"
    return {"name": parts.hostname, "port": parts.port or (443 if tls else 80), "tls": tls}


def of_debian():
    """The archives of apt's sources."""
    command = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [address for address in answer.split() if address.startswith("http")]


def of_python():
    """The index of pip's configuration, else pip's own with the place of its files."""
    wheels = sorted(map(str, Path("/usr/share/python-wheels").glob("pip-*.whl")))
    sys.path.insert(0, wheels[-1])
    from pip._internal.configuration import Configuration
    from pip._internal.models.index import PyPI

    settings = Configuration(isolated=False)
    settings.load()
    told = dict(settings.items())
    index = told.get("global.index-url") or told.get("install.index-url")
    own = [] if index else [PyPI.simple_url, f"https://{PyPI.file_storage_domain}/"]
    more = " ".join(
        told.get(key, "") for key in ("global.extra-index-url", "install.extra-index-url")
    ).split()
    return [*([index] if index else own), *(address for address in more if address.startswith("http"))]


def main():
    """Print what was found."""
    found = {}
    for client, addresses in (("debian", of_debian()), ("python", of_python())):
        ways = [way(address) for address in addresses]
        found[client] = [one for number, one in enumerate(ways) if one["name"] and one not in ways[:number]]
    json.dump(found, sys.stdout)


main()
