/*
 * hello: one byte on the PL011, then power-off. As few instructions as possible: it is the payload of bench/startup, and reads no
 * devicetree: the port and the call are those of every board of this kind.
 * idle (-DIDLE): one byte, then it sleeps for ever: the payload of the footprint measurement.
 */
    .section .head.start, "ax"
    .globl image_head
image_head:
    b start
    .long 0
    .section .head.rest, "ax"   /* text_offset, size and flags lie between: lib/aarch64/guest.ld */
    .quad 0, 0, 0
    .ascii "ARM\x64"
    .long 0

    .text
start:
    mov x1, #0x09000000
    mov w0, #'H'
    strb w0, [x1]
#ifndef IDLE
    mov w0, #0x0008             /* PSCI SYSTEM_OFF */
    movk w0, #0x8400, lsl #16
    hvc #0
    mov w0, #0x0009             /* Still here: SYSTEM_RESET */
    movk w0, #0x8400, lsl #16
    hvc #0
#endif
1:  wfi
    b 1b
    .section .note.GNU-stack, "", @progbits
