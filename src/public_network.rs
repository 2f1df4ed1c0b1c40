//! Tells public addresses from private ones, for connections to addresses that untrusted clients give.
//!
//! The resolver checks the addresses of a name, and the connection uses exactly these addresses. So a name that later
//! resolves to a private address is no danger.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Networks that are not part of the public internet (IANA's special-purpose registries).
const SPECIAL_NETWORKS: [&str; 29] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    // Teredo. Its embedded address is not checked.
    "2001::/32",
    // Reserved for benchmarks, hashes (ORCHID) and documentation.
    "2001:2::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:db8::/32",
    "3fff::/20",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Returns whether an address is part of the public internet. An IPv4 address embedded in IPv6 is checked itself.
pub fn is_public(address: IpAddr) -> bool {
    let inner = match address {
        IpAddr::V6(v6) => {
            let parts = v6.segments();
            let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
            match parts {
                // IPv4-mapped, and the older IPv4-compatible form.
                [0, 0, 0, 0, 0, 0xFFFF | 0, high, low] if high != 0 => v4(high, low),
                // NAT64.
                [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => v4(high, low),
                // 6to4.
                [0x2002, high, low, ..] => v4(high, low),
                _ => address,
            }
        }
        IpAddr::V4(_) => address,
    };
    // Only 2000::/3 is allocated for the internet (RFC 4291, 2.4; IANA's registry of global unicast addresses).
    if let IpAddr::V6(v6) = inner
        && v6.segments()[0] & 0xE000 != 0x2000
    {
        return false;
    }
    let mut networks = SPECIAL_NETWORKS.iter().filter_map(|network| network.parse::<IpNet>().ok());
    !networks.any(|network| network.contains(&inner))
}

/// Returns the IP address if the host of a URL is one, and not a name.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Resolves names, and drops private addresses unless they are allowed.
pub struct PublicResolver {
    pub allow_private: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_in_every_form_are_not_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "3fff::1",
            "2001:20::1",
            "5f00::1",
            "4000::1",
            "64:ff9a::1",
            "1::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn every_special_network_can_be_parsed() {
        assert!(SPECIAL_NETWORKS.iter().all(|network| network.parse::<IpNet>().is_ok()));
    }

    #[tokio::test]
    async fn a_name_with_private_addresses_is_not_resolved() {
        let resolve = |allow_private| PublicResolver { allow_private }.resolve("localhost".parse().unwrap());
        assert!(resolve(false).await.is_err());
        assert!(resolve(true).await.unwrap().all(|address| address.ip().is_loopback()));
    }
}
