"""What Debian's kernel does with a virtio-net device on a tap, in a network namespace of its own: run by tools/with-kvm as
`network.py SCENARIO IMAGE`."""
import fcntl
import hashlib
import http.server
import json
import mmap
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request

from guests import LIMIT, end, perform, run, start
from vmm import binary

HOST, GUEST = "10.7.0.1", "10.7.0.2"
LONG = bool(os.environ.get("STRATO_LONG"))
PACKETS = 20_000  # as many as come, of which some may be lost
COUNTED = 1_000_000 if LONG else 50_000  # each way, of which none may
VHOST_COUNTED = 500_000 if LONG else 50_000
MANY = 10_000_000
BEATS = 100  # of 10 ms
HOURS = 4 * 3600
VHOST = ",vhostforce=on"
TCP_BYTES = "256M" if LONG else "8M"


def make_tap(queues=1, mtu=1500):
    run("ip", "link", "set", "lo", "up")
    run("ip", "tuntap", "add", "tap0", "mode", "tap", "vnet_hdr", *(["multi_queue"] if queues > 1 else []))
    run("tc", "qdisc", "add", "dev", "tap0", "root", "pfifo", "limit", 1000)  # not one that drops what has waited long
    run("ip", "link", "set", "tap0", "up", "mtu", mtu)
    run("ip", "addr", "add", f"{HOST}/24", "dev", "tap0")


class Guest:
    """A guest with a shell on its serial port, its network up."""

    def __init__(self, image, queues=1, device="", smp=1, extra=(), vhost="", netdev="", address=f"{GUEST}/24"):
        netdev = netdev or f"tap,id=n,ifname=tap0,queues={queues}{vhost}"
        self.options = ("-netdev", netdev, "-device", f"virtio-net-device,netdev=n,id=net0,mq=on{device}", *extra)
        self.image = image
        self.smp = smp
        self.asked = 0
        self.vmm = start(image, "strato.report=no strato.end=shell reboot=t", *self.options, smp=smp)
        self.vmm.wait_for(r"# ", LIMIT)
        self.ask("stty -echo; PS1=")
        self.must("echo pfifo_fast >/proc/sys/net/core/default_qdisc; ip link set lo up; ip link set eth0 up")
        self.must(f"ip addr add {address} dev eth0")

    def ask(self, command, limit=LIMIT):
        """Exit code and output."""
        self.asked += 1
        begin = len(self.vmm.bytes())
        self.vmm.write(f"{command}; echo code{self.asked}=$?\n".encode())
        code = self.vmm.output.wait_for(rf"code{self.asked}=(\d+)", limit, begin)[1]
        return int(code), self.vmm.bytes()[begin:].decode(errors="replace").replace("\r\n", "\n")

    def must(self, command, limit=LIMIT):
        code, text = self.ask(command, limit)
        assert code == 0, f"{command}: {code}\n{text}\n{self.vmm.stderr()}"
        return text

    def begin(self, command):
        self.must(f"({command}) >/tmp/out 2>&1 & true")

    def finish(self):
        """The program of begin() has to end well."""
        return self.must("wait $!; code=$?; cat /tmp/out; (exit $code)")

    def ping(self):
        self.must(f"ping -c 3 -W 60 {HOST}")

    def power_off(self):
        self.vmm.write(b"exit\n")
        return end(self.vmm)


