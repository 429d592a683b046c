# Each program is built in four forms: NAME (ELF with a PVH note), NAME64 (the same ELF without it: entered in 64-bit mode), NAME64.bin
# (flat, loaded at 16 MiB and entered at its first byte) and NAME.bzimage.
list(APPEND guest_flags -fno-pic -no-pie -m64 -mno-red-zone -mgeneral-regs-only -mno-sse -mno-mmx -fcf-protection=none)
set(guest_link_flags -static -no-pie)
set(guest_arch_programs ioapic)
set(guest_idle_forms idle idle64 idle.bzimage.elf)

set(guest_lib_sources acpi.cc apic.cc boot_info.cc com1.cc entry.S idt.cc kvm_clock.cc memory.cc power.cc processors.cc timer.cc)
list(TRANSFORM guest_lib_sources PREPEND lib/x86_64/)
set(guest_virtio_sources lib/x86_64/virtio_devices.cc)

# guest_program(NAME sources...): the four forms.
function(guest_program name)
  set(base 0x1000000)
  if(name STREQUAL hello OR name STREQUAL idle)
    set(base 0x100000)
  endif()
  guest_link(${name} ${base} ${ARGN} lib/x86_64/pvh_note.S)
  guest_link(${name}64 0x1000000 ${ARGN})
  guest_flat(${name}64 ${name}64.bin)
  guest_link(${name}.bzimage.elf 0x100200 ${ARGN} lib/x86_64/bzimage.S)
  guest_flat(${name}.bzimage.elf ${name}.bzimage)
endfunction()
