//! Where the server is, and who logs in.

use std::fmt;

use secrecy::SecretString;
use url::Url;

/// An HTTPS address of a vCenter or ESXi.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: Url,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEndpoint {
    /// It would carry the password in the clear.
    #[error("the endpoint has to be reached over https")]
    NotHttps,
    /// A URL is logged; credentials are not.
    #[error("the endpoint must not hold a user name or a password")]
    Credentials,
    /// Not a host name, an address or a URL.
    #[error("the endpoint is not a host name, an address or an https URL")]
    NoHost,
}

impl Endpoint {
    /// Reads `vc.example.com`, `vc.example.com:8443` or `https://vc.example.com/sdk`.
    pub fn parse(text: &str) -> Result<Self, BadEndpoint> {
        let text = text.trim();
        if text.len() > 512 {
            return Err(BadEndpoint::NoHost);
        }
        let spelled =
            if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let mut base = Url::parse(&spelled).map_err(|_| BadEndpoint::NoHost)?;
        if base.scheme() != "https" {
            return Err(BadEndpoint::NotHttps);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(BadEndpoint::Credentials);
        }
        if base.host_str().is_none_or(str::is_empty) {
            return Err(BadEndpoint::NoHost);
        }
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self { base })
    }

    /// Host name or address.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The port where it is not 443.
    pub fn port(&self) -> Option<u16> {
        self.base.port()
    }

    /// Host, and the port where it is not 443.
    pub fn authority(&self) -> String {
        let host = self.host();
        self.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The address of a path below it.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Endpoint({})", self.authority())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.authority())
    }
}

/// An account; its password never prints.
#[derive(Clone, Debug)]
pub struct Login {
    /// Its name (`backup@vsphere.local`).
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_a_port_or_a_url() {
        for (text, authority) in [
            ("vc.example.com", "vc.example.com"),
            ("vc.example.com:8443", "vc.example.com:8443"),
            (" https://vc.example.com/sdk ", "vc.example.com"),
            ("https://[2001:db8::1]:444", "[2001:db8::1]:444"),
            ("10.0.0.5", "10.0.0.5"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().authority(), authority, "{text}");
        }
    }

    #[test]
    fn an_endpoint_without_tls_or_with_a_secret_is_refused() {
        assert_eq!(Endpoint::parse("http://vc.example.com"), Err(BadEndpoint::NotHttps));
        assert_eq!(Endpoint::parse("https://a:b@vc.example.com"), Err(BadEndpoint::Credentials));
        assert_eq!(Endpoint::parse("root@vc.example.com"), Err(BadEndpoint::Credentials));
        for text in ["", "a b", "https://", "vc.example.com:99999", &"a".repeat(600)] {
            assert_eq!(Endpoint::parse(text), Err(BadEndpoint::NoHost), "{text}");
        }
    }

    #[test]
    fn path_segments_are_escaped() {
        let endpoint = Endpoint::parse("vc").unwrap();
        let url = endpoint.url(&["folder", "a b", "x?y#z%-flat.vmdk"]);
        assert_eq!(url.as_str(), "https://vc/folder/a%20b/x%3Fy%23z%25-flat.vmdk");
    }

    #[test]
    fn a_password_does_not_print() {
        let login = Login { username: "u".to_owned(), password: "hunter2".to_owned().into() };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
