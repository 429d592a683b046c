"""A guest of three instructions, by bare KVM: prints the exit that its store of a 2 brings. Run by test_with_kvm.py inside a bed."""

import ctypes
import fcntl
import mmap
import os
import struct

# architecture: where the guest's page lies, where in it the processor starts, and what it runs there
GUESTS = {
    "x86_64": (0xFFFFF000, 0xFF0, bytes.fromhex("b002" "e680" "ebfe")),  # mov $2, %al; out %al, $0x80; for ever
    "aarch64": (0, 0, bytes.fromhex("6020a1d2" "41008052" "01000039")),  # mov x0, #0x9030000; mov w1, #2; strb w1, [x0]
}
KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU, KVM_RUN = 0xAE01, 0xAE04, 0xAE41, 0xAE80
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_ARM_PREFERRED_TARGET, KVM_ARM_VCPU_INIT = 0x8020AEAF, 0x4020AEAE
KVM_EXIT_IO, KVM_EXIT_MMIO = 2, 6

machine = os.uname().machine
address, start, code = GUESTS[machine]
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
page = mmap.mmap(-1, mmap.PAGESIZE)
page[start:start + len(code)] = code
region = struct.pack("=IIQQQ", 0, 0, address, len(page), ctypes.addressof(ctypes.c_char.from_buffer(page)))
fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
if machine == "aarch64":
    fcntl.ioctl(vcpu, KVM_ARM_VCPU_INIT, fcntl.ioctl(vm, KVM_ARM_PREFERRED_TARGET, bytes(32)))
run = mmap.mmap(vcpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
fcntl.ioctl(vcpu, KVM_RUN)
reason = struct.unpack_from("=I", run, 8)[0]
if reason == KVM_EXIT_IO:
    _direction, size, port, _count, offset = struct.unpack_from("=BBHIQ", run, 32)
    print(f"{size} byte to port {port:#x}: {run[offset]}")
elif reason == KVM_EXIT_MMIO:
    where, data, size, is_write = struct.unpack_from("=Q8sI?", run, 32)
    print(f"{size} byte {'to' if is_write else 'from'} {where:#x}: {data[0]}")
else:
    print(f"exit {reason}")
