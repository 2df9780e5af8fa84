//! Backup runs: one instant of a VM, one chain per disk, each point proven.
