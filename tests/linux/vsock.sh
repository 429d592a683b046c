#!/bin/sh
# The guest's side of vsocks.py, by the program of vsock.c. strato.connects= says how many connections one after the other.
read -r cmdline </proc/cmdline
for word in $cmdline; do case $word in strato.connects=*) connects=${word#*=} ;; esac; done
/vsock echo 1024 &
/vsock many 52 100 65536
/vsock storm 52 "$connects"
for generation in 1 2; do
  /vsock hold 53
  /vsock many 52 10 10000
done
/vsock hold 54 # until the host has said its last
echo "vsock: through"