def serve_iperf():
    return subprocess.Popen(["iperf3", "-s", "--forceflush"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def iperf(guest, *words):
    """What the side that sums up saw."""
    text = guest.must(f"iperf3 -J -c {HOST} --connect-timeout 60000 {' '.join(words)}")
    seen = json.loads(text[text.index("{"):text.rindex("}") + 1])
    assert "error" not in seen, seen["error"]
    return seen["end"]


def tcp_both_ways(guest, *words):
    for way in ([], ["-R"]):
        seen = iperf(guest, "-n", TCP_BYTES, *way, *words)
        assert seen["sum_received"]["bytes"] > 0, seen
        print(f"tcp {' '.join(way)} {' '.join(words)}: {seen['sum_received']['bits_per_second'] / 1e6:.0f} Mbit/s", flush=True)


def udp_both_ways(guest):
    """Small packets, of which a receiver may drop some but gets none out of order. Those to the guest come at a rate that an emulated
    one can bear: the sender goes on until the guest has had its number."""
    for way in (["-b", "0"], ["-b", "400K", "-R"]):
        seen = iperf(guest, "-u", "-l", "18", "-k", str(PACKETS), *way)
        summed = seen["sum"]
        disorder = sum(stream["udp"].get("out_of_order", 0) for stream in seen["streams"])
        assert disorder == 0 and summed["packets"] >= PACKETS // 2, seen
        assert summed["lost_packets"] < summed["packets"], seen
        print(f"udp {' '.join(way)}: {summed['packets']} packets, {summed['lost_packets']} lost, none out of order", flush=True)


def counted_both_ways(guest, count):
    """Numbered small packets, no more on the way than the queues hold: each comes, once and in its place, and no second of guest time (flow.c)
    goes by without one."""
    serving = subprocess.Popen([f"{guest.image}/flow", "serve", f"tcp:{HOST}:5300"], stdout=subprocess.PIPE)
    assert serving.stdout.readline()
    for way in ("count-out", "count-in"):
        text = guest.must(f"/flow {way} tcp:{HOST}:5300 {count}", limit=HOURS)
        beats = int(re.search(rf"{count} in their places, at most (\d+) beats", text)[1])
        assert beats < BEATS, text
        print(f"{way}: {text.strip()}", flush=True)
    serving.kill()


def unharmed(guest):
    dmesg = guest.must("dmesg")
    assert "Call Trace" not in dmesg and "nobody cared" not in dmesg, dmesg


def packets(image, folder, count=COUNTED):
    """Rings of 64."""
    make_tap()
    guest = Guest(image, device=",queue-size=64")
    counted_both_ways(guest, count)
    unharmed(guest)
    guest.power_off()
    print("packets well")


def many_packets(image, folder):
    packets(image, folder, MANY)


def traffic(image, folder):
    """One queue, rings of 64 and of 256, split and packed."""
    make_tap()
    server = serve_iperf()
    for device in (",queue-size=64", ",packed=on"):
        guest = Guest(image, device=device)
        features = guest.must("cat /sys/class/net/eth0/device/features")
        assert "eth0" in guest.must("ls /sys/class/net")
        print(f"features {features.split()[0]}", flush=True)
        guest.ping()
        tcp_both_ways(guest)
        udp_both_ways(guest)
        text = guest.power_off()
        assert "Call Trace" not in text and "nobody cared" not in text, text[-3000:]
    server.kill()
    print("traffic well")


class Unread:
    """Bytes that nobody of the guest has read yet: in its memory they are where whoever serves its rings wrote them."""

    MARK = b"written by the host "
    COUNT = 1000

    def __init__(self, guest):
        self._data = b"".join(b"%s%06d." % (self.MARK, number) for number in range(self.COUNT))
        with socket.create_server((HOST, 5400)) as listening:
            guest.must(f"nc {HOST} 5400 </dev/null >/tmp/unread & true")
            self._connection, _ = listening.accept()
        guest.must("killall -STOP nc")
        self._connection.sendall(self._data)
        while struct.unpack("i", fcntl.ioctl(self._connection, termios.TIOCOUTQ, bytes(4)))[0] != 0:
            time.sleep(0.05)

    def check(self, guest, saved):
        """They are in the saved machine, and the restored one reads them."""
        found = set()
        for path in saved.iterdir():
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
                at = content.find(self.MARK)
                while at >= 0:
                    found.add(content[at + len(self.MARK):at + len(self.MARK) + 6])
                    at = content.find(self.MARK, at + 1)
        assert len(found) > self.COUNT * 9 // 10, len(found)  # some lie across the borders of frames
        guest.must("killall -CONT nc")
        self._connection.shutdown(socket.SHUT_WR)
        guest.must("while pidof nc; do sleep 0.1; done")
        assert hashlib.sha256(self._data).hexdigest() in guest.must("sha256sum /tmp/unread")
        self._connection.close()


def vhost_threads(pid):
    """The host's kernel has one for each queue pair."""
    return [int(thread) for thread in subprocess.run(["pgrep", "-x", f"vhost-{pid}"], stdout=subprocess.PIPE, text=True).stdout.split()]


def vhost(image, folder):
    """Frames by the host's kernel: streams and 10^5 small packets, a link that goes and comes, a move in the middle of a
    transfer, with pages that only the kernel wrote, and at last a tap that is deleted under load."""
    make_tap()
    server = serve_iperf()
    guest = Guest(image, vhost=VHOST)
    assert len(vhost_threads(guest.vmm.pid)) == 1
    guest.ping()
    tcp_both_ways(guest)
    counted_both_ways(guest, VHOST_COUNTED)
    flap(guest)
    guest.ping()
    unread = Unread(guest)
    move(guest, folder)
    unread.check(guest, folder / "saved")
    assert len(vhost_threads(guest.vmm.pid)) == 1
    unharmed(guest)
    delete_tap(guest)
    guest.power_off()
    server.kill()
    print("vhost well")


def dirty_log(image, folder):
    """What the kernel writes comes into our dirty log: vhost_log.cc."""
    make_tap()
    with open("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", "w") as file:
        file.write("1")  # sends of itself
    run("ip", "neigh", "add", GUEST, "lladdr", "52:54:00:12:34:56", "dev", "tap0")
    print(run(os.path.join(os.path.dirname(binary()), "vhost_log"), "tap0"))
    print("dirty_log well")


def vhost_queues(image, folder):
    queues(image, folder, VHOST)


def serve_page(text):
    """A web server at a free port of the host; its port."""
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def children(pid):
    return subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True).stdout.split()


def user(image, folder):
    """A page from a server on the host, a port of the host that leads to the guest, and the end of passt; then nothing at all."""
    port = serve_page("a page of the host")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        forwarded = free.getsockname()[1]
    # passt wants a way out, although nothing goes there.
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "out", "type", "dummy")
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "out")
    run("ip", "link", "set", "out", "up")
    run("ip", "route", "add", "default", "via", "192.0.2.254")
    guest = Guest(image, netdev=f"user,id=n,hostfwd=tcp:127.0.0.1:{forwarded}-:80", address="10.0.2.15/24")
    guest.must("ip route add default via 10.0.2.2")
    assert "a page of the host" in guest.must(f"wget -q -O - http://10.0.2.2:{port}/")
    guest.must("mkdir /tmp/www; echo 'a page of the guest' >/tmp/www/page; httpd -p 80 -h /tmp/www")
    with urllib.request.urlopen(f"http://127.0.0.1:{forwarded}/page", timeout=LIMIT) as page:
        assert page.read() == b"a page of the guest\n"
    (passt,) = children(guest.vmm.pid)
    qmp = guest.vmm.qmp  # connected before there is something to hear
    os.kill(int(passt), signal.SIGKILL)
    guest.must("while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done")
    assert qmp.wait_event("NETDEV_STREAM_DISCONNECTED")["data"] == {"netdev-id": "n"}
    assert children(guest.vmm.pid) == []
    guest.power_off()
    closed = Guest(image, netdev="user,id=n,restrict=on", address="10.0.2.15/24")
    closed.must("ip route add default via 10.0.2.2")
    code, text = closed.ask(f"wget -q -T 10 -O - http://10.0.2.2:{port}/")
    assert code != 0 and "a page" not in text, text
    (passt,) = children(closed.vmm.pid)
    closed.power_off()
    assert not os.path.exists(f"/proc/{passt}")
    print("user well")


