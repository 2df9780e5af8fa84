//! The program, as an operator runs it.

use std::process::{Command, Output};

use anyhow::ensure;
use hub_testkit::database::DatabaseKind;

use crate::catalogue::{AFTER_FIRST, FIRST_ROWS, discovered, with};

fn migration(url: Option<&str>, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migration"));
    command.args(arguments).env_remove("DATABASE_URL");
    if let Some(url) = url {
        command.env("DATABASE_URL", url);
    }
    Ok(command.output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn status_up_and_down_tell_what_they_do() -> anyhow::Result<()> {
    with(DatabaseKind::Sqlite, |catalogue| async move {
        let url = Some(catalogue.url());
        let up = migration(None, &["up", "--database-url", catalogue.url()])?;
        ensure!(up.status.success(), "{}", said(&up));
        let status = migration(url, &["status"])?;
        let (steps, later) = (said(&status).lines().count(), AFTER_FIRST.to_string());
        ensure!(steps == usize::try_from(AFTER_FIRST)? + 1, "{}", said(&status));
        ensure!(said(&status).contains("applied  m20251006_200000_make_vm_disks_job_id_nullable"));
        catalogue.run(&[FIRST_ROWS[0], &discovered("vm-a", "disk-2000", 0)]).await?;
        let refused = migration(url, &["down", "-n", &later])?;
        ensure!(refused.status.code() == Some(1));
        ensure!(said(&refused).contains("1 disks without a replication job"), "{}", said(&refused));
        ensure!(said(&refused).contains("--allow-data-loss"), "{}", said(&refused));
        let down = migration(url, &["down", "-n", &later, "--allow-data-loss"])?;
        ensure!(down.status.success(), "{}", said(&down));
        ensure!(said(&down).contains("pending  m20251006_200000"), "{}", said(&down));
        let fresh = migration(url, &["fresh"])?;
        ensure!(fresh.status.code() == Some(1), "{}", said(&fresh));
        Ok(())
    })
    .await
}

#[test]
fn help_teaches_and_mistakes_are_named() {
    let help = migration(None, &["--help"]).unwrap();
    for word in ["status", "fresh", "--database-url", "DATABASE_URL", "Examples", "Stop the hub"] {
        assert!(said(&help).contains(word), "{word} is missing in {}", said(&help));
    }
    let nowhere = migration(None, &["status"]).unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(said(&nowhere).contains("--database-url"), "{}", said(&nowhere));
    let absent = migration(Some("sqlite:///nonexistent/catalogue.db"), &["status"]).unwrap();
    assert_eq!(absent.status.code(), Some(1));
}
