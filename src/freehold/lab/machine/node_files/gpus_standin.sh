#!/bin/sh
# Stand-in of the GPUs on the node of Freehold's lab: what the kernel would tell of them in /proc/driver/nvidia and /sys.
# Four GPUs that do not exist, by the table /opt/freehold-lab/gpus. nvidia-smi and nvidia-modprobe (stand-ins too) read it.
# There is no /proc/driver/nvidia/version: no driver is loaded that containers would need libraries for.
#   freehold-lab-gpus boot                  puts them in place: the lab's node does so when it boots
#   freehold-lab-gpus swap-minors PCI PCI   the cards stay where they are, the driver counts them in another order
#   freehold-lab-gpus swap-slots PCI PCI    the cards change places
# Both take effect like a reboot of the node: device nodes that were made are gone, and running containers keep theirs.
set -eu
table=/opt/freehold-lab/gpus
here=/run/freehold-lab-gpus

describe() {
    mkdir -p "$here/driver/nvidia/gpus" "$here/pci"
    rm -rf "$here/driver/nvidia" "$here/pci"/*
    mkdir -p "$here/driver/nvidia/gpus"
    grep -v '^#' "$table" | while read -r minor pci uuid id _ _ iommu name; do
        gpu=$here/driver/nvidia/gpus/$pci
        mkdir -p "$gpu"
        printf 'Model: \t\t %s\nIRQ:   \t\t 0\nGPU UUID: \t %s\nBus Type: \t PCIe\nBus Location: \t %s\nDevice Minor: \t %s\n' \
            "$name" "$uuid" "$pci" "$minor" > "$gpu/information"
        slot=$here/pci/$pci
        mkdir -p "$slot"
        echo 0x030000 > "$slot/class"
        echo 0x10de > "$slot/vendor"
        echo "0x$id" > "$slot/device"
        echo -1 > "$slot/numa_node"
        ln -s ../../../../bus/pci/drivers/nvidia "$slot/driver"
        ln -s "../../../../kernel/iommu_groups/$iommu" "$slot/iommu_group"
    done
    mountpoint -q /proc/driver || mount --bind "$here/driver" /proc/driver
    mountpoint -q /sys/bus/pci/devices || mount --bind "$here/pci" /sys/bus/pci/devices
}

forget_nodes() {
    for minor in $(grep -v '^#' "$table" | awk -v a="$1" -v b="$2" '$2 == a || $2 == b { print $1 }'); do
        [ ! -e "/dev/nvidia$minor" ] || { umount "/dev/nvidia$minor" && rm "/dev/nvidia$minor"; }
    done
}

swap() { # columns that change between the lines of two PCI addresses
    grep -c -e " $2 " -e " $3 " "$table" | grep -qx 2 || { echo "$0: no two GPUs at $2 and $3" >&2 && exit 1; }
    forget_nodes "$2" "$3"
    awk -v columns="$1" -v a="$2" -v b="$3" '
        BEGIN { many = split(columns, column, ",") }
        NR == FNR { if ($2 == a || $2 == b) for (n = 1; n <= many; n++) kept[$2, column[n]] = $column[n]; next }
        !/^#/ && ($2 == a || $2 == b) {
            other = $2 == a ? b : a
            for (n = 1; n <= many; n++) $column[n] = kept[other, column[n]]
        }
        { print }' "$table" "$table" > "$table.new"
    mv "$table.new" "$table"
    describe
}

case "${1:-}" in
    boot) describe ;;
    swap-minors) swap 1 "$2" "$3" ;;
    # what belongs to the slot and to the order of slots stays: minor, address, IOMMU group
    swap-slots) swap 3,4,5,6,8,9,10,11 "$2" "$3" ;;
    *) echo "usage: $0 boot | swap-minors PCI PCI | swap-slots PCI PCI" >&2 && exit 2 ;;
esac
