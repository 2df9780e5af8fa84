//! Images as a whole: against models, against `qemu-img`, and against damage.

mod chains;
mod compressed;
mod contract;
mod damage;
mod frame;
mod interop;
mod memory;
mod model;
mod qemu;
mod updates;
mod writes;