def queues(image, folder, vhost=""):
    """Two queues, then one of them."""
    make_tap(2)
    server = serve_iperf()
    guest = Guest(image, queues=2, smp=2, vhost=vhost, extra=("-object", "iothread,id=r", "-object", "iothread,id=t"),
                  device=",rx-iothread=r,tx-iothread=t")
    guest.must("ethtool -L eth0 combined 2")
    assert len(re.findall(r"Combined:\s+2", guest.must("ethtool -l eth0"))) == 2
    tcp_both_ways(guest, "-P", "2")
    guest.must("ethtool -L eth0 combined 1")
    # A flow that the host gave to the second queue would be lost now.
    for _ in range(8):
        guest.ping()
    tcp_both_ways(guest, "-P", "2")
    guest.must("ethtool -L eth0 combined 2")
    tcp_both_ways(guest)
    guest.power_off()
    server.kill()
    print("queues well")


def flap(guest):
    guest.vmm.qmp.request("set_link", {"name": "n", "up": False})
    assert guest.must("while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done; echo carrier=0")
    guest.vmm.qmp.request("set_link", {"name": "n", "up": True})
    guest.must("while [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.1; done")


def cable(image, folder):
    """The link goes and comes, the interface goes down and up, jumbo frames; a transfer goes on through all of it."""
    make_tap(mtu=9000)
    server = serve_iperf()
    guest = Guest(image, device=",host_mtu=9000")
    assert "mtu 9000" in guest.must("ip link show eth0")
    guest.must(f"ping -c 2 -W 60 -s 8900 {HOST}")
    guest.begin(f"iperf3 -c {HOST} -n {TCP_BYTES}")
    for _ in range(3):
        flap(guest)
    run("ip", "link", "set", "tap0", "down")
    time.sleep(0.5)
    run("ip", "link", "set", "tap0", "up")
    guest.finish()
    guest.ping()
    guest.power_off()
    server.kill()
    print("cable well")


