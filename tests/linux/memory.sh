#!/bin/sh
# Does what the console says, a line for each step, and answers when it is done.
mount -t tmpfs -o size=4G tmp /tmp
echo "memory: ready"
while read -r step number; do
  case $step in
    total) awk '/^MemTotal/ { print "memory: total", $2 }' /proc/meminfo ;;
    # A file of so many MiB, each of which is another one, and its sum.
    fill)
      seq 150000 | head -c 1048576 >/tmp/piece
      for i in $(seq "$number"); do
        echo "$i" && cat /tmp/piece || echo "memory: fill failed" >&2
      done >/tmp/fill
      md5sum /tmp/fill | awk '{ print "memory: sum", $1 }'
      ;;
    sum) md5sum /tmp/fill | awk '{ print "memory: sum", $1 }' ;;
    free) rm -f /tmp/fill /tmp/piece ;;
    kernel) dmesg | sed -n 's/^\[ *[0-9.]*\] \(.*virtio_mem.*\|Out of memory.*\)/memory: \1/p' ;;
    end) exit 0 ;;
  esac
  echo "memory: did $step"
done
