#!/bin/sh
# What a program of the guest sees of the port NAME, whose other end comes, goes, and comes back: port.sh NAME BYTES.
folder=$(dirname "$(grep -lx "$1" /sys/class/virtio-ports/*/name)")
port=/dev/${folder##*/}
say() {
  echo "port: $*"
}
say "is $port"
# Only one at a time may have it open.
exec 3<>"$port"
say "received $(head -c "$2" <&3 | md5sum)"
head -c "$2" /dev/urandom >/tmp/sent
say "sent $(md5sum </tmp/sent)"
cat /tmp/sent >&3
say "then came $(cat <&3 | wc -c) bytes and the end"
exec 3>&-
timeout 1 sh -c "echo unheard >$port"
say "an attempt to be heard ended with $?"
exec 3<>"$port"
say "waits for somebody"
echo "heard" >&3
say "was heard"
read -r line <&3
say "read $line"
