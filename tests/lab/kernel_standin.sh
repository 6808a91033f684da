#!/bin/sh
# Stand-in (tests) of what a node's kernel does with the NVIDIA driver, on the node of a lab of its own: dkms, modinfo, modprobe,
# update-initramfs, and "boot", which a unit calls when the node boots. A "module" is a text with its version.
# Called by the name of the tool. What is loaded stands where the lab's stand-ins of GPUs put it: in /proc/driver/nvidia/version.
set -eu
loaded=/run/freehold-lab-gpus/driver/nvidia/version
module() { echo "/lib/modules/$1/updates/dkms/nvidia.ko"; }

load() {
    [ -s "$(module "$(uname -r)")" ] || { rm -f "$loaded"; return 1; }
    mkdir -p "${loaded%/*}"
    printf 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  (stand-in of a test)\n' "$(cat "$(module "$(uname -r)")")" > "$loaded"
}

case "${0##*/}" in
    dkms)
        verb=$1 && shift
        version= kernel=
        while [ $# -gt 0 ]; do
            case "$1" in
                -m) shift ;;
                -v) version=$2 && shift ;;
                -k) kernel=$2 && shift ;;
                --force | --all) ;;
                *) echo "dkms: unknown option $1" >&2 && exit 1 ;;
            esac
            shift
        done
        case "$verb" in
            install)
                [ -e "/lib/modules/$kernel/build/Makefile" ] || { echo "Error! Your kernel headers for kernel $kernel cannot be found" >&2; exit 1; }
                [ -d "/usr/src/nvidia-$version" ] || { echo "Error! Could not find module source directory" >&2; exit 2; }
                mkdir -p "/lib/modules/$kernel/updates/dkms"
                echo "$version" > "$(module "$kernel")"
                ;;
            remove)
                for one in /lib/modules/*/updates/dkms/nvidia.ko; do
                    [ -e "$one" ] && grep -qx "$version" "$one" && rm -f "$one"
                done
                true
                ;;
            status)
                for one in /lib/modules/*/updates/dkms/nvidia.ko; do
                    [ -e "$one" ] || continue
                    kernel=${one#/lib/modules/}
                    echo "nvidia/$(cat "$one"), ${kernel%%/*}, x86_64: installed"
                done
                ;;
            *) echo "dkms: unknown verb $verb" >&2 && exit 1 ;;
        esac
        ;;
    modinfo) # -k KERNEL -F version nvidia
        [ "$1 $3 $4 $5" = "-k -F version nvidia" ] && [ -s "$(module "$2")" ] || { echo "modinfo: ERROR: Module nvidia not found." >&2; exit 1; }
        cat "$(module "$2")"
        ;;
    modprobe)
        [ "$*" = "-a nvidia nvidia_uvm" ] || { echo "modprobe: unexpected: $*" >&2; exit 1; }
        load || { echo "modprobe: FATAL: Module nvidia not found" >&2; exit 1; }
        ;;
    update-initramfs) echo "$*" >> /run/update-initramfs ;;
    boot) load || true ;;
esac
