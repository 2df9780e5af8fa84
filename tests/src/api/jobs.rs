//! Long work: started with a request, followed by polling its `Location`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Api, Fields as _};

/// How often a job is asked for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long a job may take; generous, because test machines are busy.
const JOB_WITHIN: Duration = Duration::from_secs(900);

impl Api {
    /// Starts a job and answers its path, without waiting for it.
    pub async fn start(&self, path: &str, body: &Value) -> Result<String> {
        let answer = self.post(path, body).await?;
        let (status, location) = (answer.status, answer.location.clone());
        let body = answer.ok()?;
        ensure!(status == 202, "{path} answers {status}, not 202: {body:#}");
        location.with_context(|| format!("{path} names no Location: {body:#}"))
    }

    /// Follows a job until it has ended, whatever its end, and answers its resource.
    pub async fn ended(&self, path: &str, mut progress: impl FnMut(&Value)) -> Result<Value> {
        self.until(path, |job| {
            progress(job);
            Ok(has_ended(&job.text("/status")?))
        })
        .await
    }

    /// Asks for a resource until it is as wished; an error says what it was last.
    pub async fn until(
        &self,
        path: &str,
        mut wish: impl FnMut(&Value) -> Result<bool>,
    ) -> Result<Value> {
        let deadline = Instant::now() + JOB_WITHIN;
        loop {
            let resource = self.get(path).await?.ok()?;
            if wish(&resource)? {
                return Ok(resource);
            }
            ensure!(Instant::now() < deadline, "{path} goes on for too long: {resource:#}");
            sleep(ASK_EVERY).await;
        }
    }

    /// Starts a job, waits for its end, and fails unless it succeeded.
    pub async fn run(&self, path: &str, body: &Value) -> Result<Value> {
        self.run_with(path, body, |_| ()).await
    }

    /// The same, with a look at each answer on the way.
    pub async fn run_with(
        &self,
        path: &str,
        body: &Value,
        progress: impl FnMut(&Value),
    ) -> Result<Value> {
        let location = self.start(path, body).await?;
        let job = self.ended(&location, progress).await?;
        match job.text("/status")?.as_str() {
            "succeeded" => Ok(job),
            status => bail!("{path} of {body} ended as {status}: {job:#}"),
        }
    }

    /// All elements of a list, page by page.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        let mut page = path.to_owned();
        loop {
            let body = self.get(&page).await?.ok()?;
            all.extend(body.list("/items")?);
            match body.get("next") {
                None | Some(Value::Null) => return Ok(all),
                Some(Value::String(next)) => page = format!("{path}{mark}after={next}"),
                Some(next) => page = format!("{path}{mark}after={next}"),
            }
        }
    }
}

/// Whether a status is one of the ends of a job.
fn has_ended(status: &str) -> bool {
    !matches!(status, "queued" | "running" | "cancelling")
}
