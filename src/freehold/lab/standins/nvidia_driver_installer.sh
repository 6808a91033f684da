#!/bin/sh
# Stand-in of NVIDIA's installer (lab): one file, NVIDIA-Linux-x86_64-VERSION.run, for nodes and for containers. There is no driver in it.
#
# It takes the options of nvidia-installer that Freehold uses and refuses others, as the real one does (option_table.h of
# github.com/NVIDIA/nvidia-installer), and leaves the files behind by which Freehold tells what is installed:
#   libcuda.so.VERSION, libnvidia-ml.so.VERSION and their links, texts that nothing can load; an older version's go
#   with --dkms: the sources in /usr/src, the module for the kernel that runs (built by the node's dkms), nvidia-persistenced
#   without kernel modules: nvidia-smi, which lists the device nodes of the container
#   /var/log/nvidia-installer.log
# PAUSE=SECONDS makes it wait in the middle, with the old files gone and the new ones not there: for tests that cut it off.
set -eu
version=@VERSION@
libraries=/usr/lib/x86_64-linux-gnu
log=/var/log/nvidia-installer.log

refuse() { echo "nvidia-installer: $*" >&2; exit 1; }

silent= dkms= modules=yes load=yes
for option; do
    case "$option" in
        --silent) silent=yes ;;
        --dkms) dkms=yes ;;
        --no-dkms) dkms=no ;;
        --no-kernel-modules) modules=no ;;
        --skip-module-load) load=no ;;
        --tmpdir=/*) [ -d "${option#--tmpdir=}" ] || refuse "no directory: $option" ;;
        --no-kernel-module-source | --skip-depmod | --no-rebuild-initramfs | --no-nouveau-check | --no-x-check) ;;
        --no-nvidia-modprobe | --no-systemd | --no-install-compat32-libs | --no-distro-scripts | --no-backup) ;;
        --no-check-for-alternate-installs | --allow-installation-with-running-driver) ;;
        *) refuse "unrecognized option: $option" ;;
    esac
done
[ -n "$silent" ] || refuse "this stand-in asks nothing: --silent"
[ "$(id -u)" = 0 ] || refuse "must be run as root"
if [ "$modules" = no ]; then
    [ "$dkms" = no ] && [ "$load" = no ] || refuse "user space alone takes --no-dkms and --skip-module-load"
else
    [ "$dkms" = yes ] || refuse "on a node this stand-in takes --dkms"
    command -v dkms >/dev/null || refuse "DKMS is not installed"
fi

echo "nvidia-installer log file '$log' (stand-in of Freehold's lab): $*" > "$log"
rm -f "$libraries"/libcuda.so.* "$libraries"/libnvidia-ml.so.*
sleep "${PAUSE:-0}"
mkdir -p "$libraries"
for library in libcuda libnvidia-ml; do
    echo "stand-in of $library.so.$version (Freehold's lab)" > "$libraries/$library.so.$version"
    ln -sfn "$library.so.$version" "$libraries/$library.so.1"
done
if [ "$modules" = yes ]; then
    for old in /usr/src/nvidia-*; do
        [ -d "$old" ] && [ "$old" != "/usr/src/nvidia-$version" ] && dkms remove -m nvidia -v "${old#/usr/src/nvidia-}" --all && rm -rf "$old"
    done
    mkdir -p "/usr/src/nvidia-$version"
    echo "PACKAGE_NAME=nvidia PACKAGE_VERSION=$version" > "/usr/src/nvidia-$version/dkms.conf"
    dkms install -m nvidia -v "$version" -k "$(uname -r)" >> "$log" 2>&1 || refuse "the module was not built, see $log"
    printf '#!/bin/sh\n# Stand-in of nvidia-persistenced (lab).\nmkdir -p /run/nvidia-persistenced\nsetsid sleep infinity >/dev/null 2>&1 &\n' \
        > /usr/bin/nvidia-persistenced
    chmod 755 /usr/bin/nvidia-persistenced
else
    cat > /usr/bin/nvidia-smi <<END
#!/bin/sh
# Stand-in of nvidia-smi in a container of the lab: there is no GPU behind its device nodes.
case "\$*" in
    -L) for node in /dev/nvidia[0-9]*; do [ -c "\$node" ] && echo "GPU \${node#/dev/nvidia}: stand-in"; done; true ;;
    "--query-gpu=driver_version --format=csv,noheader") echo $version ;;
    *) echo "nvidia-smi: stand-in of Freehold's lab, without a GPU" >&2; exit 9 ;;
esac
END
    chmod 755 /usr/bin/nvidia-smi
fi
ldconfig 2>/dev/null || true
echo "installed $version" >> "$log"
