//! Which addresses lie outside of the operator's own network.
//!
//! A name is resolved here, and the connection goes to the very addresses that were looked at: a name that resolves
//! differently the next moment gains nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Not of the public internet (IANA's special-purpose registries).
const INSIDE: [&str; 29] = [
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
    // Teredo, whose inner address is not looked into.
    "2001::/32",
    // For protocols, benchmarks and hashes.
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

/// Whether an address is one of the public internet; one that wraps another (IPv4 in IPv6) is what it wraps.
pub fn is_public(address: IpAddr) -> bool {
    let inner = match address {
        IpAddr::V6(v6) => {
            let parts = v6.segments();
            let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
            match parts {
                // Mapped, and the older compatible form.
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
    // Of IPv6 only this much is given out for the internet (RFC 4291, 2.4; IANA's registry of global unicast addresses).
    if let IpAddr::V6(v6) = inner
        && v6.segments()[0] & 0xE000 != 0x2000
    {
        return false;
    }
    let mut networks = INSIDE.iter().filter_map(|network| network.parse::<IpNet>().ok());
    !networks.any(|network| network.contains(&inner))
}

/// The address that a host of an URL is, if it is no name.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Resolves names to addresses outside alone.
pub struct Outside {
    pub allow_private: bool,
}

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let outside: Vec<SocketAddr> = found.filter(|address| allow_private || is_public(address.ip())).collect();
            if outside.is_empty() {
                return Err("the name leads to no address outside".into());
            }
            Ok(Box::new(outside.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_inside_is_not_public_however_it_is_written() {
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
    fn every_network_of_the_list_is_one() {
        assert!(INSIDE.iter().all(|network| network.parse::<IpNet>().is_ok()));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_resolved() {
        let resolve = |allow_private| Outside { allow_private }.resolve("localhost".parse().unwrap());
        assert!(resolve(false).await.is_err());
        assert!(resolve(true).await.unwrap().all(|address| address.ip().is_loopback()));
    }
}
