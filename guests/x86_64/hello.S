/*
 * hello: one byte on COM1, then power-off. As few instructions as possible: it is the payload of bench/startup.
 * idle (-DIDLE): one byte on COM1, then it sleeps for ever: the payload of the footprint measurement.
 *
 * Every instruction here has the same bytes and the same meaning in 32-bit protected and in 64-bit long mode, so that one
 * source serves the PVH entry and the 64-bit entry. Checked by tests/payload, which boots both.
 */
    .section .text.entry64, "ax"
    .code32
    .globl entry64
    .globl pvh_entry
entry64:
pvh_entry:
    movw $0x3f8, %dx
    movb $'H', %al
    outb %al, %dx
#ifndef IDLE
    movw $0x600, %dx            /* ACPI sleep control: SLP_TYP 5, SLP_EN */
    movb $0x34, %al
    outb %al, %dx
    movl $2000, %ecx            /* A monitor may need a moment to stop us: don't let it see a reset instead. */
1:  loop 1b
    movw $0x64, %dx             /* Still here: a monitor without that port. i8042 reset ... */
    movb $0xfe, %al
    outb %al, %dx
    movl $2000, %ecx
2:  loop 2b
    .byte 0x0f, 0x01, 0x1c, 0x25 /* lidt no_idt, in the one encoding that is absolute in both modes */
    .long no_idt
    ud2                         /* ... and a triple fault. */
#endif
3:  cli
    hlt
    jmp 3b
#ifndef IDLE
    .balign 16
no_idt:
    .quad 0, 0
#endif
    .section .note.GNU-stack, "", @progbits
