//! A VMA over a datastore folder.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::{Lifetime, Program, binary};

/// How a VMA is started.
#[derive(Clone, Debug)]
pub struct VmaOptions {
    /// Its name, and that of its source.
    pub name: String,
    /// Its state; made when absent.
    pub state_dir: PathBuf,
    /// The datastores that it lists.
    pub datastores: Vec<PathBuf>,
    /// Where its output goes.
    pub logs: PathBuf,
    /// More environment, such as `VMA__JOBS__DISKS_AT_ONCE`.
    pub environment: Vec<(String, String)>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// A running VMA.
#[derive(Debug)]
pub struct Vma {
    /// The process.
    pub program: Program,
    /// Where it answers (`http://127.0.0.1:PORT`).
    pub url: String,
    /// What a hub has to show.
    pub token: String,
    options: VmaOptions,
}

impl Vma {
    /// Starts one on a free port and waits until it listens.
    pub async fn start(options: VmaOptions) -> Result<Self> {
        let (program, url) = launch(&options, "127.0.0.1:0").await?;
        let token = fs::read_to_string(options.state_dir.join("token"))?.trim().to_owned();
        Ok(Self { program, url, token, options })
    }

    /// Ends it at once if it runs, and starts it again with the same state on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_once_with(&[]).await
    }

    /// The same with more environment, for this start only.
    pub async fn restart_once_with(&mut self, environment: &[(String, String)]) -> Result<()> {
        self.program.kill()?;
        let address = self.url.trim_start_matches("http://").to_owned();
        let mut options = self.options.clone();
        options.environment.extend_from_slice(environment);
        (self.program, self.url) = launch(&options, &address).await?;
        Ok(())
    }

    /// Makes it forget its hub, as its administrator would.
    pub fn forget_hub(&self) -> Result<()> {
        let program = binary("vma")?.display().to_string();
        let state_dir = self.options.state_dir.display().to_string();
        let mut arguments = vec!["--forget-hub", "--state-dir", &state_dir];
        let datastores: Vec<_> =
            self.options.datastores.iter().map(|it| it.display().to_string()).collect();
        for datastore in &datastores {
            arguments.extend(["--datastore", datastore]);
        }
        crate::tool::run(&program, &arguments).map(drop)
    }
}

async fn launch(options: &VmaOptions, listen: &str) -> Result<(Program, String)> {
    let run_dir = options.state_dir.join("run");
    fs::create_dir_all(&run_dir)?;
    let mut arguments = vec!["--name".to_owned(), options.name.clone()];
    arguments.extend(["--listen".to_owned(), listen.to_owned()]);
    arguments.extend(["--state-dir".to_owned(), options.state_dir.display().to_string()]);
    for datastore in &options.datastores {
        arguments.extend(["--datastore".to_owned(), datastore.display().to_string()]);
    }
    let mut environment = vec![("VMA__AGENT__RUN_DIR".to_owned(), run_dir.display().to_string())];
    environment.extend(options.environment.iter().cloned());
    let (path, lifetime) = (binary("vma")?, options.lifetime);
    let name = format!("vma-{}", options.name);
    let mut program =
        Program::start(&name, &path, &arguments, &environment, &options.logs, lifetime)?;
    let url = program.said("listening on ").await?;
    Ok((program, url))
}
