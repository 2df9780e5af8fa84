//! `qemu-img` as the judge of our images and as the maker of others.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, bail};

/// Whether the judge is here; skips loudly where it may be missing.
#[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
pub(crate) fn available() -> bool {
    let here = Command::new("qemu-img").arg("--version").output().is_ok();
    let required = std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1");
    assert!(here || !required, "qemu-img is required but missing");
    if !here {
        eprintln!("SKIPPED: qemu-img is missing, so nothing judges these images");
    }
    here
}

fn run(tool: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(tool).args(arguments).output().context(tool.to_owned())?;
    if !output.status.success() {
        bail!(
            "{tool} {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Runs `qemu-img`, whose failure is an error.
pub(crate) fn img(arguments: &[&str]) -> anyhow::Result<Output> {
    run("qemu-img", arguments)
}

/// Runs commands of `qemu-io` on a qcow2 image.
pub(crate) fn io(image: &Path, commands: &[String]) -> anyhow::Result<()> {
    let mut arguments = vec!["-f", "qcow2"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    let image = text(image)?;
    arguments.push(image);
    run("qemu-io", &arguments).map(drop)
}

pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the path is text")
}

/// Fails if `qemu-img check` or our own check finds any error or leak.
pub(crate) fn require_clean(image: &Path) -> anyhow::Result<()> {
    let report = hub_qcow2::check_image(image)?;
    anyhow::ensure!(report.is_clean(), "our check found {report:?}");
    judge(image)
}

/// Fails if `qemu-img check` finds any error or leak.
pub(crate) fn judge(image: &Path) -> anyhow::Result<()> {
    if available() {
        // The exit code is 0 only without errors and without leaks.
        img(&["check", "-q", "-f", "qcow2", text(image)?])?;
    }
    Ok(())
}

/// Fails if `qemu-img` reads anything else from the image than these bytes.
pub(crate) fn require_content(image: &Path, expected: &[u8]) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let raw = image.with_extension("expected.raw");
    std::fs::write(&raw, expected)?;
    let info = img(&["info", "--output=json", "-f", "qcow2", text(image)?])?;
    let size = format!("\"virtual-size\": {}", expected.len());
    anyhow::ensure!(String::from_utf8_lossy(&info.stdout).contains(&size), "not {size}");
    img(&["compare", "-q", "-f", "qcow2", "-F", "raw", text(image)?, text(&raw)?])?;
    std::fs::remove_file(&raw)?;
    Ok(())
}
