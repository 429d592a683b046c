"""Debian's kernel with more and less memory of a virtio-mem device: run by tools/with-kvm as `memories.py SCENARIO IMAGE`."""
import os
import re

import guests
from guests import LIMIT, MIB, Vmm, end, huge_pages, perform, poll, pool_of_huge_pages, pss, start, start_script
from vmm import guest

RAM = 256 * MIB
GIB = 1024 * MIB
# Memory that comes is used at once, and only for what can be moved, so that it can go again.
WORDS = "memhp_default_state=online_movable"


def device(backend):
    return ("-object", f"memory-backend-{backend},id=mem0,size=1G", "-device", "virtio-mem-device,id=vmem0,memdev=mem0")


def do(vmm, step):
    return guests.do(vmm, "memory", step)


def said(vmm, step, word):
    text = do(vmm, step)
    found = re.search(rf"memory: {word} (\w+)", text)
    assert found and "failed" not in text, text
    return found[1]


def total(vmm):
    return int(said(vmm, "total", "total")) * 1024


def plugged(vmm):
    return vmm.qmp.command("query-memory-devices")[0]["data"]["size"]


def request(vmm, size):
    vmm.qmp.command("qom-set", path="/machine/peripheral/vmem0", property="requested-size", value=size)
    poll(lambda: plugged(vmm) == size, lambda: f"{plugged(vmm)} bytes are plugged of {size}: {do(vmm, 'kernel')}")


def boot(image, *options):
    vmm = start_script(image, "memory.sh", *options, words=WORDS, memory_mib=f"{RAM // MIB},maxmem=4G")
    vmm.wait_for("memory: ready", LIMIT)
    return vmm


def grows(image, _folder):
    """It grows and shrinks by 1 GiB, of memory of the process (in a long run of a memfd, too); what was used is the host's again."""
    for backend in ("ram", "memfd") if os.environ.get("STRATO_LONG") else ("ram",):
        vmm = boot(image, *device(backend))
        before = total(vmm)
        assert plugged(vmm) == 0
        request(vmm, GIB)
        poll(lambda before=before, vmm=vmm: total(vmm) >= before + 0.9 * GIB, lambda before=before, vmm=vmm: f"{before} -> {total(vmm)}")
        said(vmm, "fill 400", "sum")  # more than there was
        grown, full = total(vmm), pss(vmm)
        assert full >= 400 * MIB
        do(vmm, "free")
        request(vmm, 0)
        poll(lambda before=before, vmm=vmm: total(vmm) <= before + 16 * MIB, lambda before=before, vmm=vmm: f"{before} -> {total(vmm)}")
        poll(lambda full=full, vmm=vmm: full - pss(vmm) >= 300 * MIB, lambda full=full, vmm=vmm: f"{full} -> {pss(vmm)}")
        assert pss(vmm) <= RAM + 32 * MIB, f"nothing but the {RAM} bytes at start is the guest's"
        assert vmm.qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE")["data"]["id"] == "vmem0"
        print(f"{backend}: total {before // MIB} -> {grown // MIB} -> {total(vmm) // MIB} MiB, PSS {full // MIB} -> {pss(vmm) // MIB} MiB")
        assert "Out of memory" not in do(vmm, "kernel")
        vmm.write(b"end\n")
        end(vmm)
    print("all came back")


def saved(image, folder):
    """What is in plugged memory is saved with the machine, and comes back with it; then it shrinks."""
    options = device("ram")
    vmm = boot(image, *options)
    request(vmm, 512 * MIB)
    poll(lambda: total(vmm) >= RAM + 256 * MIB, lambda: f"{total(vmm)}")
    content = said(vmm, "fill 300", "sum")  # more than there was
    vmm.qmp.command("stop")
    vmm.qmp.command("migrate", uri=f"file:{folder}/saved")
    poll(lambda: vmm.qmp.command("query-migrate")["status"] == "completed", lambda: vmm.qmp.command("query-migrate"))
    vmm.qmp.command("quit")
    assert vmm.wait(LIMIT) == 0, vmm.stderr()

    vmm = start(image, "", "-incoming", f"file:{folder}/saved", *options, memory_mib=f"{RAM // MIB},maxmem=4G")
    assert plugged(vmm) == 512 * MIB
    assert said(vmm, "sum", "sum") == content
    do(vmm, "free")
    request(vmm, 128 * MIB)
    request(vmm, GIB)
    poll(lambda: total(vmm) >= RAM + 0.9 * 768 * MIB, lambda: f"{total(vmm)}")
    vmm.write(b"end\n")
    end(vmm)
    print("all came back")


def huge(_image, folder):
    """Blocks of huge pages: reserved from the start, there when they are plugged, free again when they are not."""
    with pool_of_huge_pages(folder, 40) as mount:
        options = ("-object", f"memory-backend-file,id=mem0,size=64M,mem-path={mount}", "-device", "virtio-mem-device,id=vmem0,memdev=mem0")
        vmm = Vmm(str(folder), *options, kernel=guest("virtio_mem"), append="follow=3", memory_mib="64,maxmem=1G")
        vmm.wait_for("follows\n", LIMIT)
        assert huge_pages("resv_hugepages") == 32 and huge_pages("free_hugepages") == 40
        for blocks in (20, 5, 32):
            vmm.qmp.command("qom-set", path="/machine/peripheral/vmem0", property="requested-size", value=blocks * 2 * MIB)
            vmm.wait_for(f"size={blocks} ", LIMIT)
            if blocks != 32:
                poll(lambda blocks=blocks: huge_pages("free_hugepages") == 40 - blocks, lambda: f"{huge_pages('free_hugepages')} pages are free")
        assert vmm.wait(LIMIT) == 0, vmm.stderr()
        assert "size=20 zero=20 kept=0\n" in vmm.text() and "size=5 zero=0 kept=20\n" in vmm.text() and "size=32 zero=27 kept=5\n" in vmm.text()
        vmm.close()
        assert huge_pages("free_hugepages") == 40, "the file is gone with its VM"
    print("all came back")


if __name__ == "__main__":
    perform(globals())
