//! Puts VMs under management with their disks, and keeps them true.
