#!/bin/sh
# Reads /dev/vda as fast as it is let, and says how far it is.
n=0
echo begin
while :; do
  dd if=/dev/vda of=/dev/null bs=256k skip=$((n % 56 * 4)) count=4 iflag=direct 2>/dev/null
  n=$((n + 1))
  echo "mib=$n"
done
