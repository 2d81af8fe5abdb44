use std::fmt;
use std::net::IpAddr;

use url::{Host as UrlHost, Url};

use crate::{Error, Rules};

const LONGEST: usize = 2_048;

/// Where an action's webhooks go: an absolute https address without user, password and fragment.
/// It is read anew for every delivery, since the rules may have changed since it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// The host of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// To be resolved.
    Name(String),
    /// An address, however it was written.
    Address(IpAddr),
}

impl Endpoint {
    /// Reads an address and holds it against the rules, as far as they need no resolution.
    ///
    /// # Errors
    /// [`Error::Endpoint`] or [`Error::Refused`].
    pub fn parse(text: &str, rules: &Rules) -> Result<Self, Error> {
        let shown = |url: Option<&Url>| {
            let mut url = url.cloned();
            if let Some(url) = &mut url {
                // An address that can't have them has none to hide.
                let _ = url.set_username("");
                let _ = url.set_password(None);
            }
            url.map_or_else(|| text.to_owned(), |url| url.to_string()).chars().take(200).collect::<String>()
        };
        let wrong = |url: Option<&Url>, reason: &str| Error::Endpoint { url: shown(url), reason: reason.to_owned() };
        if text.len() > LONGEST {
            return Err(wrong(None, "it is longer than 2,048 bytes"));
        }
        // The parser drops these silently; who writes them means something else.
        if text.contains(|letter: char| letter.is_control() || letter.is_whitespace() || letter == '\\') {
            return Err(wrong(None, "it has spaces, control characters or backslashes"));
        }
        let url = Url::parse(text).map_err(|error| wrong(None, &error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(Some(&url), "it has a user or password; receivers check the signature instead"));
        }
        if url.fragment().is_some() {
            return Err(wrong(Some(&url), "it has a fragment, which no server sees"));
        }
        let endpoint = Self(url);
        endpoint.check(rules)?;
        Ok(endpoint)
    }

    fn check(&self, rules: &Rules) -> Result<(), Error> {
        let wrong = |reason: String| Error::Endpoint { url: self.to_string(), reason };
        match self.0.scheme() {
            "https" => {}
            "http" if rules.loopback_http() => {}
            other => return Err(wrong(format!("`{other}` is not `https`"))),
        }
        let Some(host) = self.host() else { return Err(wrong("it names no host".to_owned())) };
        let port = self.port();
        if !rules.allow_port(port) {
            return Err(wrong(format!("port {port} is not among `ports` under `[actions]` of mill.toml")));
        }
        match host {
            Host::Address(address) => self.check_addresses(rules, &[address]),
            Host::Name(_) => Ok(()),
        }
    }

    /// Holds all addresses of the host against the rules: one that is refused refuses them all.
    ///
    /// # Errors
    /// [`Error::Endpoint`] where there is none, or plain http would leave the machine;
    /// [`Error::Refused`].
    pub fn check_addresses(&self, rules: &Rules, addresses: &[IpAddr]) -> Result<(), Error> {
        let wrong = |reason: &str| Error::Endpoint { url: self.to_string(), reason: reason.to_owned() };
        if addresses.is_empty() {
            return Err(wrong("its host has no address"));
        }
        for address in addresses {
            if let Some(reason) = rules.refusal(*address) {
                let host = self.0.host_str().unwrap_or_default().to_owned();
                return Err(Error::Refused { host, address: *address, reason });
            }
            if self.0.scheme() != "https" && !address.is_loopback() {
                return Err(wrong("plain http is for loopback only"));
            }
        }
        Ok(())
    }

    /// The host.
    pub fn host(&self) -> Option<Host> {
        Some(match self.0.host()? {
            UrlHost::Domain(name) => Host::Name(name.to_owned()),
            UrlHost::Ipv4(address) => Host::Address(address.into()),
            UrlHost::Ipv6(address) => Host::Address(address.into()),
        })
    }

    /// The port, the scheme's own where none is written.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// The address.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Rules {
        Rules::new(&["127.0.0.0/8".to_owned(), "10.0.0.0/8".to_owned()], &["1-65535".to_owned()], true).unwrap()
    }

    #[test]
    fn only_https_to_public_hosts_is_taken() {
        let rules = Rules::default();
        for good in
            ["https://hooks.example/a?b=c", "https://hooks.example:8443", "https://1.1.1.1/", "https://[2606:4700::1]/"]
        {
            assert!(Endpoint::parse(good, &rules).is_ok(), "{good}");
        }
        for bad in [
            "http://hooks.example/",
            "ftp://hooks.example/",
            "file:///etc/passwd",
            "gopher://hooks.example/",
            "hooks.example",
            "https://",
            "https://hooks.example:22/",
            "https://hooks.example:80/",
            "https://u@hooks.example/",
            "https://u:secret@hooks.example/",
            "https://hooks.example/#x",
            "https://hooks.example/\r\nHost: evil",
            "https://hooks.example/ x",
            "https://hooks.example\\@evil.example/",
            &format!("https://hooks.example/{}", "a".repeat(2_048)),
        ] {
            let error = Endpoint::parse(bad, &rules).unwrap_err();
            assert!(matches!(error, Error::Endpoint { .. }), "{bad}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn every_spelling_of_a_refused_address_is_refused() {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "0x7f.1",
            "%31%32%37.0.0.1",
            "127.0.0.1.",
            "１２７.0.0.1",
            "[::1]",
            "[::ffff:7f00:1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[fd00:ec2::254]",
            "169.254.169.254",
            "0",
        ] {
            let found = Endpoint::parse(&format!("https://{host}/"), &Rules::default());
            assert!(matches!(found, Err(Error::Refused { .. })), "{host}: {found:?}");
        }
    }

    #[test]
    fn one_refused_address_among_good_ones_refuses_the_host() {
        let endpoint = Endpoint::parse("https://hooks.example/", &Rules::default()).unwrap();
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert!(endpoint.check_addresses(&Rules::default(), &addresses(&["1.1.1.1", "2606:4700::1"])).is_ok());
        let mixed = endpoint.check_addresses(&Rules::default(), &addresses(&["1.1.1.1", "10.0.0.1"]));
        assert!(matches!(mixed, Err(Error::Refused { .. })), "{mixed:?}");
        assert!(matches!(endpoint.check_addresses(&Rules::default(), &[]), Err(Error::Endpoint { .. })));
    }

    #[test]
    fn plain_http_stays_on_loopback_whatever_is_allowed() {
        let rules = local();
        assert!(Endpoint::parse("http://127.0.0.1:9/", &rules).is_ok());
        let beyond = Endpoint::parse("http://10.0.0.1:9/", &rules);
        assert!(matches!(beyond, Err(Error::Endpoint { .. })), "{beyond:?}");
        let named = Endpoint::parse("http://hooks.example:9/", &rules).unwrap();
        assert!(named.check_addresses(&rules, &["127.0.0.1".parse().unwrap()]).is_ok());
        assert!(named.check_addresses(&rules, &["1.1.1.1".parse().unwrap()]).is_err());
        assert!(Endpoint::parse(&named.to_string(), &Rules::default()).is_err());
    }
}
