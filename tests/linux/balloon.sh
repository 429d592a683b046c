#!/bin/sh
# Does what the console says, a line for each step, and answers when it is done.
mount -t tmpfs -o size=100% tmp /tmp
echo "balloon: ready"
while read -r step number; do
  case $step in
    # Takes so many MiB, or all that is free but 24.
    fill)
      [ -n "$number" ] || number=$(awk '/^MemFree/ { print int($2 / 1024) - 24 }' /proc/meminfo)
      dd if=/dev/zero of=/tmp/fill bs=1M count="$number" 2>/dev/null || echo "balloon: fill failed"
      echo "balloon: $number MiB"
      ;;
    free) rm -f /tmp/fill ;;
    kernel) dmesg | sed -n 's/^\[ *[0-9.]*\] \(random: crng reseeded.*\|Out of memory.*\)/balloon: \1/p' ;;
    end) exit 0 ;;
  esac
  echo "balloon: did $step"
done
