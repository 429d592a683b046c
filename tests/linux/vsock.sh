#!/bin/sh
# The guest's side of vsocks.py, by the program of vsock.c. strato.parallel= says how many connections at once, strato.connects= how
# many one after the other.
read -r cmdline </proc/cmdline
for word in $cmdline; do
  case $word in
    strato.connects=*) connects=${word#*=} ;;
    strato.parallel=*) parallel=${word#*=} ;;
  esac
done
/vsock echo 1024 &
/vsock many 52 "$parallel" 65536
/vsock storm 52 "$connects"
for generation in 1 2; do
  /vsock hold 53
  /vsock many 52 10 10000
done
/vsock hold 54 # until the host has said its last
echo "vsock: through"
