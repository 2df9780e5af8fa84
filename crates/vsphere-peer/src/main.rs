//! Builds the peer's program, the environment of the second client and the disk library, and says where they lie, so that
//! a test command can do it before the tests' time counts.

use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program is for")]
fn main() -> ExitCode {
    let all = [
        hub_vsphere_peer::ensure_built(),
        hub_vsphere_peer::ensure_pyvmomi(),
        hub_vsphere_peer::ensure_disk_library(),
    ];
    for made in all {
        match made {
            Ok(Some(program)) => println!("{}", program.display()),
            Ok(None) => {}
            Err(error) => {
                eprintln!("error: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
