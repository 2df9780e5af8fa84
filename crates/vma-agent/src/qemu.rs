//! Reading VMDKs through `qemu-nbd`: one supervised child process per disk.

mod child;
mod disk;
mod image;

pub(crate) use disk::QemuDisk;

use std::path::PathBuf;
use std::time::Duration;

/// How reader processes are started.
#[derive(Clone, Debug)]
pub struct QemuOptions {
    /// The `qemu-nbd` program.
    pub qemu_nbd: PathBuf,
    /// The `setpriv` program of util-linux, which makes the reader die with this process.
    pub setpriv: PathBuf,
    /// Where private directories for sockets are made; a short path, because socket names are.
    pub run_dir: PathBuf,
    /// How long a reader may take until it answers.
    pub ready_within: Duration,
}

impl Default for QemuOptions {
    fn default() -> Self {
        Self {
            qemu_nbd: PathBuf::from("qemu-nbd"),
            setpriv: PathBuf::from("setpriv"),
            run_dir: std::env::temp_dir(),
            ready_within: Duration::from_secs(15),
        }
    }
}
