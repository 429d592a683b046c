#!/bin/sh
# The guest's side of bench/peers.py: what /setup does, then each of /workloads, a name and a command, which prints how many
# a second and how many.
. /setup || exit 1
while read -r name command; do
  echo "BENCH-BEGIN $name"
  sleep 1 # until the first figures have been taken
  echo "BENCH-END $name $(eval "$command" </dev/null 2>/tmp/errors || cat /tmp/errors)"
done </workloads
echo BENCH-COMPLETE
sleep 2 # its last figures are still being taken
