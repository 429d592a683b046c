#!/bin/sh
# In the guest: the ACPI tables, as text that acpixtract reads.
echo "STRATO-TABLES-BEGIN"
acpidump
echo "STRATO-TABLES-END"
