/* The ELF note by which a loader finds the 32-bit PVH entry (XEN_ELFNOTE_PHYS32_ENTRY); 8 bytes of address, as in Linux. */
    .section .note.pvh, "a", @note
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry
    .section .note.GNU-stack, "", @progbits
