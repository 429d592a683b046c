"""Memory that Debian's kernel gives back and takes, and its number as a copy: run by tools/with-kvm as `balloons.py SCENARIO IMAGE`."""
import os

import guests
from guests import LIMIT, MIB, Vmm, end, huge_pages, perform, poll, pool_of_huge_pages, pss, start, start_script
from vmm import guest

RAM = 256 * MIB
BALLOON = "virtio-balloon-device,id=balloon0"


def do(vmm, step):
    return guests.do(vmm, "balloon", step)


def set_size(vmm, size):
    vmm.qmp.command("balloon", value=size)
    poll(lambda: vmm.qmp.command("query-balloon")["actual"] == size, lambda: f"{vmm.qmp.command('query-balloon')} and not {size}")


def save_and_restore(vmm, image, folder, *options):
    vmm.qmp.command("stop")
    vmm.qmp.command("migrate", uri=f"file:{folder}/saved")
    poll(lambda: vmm.qmp.command("query-migrate")["status"] == "completed", lambda: vmm.qmp.command("query-migrate"))
    vmm.qmp.command("quit")
    assert vmm.wait(LIMIT) == 0, vmm.stderr()
    return start(image, "", "-incoming", f"file:{folder}/saved", *options, memory_mib=RAM // MIB)


def sizes(image, folder):
    """All that the guest had touched and does not need is the host's, and comes back; a guest in need takes it itself."""
    options = ("-device", f"{BALLOON},deflate-on-oom=on")
    vmm = start_script(image, "balloon.sh", *options, memory_mib=RAM // MIB)
    vmm.wait_for("balloon: ready", LIMIT)
    assert "fill failed" not in do(vmm, "fill")
    do(vmm, "free")
    inflated = 96 * MIB
    full = pss(vmm)
    set_size(vmm, RAM - inflated)
    poll(lambda: full - pss(vmm) >= 0.9 * inflated, lambda: f"of {full} bytes {pss(vmm)} are left with {inflated} in the balloon")
    print("inflated:", inflated // MIB, "MiB, PSS", full // MIB, "->", pss(vmm) // MIB)

    vmm = save_and_restore(vmm, image, folder, *options)
    assert vmm.qmp.command("query-balloon")["actual"] == RAM - inflated
    low = pss(vmm)
    set_size(vmm, RAM)
    assert "fill failed" not in do(vmm, "fill")
    poll(lambda: pss(vmm) - low >= 0.9 * inflated, lambda: f"{pss(vmm)} bytes, and {low} before")
    do(vmm, "free")

    set_size(vmm, RAM - inflated)
    # Half of that is in the balloon, and nobody else is to be killed for it.
    free = int(do(vmm, "fill").partition("balloon: ")[2].split()[0])
    do(vmm, "free")
    assert "fill failed" not in do(vmm, f"fill {free + 48}")
    actual = vmm.qmp.command("query-balloon")["actual"]
    assert RAM - inflated < actual < RAM, actual
    assert "Out of memory" not in do(vmm, "kernel")
    vmm.write(b"end\n")
    end(vmm)
    print("all came back")


def reports(image, folder):
    """What is free is given back without being asked for; and a copy of the machine has other random numbers."""
    options = ("-device", f"{BALLOON},free-page-reporting=on", "-device", "vmgenid,id=generation")
    vmm = start_script(image, "balloon.sh", *options, memory_mib=RAM // MIB)
    vmm.wait_for("balloon: ready", LIMIT)
    before = pss(vmm)
    assert "fill failed" not in do(vmm, "fill 96")
    full = pss(vmm)
    assert full - before >= 0.5 * 96 * MIB, f"{before} -> {full}: some of it may have been there"
    do(vmm, "free")
    poll(lambda: full - pss(vmm) >= 0.9 * 96 * MIB, lambda: f"{before} -> {full} -> {pss(vmm)}")
    print("reported: PSS", before // MIB, "->", full // MIB, "->", pss(vmm) // MIB)

    assert "reseeded" not in do(vmm, "kernel")
    vmm = save_and_restore(vmm, image, folder, *options)
    poll(lambda: "random: crng reseeded due to virtual machine fork" in do(vmm, "kernel"), vmm.text)
    vmm.write(b"end\n")
    end(vmm)
    print("all came back")


def huge(_image, folder):
    """Guest RAM in huge pages: reserved at the start, touched when wanted, given back in whole pages; too few are refused."""
    with pool_of_huge_pages(folder, 40) as mount:
        few = Vmm(str(folder), "-mem-path", str(mount), kernel=guest("virtio_balloon"), memory_mib=128)
        assert few.wait() == 1
        wanted = "40 huge pages of 2M are free where 64 are wanted: raise /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        assert wanted in few.stderr(), few.stderr()
        odd = Vmm(str(folder), "-mem-path", str(mount), kernel=guest("virtio_balloon"), memory_mib=63)
        assert odd.wait() == 1
        assert "63M of RAM: must be whole pages of 2M" in odd.stderr(), odd.stderr()

        for words in ((), ("-mem-prealloc",)):
            vmm = Vmm(str(folder), "-mem-path", str(mount), *words, "-device", BALLOON, kernel=guest("virtio_balloon"), append="follow=2")
            vmm.wait_for("follows\n", LIMIT)
            assert huge_pages("resv_hugepages") + 40 - huge_pages("free_hugepages") == 32
            assert not words or huge_pages("free_hugepages") == 8
            before = huge_pages("free_hugepages")
            vmm.qmp.command("balloon", value=64 * MIB - 2048 * 4096)
            vmm.wait_for("size=2048\n", LIMIT)
            poll(lambda before=before: huge_pages("free_hugepages") - before == 4, lambda: f"{huge_pages('free_hugepages')} pages are free")
            vmm.qmp.command("balloon", value=64 * MIB)
            assert vmm.wait(LIMIT) == 0, vmm.stderr()
            vmm.close()
            assert huge_pages("free_hugepages") == 40, "the file is gone with its VM"
    assert os.listdir(mount) == []
    print("all came back")


if __name__ == "__main__":
    perform(globals())
