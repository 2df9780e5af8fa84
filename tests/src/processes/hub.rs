//! A hub on a data directory of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Lifetime, Program, binary};
use crate::api::Api;

/// How a hub is started.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Its state; made when absent.
    pub data_dir: PathBuf,
    /// The catalogue's database; SQLite in the data directory unless given.
    pub database_url: Option<String>,
    /// Where its output goes.
    pub logs: PathBuf,
    /// More environment, such as `HUB__LOG__FILTER`.
    pub environment: Vec<(String, String)>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// A running hub.
#[derive(Debug)]
pub struct Hub {
    /// The process.
    pub program: Program,
    /// Where its API answers (`http://127.0.0.1:PORT`).
    pub url: String,
    /// Where its NBD exports answer (`127.0.0.1:PORT`).
    pub nbd: String,
    /// The token of its first start.
    pub token: String,
    options: HubOptions,
}

impl Hub {
    /// Starts one on free ports, for NBD where `HUB__NBD__LISTEN` says, and waits until it listens.
    pub async fn start(options: HubOptions) -> Result<Self> {
        fs::create_dir_all(&options.data_dir)?;
        let mut around = options.environment.iter();
        let listen = around.find(|(name, _)| name == "HUB__NBD__LISTEN");
        let listen = listen.map_or("127.0.0.1:0", |(_, address)| address.as_str());
        let (program, url, nbd) = launch(&options, "127.0.0.1:0", listen).await?;
        let token = fs::read_to_string(token_file(&options))
            .context("the hub wrote no token at its first start")?;
        Ok(Self { program, url, nbd, token: token.trim().to_owned(), options })
    }

    /// Ends it at once if it runs, and starts it again with the same state on the same ports.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_once_with(&[]).await
    }

    /// The same with more environment, for this start only.
    pub async fn restart_once_with(&mut self, environment: &[(String, String)]) -> Result<()> {
        self.program.kill()?;
        let address = self.url.trim_start_matches("http://").to_owned();
        let mut options = self.options.clone();
        options.environment.extend_from_slice(environment);
        (self.program, self.url, self.nbd) = launch(&options, &address, &self.nbd).await?;
        Ok(())
    }

    /// The same, with more environment from now on.
    pub async fn restart_with(&mut self, environment: Vec<(String, String)>) -> Result<()> {
        self.options.environment.extend(environment);
        self.restart().await
    }

    /// A client that shows the token.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.url, &self.token)
    }

    /// The file of a replica, by the path that the API tells.
    pub fn replica(&self, path: &str) -> PathBuf {
        self.options.data_dir.join("replicas").join(path)
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.options.data_dir
    }
}

fn token_file(options: &HubOptions) -> PathBuf {
    options.data_dir.join("initial-token")
}

async fn launch(options: &HubOptions, api: &str, nbd: &str) -> Result<(Program, String, String)> {
    let data_dir = options.data_dir.display().to_string();
    let token_file = token_file(options).display().to_string();
    let mut arguments = [
        ["--data-dir", &data_dir],
        ["--listen", api],
        ["--nbd-listen", nbd],
        ["--initial-token-file", &token_file],
    ]
    .concat();
    if let Some(url) = &options.database_url {
        arguments.extend(["--database-url", url]);
    }
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let (path, lifetime) = (binary("hub-server")?, options.lifetime);
    let mut program =
        Program::start("hub", &path, &arguments, &options.environment, &options.logs, lifetime)?;
    let url = program.said("API listening on ").await?;
    let nbd = program.said("NBD listening on ").await?;
    Ok((program, url, nbd))
}
