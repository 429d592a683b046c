"""A directory of the bed in Debian's kernel, by vhost-user-fs-device and QEMU's virtiofsd: run by tools/with-kvm as `shares.py SCENARIO IMAGE`."""
import os
import pathlib
import re
import subprocess
import time

from guests import LIMIT, end, perform, run, start_script
from vmm import QmpError

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"


class Share:
    """A virtiofsd with its directory and socket, which can be killed and started again."""

    def __init__(self, folder):
        self.folder = folder / "shared"
        self.folder.mkdir()
        self.path = folder / "fs.sock"
        self._log = open(folder / "virtiofsd.log", "wb")
        self.start()

    def start(self):
        self.path.unlink(missing_ok=True)
        # Its own namespaces would need more of the bed than a chroot.
        self._process = subprocess.Popen([VIRTIOFSD, f"--socket-path={self.path}", "-o", f"source={self.folder}", "-o", "sandbox=chroot,xattr"],
                                         stdout=self._log, stderr=self._log)
        while not self.path.exists():
            assert self._process.poll() is None, self.log()
            time.sleep(0.05)

    def log(self):
        return pathlib.Path(self._log.name).read_text(errors="replace")

    def kill(self):
        self._process.kill()
        self._process.wait()

    def wait(self):
        assert self._process.wait(LIMIT) == 0, self.log()

    @property
    def options(self):
        return ("-chardev", f"socket,id=fs,path={self.path},server,nowait", "-device", "vhost-user-fs-device,chardev=fs,tag=share,id=fs0")


def guest(image, share, what, **rest):
    return start_script(image, "share.sh", *share.options, words=f"strato.do={what}", machine="microvm,mem-share=on", **rest)


# What is not as on the host: Linux 6.1 has no O_TMPFILE over FUSE.
DIFFERENCES = {"O_TMPFILE has no name"}


def failures(text):
    """The names of the checks of posix.c that failed, and how many there were."""
    count = re.search(r"^posix: (\d+) checks, (\d+) fail$", text, re.M)
    assert count, text[-3000:]
    failed = re.findall(r"^posix: fails: (.*) \(", text, re.M)
    assert len(failed) == int(count[2])
    return set(failed), int(count[1])


def posix(image, folder):
    """What a file system is to do, on the directory itself and through virtio-fs."""
    share = Share(folder)
    (share.folder / "greeting").write_text("hello from the host\n")
    (share.folder / "host").mkdir()
    on_host, checks = failures(run(f"{image}/posix", share.folder / "host"))
    assert checks >= 200
    text = end(guest(image, share, "posix"))
    in_guest, checks_there = failures(text)
    assert "hello from the host" in text and "share: unmounted" in text, text
    assert checks_there == checks
    assert in_guest - on_host == DIFFERENCES, (in_guest, on_host)
    assert sorted(os.listdir(share.folder / "guest")) == sorted(os.listdir(share.folder / "host"))
    share.wait()
    print(f"{checks} checks, {len(in_guest)} fail")


def ended(vmm, *numbers):
    for number in numbers:
        vmm.wait_for(f"share: load {number} has ended", LIMIT)


def death(image, folder):
    """Stopped and saved under load, which is refused; killed under load, twice, and started again in between."""
    share = Share(folder)
    (share.folder / "greeting").write_text("hello from the host\n")
    vmm = guest(image, share, "death", smp=2)
    vmm.wait_for("(?s)share: load 1 goes on.*share: load 4 goes on", LIMIT)
    vmm.qmp.command("stop")
    try:
        vmm.qmp.command("migrate", uri=f"file:{folder}/saved")
        raise AssertionError("it was saved")
    except QmpError as refused:
        assert "fs0" in str(refused), refused
    vmm.qmp.command("cont")
    vmm.wait_for("share: load 1 goes on", LIMIT, start=len(vmm.output.bytes()))

    share.kill()
    killed = time.monotonic()
    ended(vmm, 1, 2, 3, 4)
    print(f"requests ended after {time.monotonic() - killed:.1f} s")
    vmm.wait_for("share: unmounted without a back end", LIMIT)
    share.start()
    vmm.wait_for("share: mounted again", LIMIT)
    assert (share.folder / "answer").read_text() == "from the guest\n"
    vmm.wait_for("(?s)share: load 5 goes on.*share: load 6 goes on|share: load 6 goes on.*share: load 5 goes on", LIMIT)
    share.kill()
    text = end(vmm)
    assert "share: powers off" in text, text
    assert "hello from the host" in text, text
    print("ended twice, mounted twice")


if __name__ == "__main__":
    perform(globals())
