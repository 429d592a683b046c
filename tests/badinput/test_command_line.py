"""The command line: each row is refused by the whole program, naming the option and the value."""
import os

import pytest
from refusal import refused
from vmm import guest, only_on

LEFT_BEHIND = ["-qmp", "unix:q.sock,server,nowait", "-boot-timeline", "timeline"]
DAEMON = ["-daemonize", "-pidfile", "pid"]

MEMORY = ["-m", "32,maxmem=4G", "-object", "memory-backend-ram,id=m,size=1G"]

# Words that follow a command line that is right; what must stand in the message.
ROWS = {
    "unknown option": (["-frobnicate"], ["-frobnicate"]),
    "no option": (["vmlinux"], ["vmlinux"]),
    "option without its value": (["-name"], ["-name"]),
    "option given twice": (["-kernel", "other"], ["-kernel"]),
    "machine": (["-machine", "pc"], ["-machine", "pc"]),
    "machine of another architecture": (["-machine", "virt"], ["-machine", "virt"]),
    "machine property": (["-machine", "microvm,frob=on"], ["-machine", "frob"]),
    "machine acpi": (["-machine", "microvm,acpi=perhaps"], ["-machine", "acpi=perhaps"]),
    "machine pit": (["-machine", "microvm,pit=2"], ["-machine", "pit=2"]),
    "machine virtio-cmdline": (["-machine", "microvm,virtio-cmdline="], ["-machine", "virtio-cmdline"]),
    "accelerator": (["-accel", "tcg"], ["-accel", "tcg"]),
    "cpu model": (["-cpu", "qemu64"], ["-cpu", "qemu64"]),
    "cpu property": (["-cpu", "host,svm=off"], ["-cpu", "svm"]),
    "no processors": (["-smp", "0"], ["-smp", "0"]),
    "too many processors": (["-smp", "255"], ["-smp", "255"]),
    "topology that does not fit": (["-smp", "5,sockets=2"], ["-smp", "5"]),
    "more processors than at most": (["-smp", "4,maxcpus=2"], ["-smp", "4"]),
    "negative processors": (["-smp", "cpus=-1"], ["-smp", "-1"]),
    "no memory": (["-m", "0"], ["-m", "0"]),
    "too much memory": (["-m", "513G"], ["-m", "513G"]),
    "memory unit": (["-m", "64X"], ["-m", "64X"]),
    "half a page of memory": (["-m", "65K"], ["-m", "65K"]),
    "memory beyond 64 bits": (["-m", "99999999999999999999"], ["-m", "99999999999999999999"]),
    "uuid": (["-uuid", "12345"], ["-uuid", "12345"]),
    "serial back end": (["-serial", "telnet"], ["-serial", "telnet"]),
    "serial chardev that is not there": (["-serial", "chardev:nobody"], ["-serial", "nobody"]),
    "serial file in no folder": (["-serial", "file,path=/nowhere/out"], ["serial0", "/nowhere/out"]),
    "serial file that is a folder": (["-serial", "file,path=/"], ["serial0", "'/'"]),
    "serial socket in no folder": (["-serial", "socket,path=/nowhere/s,server,nowait"], ["serial0", "/nowhere/s"]),
    "serial socket in use": (["-serial", "socket,host=127.0.0.1,port=99999,server,nowait"], ["-serial", "99999"]),
    "chardev without a name": (["-chardev", "pty"], ["-chardev", "id="]),
    "two users of stdio": (["-serial", "stdio", "-chardev", "stdio,id=b"], ["-chardev", "stdio"]),
    "stdio of a daemon": (["-serial", "stdio", *DAEMON], ["-daemonize", "stdio"]),
    "qmp that does not listen": (["-qmp", "unix:x"], ["-qmp", "server"]),
    "qmp by a name": (["-qmp", "tcp:localhost:1,server,nowait"], ["-qmp", "localhost"]),
    "qmp in no folder": (["-qmp", "unix:/nowhere/q,server,nowait"], ["-qmp", "/nowhere/q"]),
    "monitor without a chardev": (["-mon", "chardev=x,mode=control"], ["-mon", "x"]),
    "timeline in no folder": (["-boot-timeline", "/nowhere/t"], ["-boot-timeline"]),
    "log in no folder": (["-D", "/nowhere/log"], ["/nowhere/log"]),
    "log that is a folder": (["-D", "/"], ["'/'"]),
    "pidfile without a daemon": (["-pidfile", "p"], ["-pidfile", "'p'"]),
    "pidfile in no folder": (["-daemonize", "-pidfile", "/nowhere/p"], ["-pidfile", "/nowhere/p"]),
    "pidfile that exists": (["-daemonize", "-pidfile", "taken"], ["-pidfile", "taken"]),
    "daemon whose qmp fails": ([*DAEMON, "-qmp", "unix:/nowhere/q,server,nowait"], ["-qmp", "/nowhere/q"]),
    "action event": (["-action", "sleep=pause"], ["-action", "sleep"]),
    "action": (["-action", "reboot=never"], ["-action", "reboot=never"]),
    "incoming of no kind": (["-incoming", "exec:cat"], ["-incoming", "exec:cat"]),
    "incoming from nowhere": (["-incoming", "file:/nowhere"], ["snapshot", "/nowhere"]),
    "incoming by tcp": (["-incoming", "tcp:127.0.0.1:1"], ["-incoming"]),
    "drive of a bus": (["-drive", "id=d,file=disk.img,if=ide"], ["-drive", "if=ide", "none"]),
    "missing image": (["-drive", "id=d,file=/nowhere/disk.img", "-device", "virtio-blk-device,drive=d,id=b"], ["-device b", "-drive id=d", "/nowhere/disk.img"]),
    "vsock of the host's context": (["-device", "virtio-vsock-device,id=v,guest-cid=2,path=v"], ["virtio-vsock-device", "guest-cid=2", "3..4294967294"]),
    "vsock without a context": (["-device", "virtio-vsock-device,id=v,path=v"], ["virtio-vsock-device", "guest-cid"]),
    "vsock with a path too long": (["-device", f"virtio-vsock-device,id=v,guest-cid=3,path={'p' * 97}"], ["virtio-vsock-device", "path=", "96"]),
    "vsock in no folder": (["-device", "virtio-vsock-device,id=v,guest-cid=3,path=/nowhere/v"], ["-device v", "/nowhere/v"]),
    "vsock at a file": (["-device", "virtio-vsock-device,id=v,guest-cid=3,path=taken"], ["-device v", "'taken'", "not a socket"]),
    "vhost-vsock of a descriptor that is none": (["-device", "vhost-vsock-device,id=v,guest-cid=3,vhostfd=1000"], ["-device v", "vhostfd=1000", "/dev/vhost-vsock"]),
    "vhost-vsock of another file": (["-device", "vhost-vsock-device,id=v,guest-cid=3,vhostfd=1"], ["-device v", "vhostfd=1", "not an open /dev/vhost-vsock"]),
    "two vsock devices": (["-device", "virtio-vsock-device,id=v,guest-cid=3,path=v", "-device", "virtio-vsock-device,id=w,guest-cid=4,path=w"],
                          ["-device w", "only", "'v'"]),
    "netdev without an interface": (["-netdev", "tap,id=n"], ["-netdev", "tap,id=n", "needs ifname="]),
    "netdev of a kind we lack": (["-netdev", "l2tpv3,id=n"], ["-netdev", "l2tpv3"]),
    "user network that is none": (["-netdev", "user,id=n,net=10.0.2.1/24"], ["-netdev", "net=10.0.2.1/24"]),
    "name of an interface": (["-netdev", "tap,id=n,ifname=sixteen-bytes-xx"], ["ifname=sixteen-bytes-xx", "1 to 15 bytes"]),
    "network device without its netdev": (["-device", "virtio-net-device,netdev=n,id=d"], ["-device d", "netdev=n"]),
    "peer that is not there": (["-netdev", "stream,id=n,addr.type=unix,addr.path=nobody", "-device", "virtio-net-device,netdev=n,id=d"],
                               ["-device d", "-netdev n", "unix:nobody"]),
    "device": (["-device", "virtio-nothing-device,id=d"], ["-device", "virtio-nothing-device"]),
    "object": (["-object", "nothing,id=o"], ["-object", "nothing"]),
    "memory file": (["-mem-path", "/nonexistent/ram"], ["-mem-path", "/nonexistent/ram"]),
    "memory object": (["-object", "memory-backend-ram,id=m,size=64M,policy=some"], ["-object", "policy=some"]),
    "directory without shared memory": (["-chardev", "socket,id=c,path=/nonexistent", "-device", "vhost-user-fs-device,chardev=c,tag=t,id=f"],
                                        ["-device f", "-m", "mem-share=on"]),
    "pmem": (["-object", "memory-backend-file,id=m,size=3M,mem-path=/dev/shm", "-device", "virtio-pmem-device,id=p,memdev=m"], ["-device p", "memdev=m", "size=3M"]),
    "balloon": (["-device", "virtio-balloon-device,id=b,membuf-percent=81"], ["-device", "membuf-percent=81"]),
    "memory device without its memory": (["-m", "32,maxmem=2G", "-device", "virtio-mem-device,id=v"], ["-device", "needs memdev="]),
    "memory device of memory that there is not": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=x"], ["-device v", "memdev=x", "no -object"]),
    "memory of two devices": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=m", "-device", "virtio-mem-device,id=w,memdev=m"],
                              ["-device w", "memdev=m", "'v'"]),
    "memory device of guest RAM": (["-m", "1024,maxmem=4G", "-machine", "microvm,memory-backend=m", "-object", "memory-backend-ram,id=m,size=1G",
                                    "-device", "virtio-mem-device,id=v,memdev=m"], ["-device v", "memdev=m", "guest RAM"]),
    "memory device without maxmem": (["-m", "32", *MEMORY[2:], "-device", "virtio-mem-device,id=v,memdev=m"], ["-device v", "maxmem="]),
    "memory device beyond maxmem": (["-m", "32,maxmem=1G", *MEMORY[2:], "-device", "virtio-mem-device,id=v,memdev=m"],
                                    ["-device v", "size=1G", "1056M", "maxmem=1G"]),
    "memory that is no whole blocks": (["-m", "32,maxmem=2G", "-object", "memory-backend-ram,id=m,size=1023M",
                                        "-device", "virtio-mem-device,id=v,memdev=m"], ["-device v", "size=1023M", "block-size=2M"]),
    "more memory requested than there is": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=m,requested-size=1025M"],
                                            ["-device v", "requested-size", "1074790400", "1073741824 at most"]),
    "half a block requested": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=m,requested-size=1M"], ["-device v", "requested-size", "multiple"]),
    "blocks of an odd size": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=m,block-size=3M"], ["-device", "block-size=3145728", "power of two"]),
    "blocks too small": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=m,block-size=1M"], ["-device", "block-size=1M", "2M..1G"]),
    "memory where RAM is": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=m,memaddr=0x200000"], ["-device v", "memaddr=0x200000"]),
    "memory beyond all addresses": ([*MEMORY, "-device", "virtio-mem-device,id=v,memdev=m,memaddr=0x10000000000000"], ["-device v", "0x10000000000000"]),
    "memory in a file that stays as it was": (["-m", "32,maxmem=2G", "-object", "memory-backend-file,id=m,size=1G,mem-path=taken,share=off",
                                               "-device", "virtio-mem-device,id=v,memdev=m"], ["-device v", "memdev=m", "share=off"]),
    "memory in a file that is too short": (["-m", "32,maxmem=2G", "-object", "memory-backend-file,id=m,size=1G,mem-path=taken",
                                            "-device", "virtio-mem-device,id=v,memdev=m"], ["-device v", "-object m", "taken"]),
    "generation": (["-device", "vmgenid,id=g,guid=none"], ["-device", "guid=none"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_refused(tmp_path, name):
    words, texts = ROWS[name]
    (tmp_path / "taken").write_text("precious")
    timeline = [] if "-boot-timeline" in words else LEFT_BEHIND[2:]
    refused(tmp_path, ["-m", "32", "-kernel", guest("hello"), *LEFT_BEHIND[:2], *timeline, *words]
            if "-m" not in words else ["-kernel", guest("hello"), *LEFT_BEHIND, *words], *texts)


ARM = only_on("aarch64", "processors and boards of Arm")


@ARM
def test_a_timer_of_a_pc(tmp_path):
    refused(tmp_path, ["-kernel", guest("hello"), *LEFT_BEHIND, "-machine", "microvm,pit=on"], "-machine pit=on")


@ARM
def test_vector_instructions_that_the_host_lacks(tmp_path):
    with open("/proc/cpuinfo") as info:
        if " sve " in info.read():
            pytest.skip("this host has SVE")
    refused(tmp_path, ["-kernel", guest("hello"), *LEFT_BEHIND, "-cpu", "host,sve=on"], "-cpu sve=on", "no SVE")


@pytest.mark.parametrize("words, text", [
    (["-S"], "-kernel"),
    (["-initrd", "i"], "-kernel"),
    (["-machine", "none", "-append", "x"], "-kernel"),
    (["-machine", "none", "-initrd", "x"], "-kernel"),
])
def test_what_needs_a_kernel_says_so(tmp_path, words, text):
    refused(tmp_path, words, text)


def test_a_log_level_that_does_not_exist(tmp_path):
    refused(tmp_path, ["-kernel", guest("hello")], "STRATOVIRT_LOG_LEVEL", "loud", env={"STRATOVIRT_LOG_LEVEL": "loud"})


def test_an_old_timeline_survives_a_start_that_fails(tmp_path):
    (tmp_path / "timeline").write_text("precious")
    refused(tmp_path, ["-kernel", "/nowhere", "-boot-timeline", "timeline"], "/nowhere")
    assert (tmp_path / "timeline").read_text() == "precious"


def test_a_serial_file_survives_a_kernel_that_is_none(tmp_path):
    (tmp_path / "out").write_text("precious")
    (tmp_path / "kernel").write_text("words")
    refused(tmp_path, ["-kernel", "kernel", "-serial", "file,path=out", *DAEMON], "kernel")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_vsock_path_where_somebody_listens_is_left_to_him(tmp_path):
    import socket
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "v"))
        taken.listen()
        refused(tmp_path, ["-kernel", guest("hello"), "-device", "virtio-vsock-device,id=v,guest-cid=3,path=v"], "-device v", "'v'", "in use")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "v"))


def test_a_socket_that_somebody_listens_on_is_left_to_him(tmp_path):
    import socket
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(tmp_path, ["-kernel", guest("hello"), "-qmp", f"tcp:127.0.0.1:{port},server,nowait"], "-qmp", str(port))




@pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root")
@pytest.mark.parametrize("before", ["mount --bind /dev/null /dev/kvm", "mount --bind /etc/hostname /dev/kvm", "mount -t tmpfs none /dev"],
                         ids=["another device", "a file", "nothing"])
def test_without_kvm_it_says_so(tmp_path, before):
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", before + ' && exec "$0" "$@"']
    refused(tmp_path, ["-kernel", guest("hello"), *LEFT_BEHIND], "/dev/kvm", prefix=prefix)


@pytest.mark.skipif(os.geteuid() != 0 or os.stat("/dev/kvm").st_mode & 0o006 != 0, reason="anybody may open this /dev/kvm")
def test_a_kvm_that_we_may_not_open(tmp_path):
    prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    refused(tmp_path, ["-kernel", guest("hello")], "/dev/kvm", "ermission", prefix=prefix)
