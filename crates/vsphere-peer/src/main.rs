//! Builds the peer's program and the environment of the second client, and says where they lie, so that a test command
//! can do it before the tests' time counts.

use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program is for")]
fn main() -> ExitCode {
    for made in [hub_vsphere_peer::ensure_built(), hub_vsphere_peer::ensure_pyvmomi()] {
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
