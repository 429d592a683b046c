"""A directory of the bed in Debian's kernel, by vhost-user-fs-device and QEMU's virtiofsd: run by tools/with-kvm as `shares.py SCENARIO IMAGE`."""
import os
import pathlib
import subprocess
import time

from guests import LIMIT, end, perform, start_script

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
FEW_SECONDS = 30


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
        self._process = subprocess.Popen([VIRTIOFSD, f"--socket-path={self.path}", "-o", f"source={self.folder}", "-o", "sandbox=chroot"],
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


def files(image, folder):
    """One file each way."""
    share = Share(folder)
    (share.folder / "greeting").write_text("hello from the host\n")
    text = end(guest(image, share, "files"))
    assert "hello from the host" in text, text
    assert "share: unmounted" in text, text
    assert (share.folder / "answer").read_text() == "from the guest\n"
    share.wait()
    print("seen both ways")


if __name__ == "__main__":
    perform(globals())
