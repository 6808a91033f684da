#!/bin/sh
# Stand-in: lets the lab's node claim that SGLang computes on its GPU, since SGLang's stand-in computes on none.
# On a node, the driver names processes with the memory they hold, and the kernel says which container each is in. Here a
# process that sleeps is put where that of the scenario's container would be, and the stand-in of nvidia-smi names it. It ends
# by itself after a quarter of an hour.
set -eu
vmid=9070 unit=sglang.service uuid=GPU-00000000-0000-4000-8000-000000000000 mib=2048
group=/sys/fs/cgroup/unified/lxc/$vmid/ns/system.slice/$unit
claims=/run/freehold-lab-gpu-processes
mkdir -p "$group"
setsid sleep 900 > /dev/null 2>&1 < /dev/null &
echo "$!" > "$group/cgroup.procs"
touch "$claims"
: > "$claims.new"
while read -r other pid claimed; do
    [ "$other" = "$uuid" ] || [ ! -d "/proc/$pid" ] || echo "$other $pid $claimed" >> "$claims.new"
done < "$claims"
echo "$uuid $! $mib" >> "$claims.new"
mv "$claims.new" "$claims"
