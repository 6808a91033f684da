#!/bin/sh
# Stand-in of nvidia-modprobe and nvidia-smi on the node of Freehold's lab: device nodes that can be opened, no GPU.
# Like the real ones they make /dev/nvidia*; behind these is a harmless device such as the null device (1:3), bound because
# an id-mapped node may not make device nodes. They prove passthrough (right container, right owner), not CUDA.
# Which GPUs there are stands in a table, see gpus_standin.sh.
set -eu
table=/opt/freehold-lab/gpus
# Who computes on them, for tests: UUID, PID and MiB on each line of this file and of those in the folder beside it, so that
# several tests can claim at the same time. Nobody does where they are missing.
processes=/run/freehold-lab-gpu-processes

claims() { cat "$processes" "$processes".d/* 2> /dev/null || true; }

make_node() { # PATH [DEVICE]
    [ -c "$1" ] && return 0
    : > "$1"
    mount --bind "${2:-/dev/null}" "$1"
}

gpu() {
    device=$(awk -v minor="$1" '!/^#/ && $1 == minor { print $5 }' "$table")
    [ -n "$device" ] || { echo "$0: no GPU with minor number $1" >&2 && exit 1; }
    make_node "/dev/nvidia$1" "$device" && make_node /dev/nvidiactl
}

by_address() { grep -v '^#' "$table" | sort -k 2b,2b; }

name='function name(  word, n) { word = $8; for (n = 9; n <= NF; n++) word = word " " $n; return word }'

query() { # FIELDS: idle for ever, since nothing computes on them; memory in use is what is claimed for tests
    by_address | awk -v claims="$(claims | tr '\n' ';')" -v fields="$1" -v driver="$(cat /opt/freehold-lab/driver)" "$name"'
        BEGIN {
            many = split(fields, field, ",")
            value["driver_version"] = driver; value["utilization.gpu"] = 0
            value["temperature.gpu"] = 35; value["power.draw"] = "12.00"; value["compute_mode"] = "Default"
        }
        {
            value["index"] = NR - 1; value["pci.bus_id"] = "0000" toupper($2); value["uuid"] = $3; value["memory.total"] = $6
            value["memory.used"] = 1
            lines = split(claims, line, ";")
            for (n = 1; n <= lines; n++) { split(line[n], claim, " "); if (claim[1] == $3) value["memory.used"] += claim[3] }
            value["memory.free"] = $6 - value["memory.used"]; value["name"] = name(); out = ""
            for (n = 1; n <= many; n++) {
                if (!(field[n] in value)) { printf "Field \"%s\" is not a valid field to query.\n\n", field[n]; exit 2 }
                out = out (n > 1 ? ", " : "") value[field[n]]
            }
            print out
        }'
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
        for minor in $(by_address | cut -d ' ' -f 1); do gpu "$minor"; done
        fields= format= apps=
        for word in "$@"; do
            case "$word" in
                --query-gpu=*) fields=${word#*=} ;;
                --query-compute-apps=*) apps=${word#*=} ;;
                --format=*) format=${word#*=} ;;
            esac
        done
        case "$*" in
            -L) by_address | awk "$name"'{ printf "GPU %d: %s (UUID: %s)\n", NR - 1, name(), $3 }' ;;
            *) if [ $# -eq 2 ] && [ "$format" = csv,noheader,nounits ] && [ -n "$fields" ]; then
                   query "$fields"
               elif [ $# -eq 2 ] && [ "$format" = csv ] && [ "$fields" = uuid,pci.bus_id,memory.used ]; then
                   echo "uuid, pci.bus_id, memory.used [MiB]"
                   query "$fields" | sed 's/$/ MiB/'
               elif [ $# -eq 2 ] && [ "$format" = csv ] && [ "$apps" = gpu_uuid,pid,used_memory ]; then
                   echo "gpu_uuid, pid, used_gpu_memory [MiB]"
                   claims | awk '{ print $1 ", " $2 ", " $3 " MiB" }'
               else
                   echo "freehold lab: stand-in of nvidia-smi; it knows -L, --query-gpu=... --format=csv,noheader,nounits and what the truth test asks" >&2
                   exit 1
               fi ;;
        esac
        ;;
esac
