//! Resolves the names of web servers, and checks all their IP addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::AddressRules;

/// Looks up names. Passed in, so that tests can change the answers.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    /// Returns the IP addresses of a name.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the system.
pub(super) struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A name has an IP address from which no video may be fetched.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address from which no video may be fetched")]
pub(super) struct NotPermitted;

/// Resolves names for the HTTP client, which connects to exactly the addresses that it gets from here. If one of them
/// is not permitted, it gets none: a name with a public and a private address is most likely an attack.
pub(super) struct CheckedNames {
    pub names: Arc<dyn Names>,
    pub rules: Arc<AddressRules>,
    /// For `http://`, which may lead only into the private networks of the settings.
    pub only_private: bool,
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, rules, only_private) = (self.names.clone(), self.rules.clone(), self.only_private);
        Box::pin(async move {
            let found = names.lookup(name.as_str()).await?;
            let is_permitted =
                |ip: &IpAddr| if only_private { rules.is_permitted_private(*ip) } else { rules.is_permitted(*ip) };
            if !found.iter().all(is_permitted) {
                return Err(NotPermitted.into());
            }
            Ok(Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}