def cpu_ticks(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def deleted(image, folder):
    """The tap is deleted under load: the guest's link is down, and the VMM neither ends nor works for nothing."""
    make_tap()
    server = serve_iperf()
    guest = Guest(image)
    guest.ping()
    delete_tap(guest)
    guest.power_off()
    server.kill()
    print("deleted well")


def delete_tap(guest):
    """Under load: what remains of guest and VMM is as it should be."""
    guest.begin(f"timeout 10 iperf3 -c {HOST} -t 3600")
    time.sleep(1)
    run("ip", "link", "del", "tap0")
    guest.must("while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done")
    guest.ask("wait $!")
    processes = [guest.vmm.pid, *vhost_threads(guest.vmm.pid)]
    guest.vmm.qmp.command("stop")  # so that only the VMM itself is counted
    before = sum(map(cpu_ticks, processes))
    time.sleep(3)
    used = sum(map(cpu_ticks, processes)) - before
    assert used < os.sysconf("SC_CLK_TCK"), f"{used} ticks in 3 s"
    guest.vmm.qmp.command("cont")
    assert guest.vmm.qmp.command("query-status")["running"]
    assert "the interface is gone" in guest.vmm.stderr(), guest.vmm.stderr()


def moved(image, folder):
    """Saved in the middle of a transfer and restored on the same tap: the transfer ends well, and the guest announces itself."""
    make_tap()
    server = serve_iperf()
    guest = Guest(image)
    move(guest, folder)
    guest.power_off()
    server.kill()
    print("moved well")


def move(guest, folder):
    guest.begin(f"iperf3 -c {HOST} -n {TCP_BYTES}")
    guest.vmm.qmp.command("stop")
    guest.vmm.qmp.command("migrate", uri=f"file:{folder}/saved")
    while guest.vmm.qmp.command("query-migrate")["status"] not in ("completed", "failed"):
        time.sleep(0.1)
    guest.vmm.qmp.command("quit")
    assert guest.vmm.wait(LIMIT) == 0, guest.vmm.stderr()
    guest.vmm = start(guest.image, "", "-incoming", f"file:{folder}/saved", *guest.options)
    guest.finish()
    guest.ping()


if __name__ == "__main__":
    if os.environ.get("STRATO_NETNS") != "own":
        os.environ["STRATO_NETNS"] = "own"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-B", *sys.argv])
    perform({"traffic": traffic, "packets": packets, "many_packets": many_packets, "vhost": vhost, "dirty_log": dirty_log, "vhost_queues": vhost_queues, "user": user,
             "queues": queues, "cable": cable, "deleted": deleted, "moved": moved})
