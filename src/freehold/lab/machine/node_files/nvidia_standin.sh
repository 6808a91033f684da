#!/bin/sh
# Stand-in of nvidia-modprobe and nvidia-smi on the node of Freehold's lab: device nodes that can be opened, no GPU.
# Like the real ones they make /dev/nvidia*; these are the null device (1:3), bound because an id-mapped node may not
# make device nodes. They prove passthrough (right container, right owner), not CUDA.
set -eu

make_node() {
    [ -c "$1" ] && return 0
    : > "$1"
    mount --bind /dev/null "$1"
}

gpu() {
    case "$1" in
        0 | 1) make_node "/dev/nvidia$1" && make_node /dev/nvidiactl ;;
        *) echo "$0: no GPU with minor number $1" >&2 && exit 1 ;;
    esac
}

case "$(basename "$0")" in
    nvidia-modprobe)
        made=gpu
        case " $* " in
            # With -u, the numbers after -c are those of unified memory's own devices, not of GPUs.
            *" -u "*) made=: && make_node /dev/nvidia-uvm && make_node /dev/nvidia-uvm-tools ;;
        esac
        while [ $# -gt 0 ]; do
            case "$1" in
                -c) shift && "$made" "${1:?-c needs a minor number}" ;;
                -c=*) "$made" "${1#-c=}" ;;
                -u) ;;
                -s | -m) ;;
                *) echo "nvidia-modprobe: unrecognized option: $1" >&2 && exit 1 ;;
            esac
            shift
        done
        ;;
    nvidia-smi)
        gpu 0
        gpu 1
        case "$*" in
            -L)
                echo "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-00000000-0000-4000-8000-000000000000)"
                echo "GPU 1: NVIDIA GeForce RTX 4090 (UUID: GPU-00000000-0000-4000-8000-000000000001)"
                ;;
            "--format=csv,noheader,nounits --query-gpu=pci.bus_id,name,memory.total,memory.used,utilization.gpu,temperature.gpu,power.draw")
                # Idle for ever, since nothing computes on them.
                echo "00000000:01:00.0, NVIDIA GeForce RTX 4090, 24564, 1, 0, 35, 12.00"
                echo "00000000:02:00.0, NVIDIA GeForce RTX 4090, 24564, 1, 0, 35, 12.00"
                ;;
            *) echo "freehold lab: stand-in of nvidia-smi; it knows -L and the query for figures only" >&2 && exit 1 ;;
        esac
        ;;
esac
