//! Descriptors and disks of every kind, honest and hostile.

mod damage;
mod descriptors;
mod judge;
mod made;
mod made_disks;
mod qemu_disks;
