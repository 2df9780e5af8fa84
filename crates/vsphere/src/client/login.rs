//! Logging in, at first and when a session was lost: always at the server that the session was opened with.

use reqwest::header::HeaderValue;
use secrecy::ExposeSecret as _;

use super::{Client, ClientOptions, Session, exchange, pause, read};
use crate::about::ServiceContent;
use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::soap::Request;
use crate::transport::Transport;

impl Client {
    /// Logs in again, unless somebody else has done so since `generation`.
    pub(super) async fn renew(&self, generation: u64) -> Result<(), VsphereError> {
        let _turn = self.renewing.lock().await;
        let Session { generation: now, refused, .. } = self.session.lock().clone();
        if refused {
            return Err(self.refusal());
        }
        if now != generation {
            return Ok(());
        }
        tracing::info!(endpoint = %self.transport.endpoint(), "the session has ended and is renewed");
        // Another server is not shown the password, and has no account to lock.
        self.is_still_there(None).await?;
        self.log_in().await
    }

    /// A live session must not be shown at a login: servers refuse that.
    pub(super) async fn log_in(&self) -> Result<(), VsphereError> {
        let request = Request::once("Login", &self.content.session_manager)
            .text("userName", &self.login.username)
            .text("password", self.login.password.expose_secret());
        let answer = exchange(&self.transport, &request, None, &self.options).await?;
        let cookie = answer.session();
        let done = read(&self.transport, &request, answer, |_| Ok(())).await;
        done.map_err(|error| {
            let refusals = ["InvalidLogin", "PasswordExpired"];
            if error.fault().is_none_or(|it| !refusals.contains(&it.kind.as_str())) {
                return error;
            }
            // Every caller would try the same password again, which locks the account.
            self.session.lock().refused = true;
            self.refusal()
        })?;
        let cookie = cookie.ok_or_else(|| VsphereError::Garbled {
            method: "Login",
            detail: "it opens no session".to_owned(),
        })?;
        // The name may have led elsewhere between the two calls.
        if let Err(error) = self.is_still_there(Some(cookie.clone())).await {
            drop(self.end(cookie).await);
            return Err(error);
        }
        let mut session = self.session.lock();
        session.cookie = Some(cookie);
        session.generation += 1;
        Ok(())
    }

    /// Ends a session.
    pub(super) async fn end(&self, cookie: HeaderValue) -> Result<(), VsphereError> {
        let request = Request::once("Logout", &self.content.session_manager);
        exchange(&self.transport, &request, Some(cookie), &self.options).await.map(drop)
    }

    /// Whether the name of the server leads to the one that it led to at first.
    ///
    /// References mean other things at another one, and may exist there: a copy of a vCenter has them all.
    async fn is_still_there(&self, cookie: Option<HeaderValue>) -> Result<(), VsphereError> {
        let found = content(&self.transport, cookie, &self.options).await?.about.instance_uuid;
        let known = &self.content.about.instance_uuid;
        if found == *known {
            return Ok(());
        }
        let told = |it: &Option<String>| it.clone().unwrap_or_else(|| "none".to_owned());
        let endpoint = self.transport.endpoint().authority();
        Err(VsphereError::OtherServer { endpoint, known: told(known), found: told(&found) })
    }

    fn refusal(&self) -> VsphereError {
        let endpoint = self.transport.endpoint().authority();
        VsphereError::LoginRefused { endpoint, username: self.login.username.clone() }
    }
}

/// What a server says of itself, to everybody who asks.
pub(super) async fn content(
    transport: &Transport,
    cookie: Option<HeaderValue>,
    options: &ClientOptions,
) -> Result<ServiceContent, VsphereError> {
    let instance = MoRef::new("ServiceInstance", "ServiceInstance");
    let request = Request::read("RetrieveServiceContent", &instance);
    let mut attempt = 1;
    loop {
        let asked = exchange(transport, &request, cookie.clone(), options).await;
        let found = match asked {
            Ok(answer) => read(transport, &request, answer, ServiceContent::decode).await,
            Err(error) => Err(error),
        };
        match found {
            Err(error) if error.is_transient() && attempt < options.attempts => {
                pause(options, attempt).await;
                attempt += 1;
            }
            ended => return ended,
        }
    }
}
