//! Checks mail addresses. An address is accepted if lettre can build an envelope for it that every mail server accepts.
//!
//! - An internationalized domain is converted to A-labels (RFC 5890), as the domain name system uses them.
//! - A local part with non-ASCII characters is refused, since it needs SMTPUTF8 at every server on the way (RFC 6531).
//! - Quoted local parts and addresses with an IP address are refused, since lettre cannot read them back from a header.

use std::net::IpAddr;

use idna::uts46::{DnsLength, Hyphens, Uts46};
use lettre::Address;
use lettre::message::Mailbox;

/// The longest address of SMTP in bytes (RFC 5321, 4.5.3.1.3, without the brackets).
const MAX_ADDRESS: usize = 254;

/// The reason why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    #[error("not a mail address")]
    Malformed,
    #[error("more than {MAX_ADDRESS} bytes")]
    TooLong,
    #[error("characters beyond ASCII before the @")]
    LocalPart,
    #[error("a quoted part before the @")]
    Quoted,
    #[error("a domain that cannot exist")]
    Domain,
    #[error("the address of a host instead of a domain")]
    Host,
}

/// Parses an address, and converts its domain to ASCII.
pub fn sendable(text: &str) -> Result<Address, Unsendable> {
    let (user, domain) = text.trim().rsplit_once('@').ok_or(Unsendable::Malformed)?;
    let host = domain.strip_prefix('[').and_then(|domain| domain.strip_suffix(']'));
    if host.is_some() || domain.parse::<IpAddr>().is_ok() {
        return Err(Unsendable::Host);
    }
    let domain = if domain.is_ascii() {
        domain.to_owned()
    } else {
        let ascii = Uts46::new().to_ascii(
            domain.as_bytes(),
            idna::AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        );
        ascii.map_err(|_| Unsendable::Domain)?.into_owned()
    };
    if user.len() + 1 + domain.len() > MAX_ADDRESS {
        return Err(Unsendable::TooLong);
    }
    let address = Address::new(user, &domain).map_err(|_| Unsendable::Malformed)?;
    if !user.is_ascii() {
        return Err(Unsendable::LocalPart);
    }
    if user.starts_with('"') {
        return Err(Unsendable::Quoted);
    }
    if is_deliverable(&address) { Ok(address) } else { Err(Unsendable::Malformed) }
}

/// Returns whether the envelope of a mail to this address contains it. lettre reads the recipients from the headers,
/// and parses those more strictly than an [`Address`].
fn is_deliverable(address: &Address) -> bool {
    let mailbox = Mailbox::new(None, address.clone());
    let mail = lettre::Message::builder().from(mailbox.clone()).to(mailbox).body(String::new());
    mail.is_ok_and(|mail| mail.envelope().to() == std::slice::from_ref(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_non_ascii_domain_is_converted_to_a_labels() {
        for (given, sent) in [
            ("ann@example.org", "ann@example.org"),
            (" Ann.Lee+x@Mail.Example.ORG ", "Ann.Lee+x@Mail.Example.ORG"),
            ("ann@localhost", "ann@localhost"),
            ("ann@münchen.de", "ann@xn--mnchen-3ya.de"),
            ("ann@MÜNCHEN.de", "ann@xn--mnchen-3ya.de"),
            ("ann@mu\u{308}nchen.de", "ann@xn--mnchen-3ya.de"),
            ("ann@xn--mnchen-3ya.de", "ann@xn--mnchen-3ya.de"),
            ("ann@straße.example", "ann@xn--strae-oqa.example"),
            ("ann@例え。テスト", "ann@xn--r8jz45g.xn--zckzah"),
            ("ann@почта.рф", "ann@xn--80a1acny.xn--p1ai"),
        ] {
            assert_eq!(sendable(given).map(|address| address.to_string()), Ok(sent.to_owned()), "{given}");
        }
    }

    #[test]
    fn addresses_that_servers_refuse_are_refused_with_the_reason() {
        let long_label = format!("ann@{}.org", "ü".repeat(60));
        let long = format!("{}@{}.org", "a".repeat(60), "b.".repeat(100));
        for (given, reason) in [
            ("", Unsendable::Malformed),
            ("ann", Unsendable::Malformed),
            ("ann@", Unsendable::Malformed),
            ("@example.org", Unsendable::Malformed),
            ("ann lee@example.org", Unsendable::Malformed),
            ("Ann <ann@example.org>", Unsendable::Malformed),
            ("ann@example.org, bob@example.org", Unsendable::Malformed),
            ("ann@example.org\r\nBcc: x@y.z", Unsendable::Malformed),
            ("ann@exam ple.org", Unsendable::Malformed),
            ("jürgen@example.org", Unsendable::LocalPart),
            ("用户@例え.テスト", Unsendable::LocalPart),
            ("\"ann lee\"@example.org", Unsendable::Quoted),
            ("\"ann@home\"@example.org", Unsendable::Quoted),
            ("ann@[127.0.0.1]", Unsendable::Host),
            ("ann@[IPv6:::1]", Unsendable::Host),
            ("ann@127.0.0.1", Unsendable::Host),
            ("ann@-münchen.de", Unsendable::Domain),
            ("ann@mün chen.de", Unsendable::Domain),
            ("ann@ü..de", Unsendable::Domain),
            (&long_label, Unsendable::Domain),
            (&long, Unsendable::TooLong),
        ] {
            assert_eq!(sendable(given), Err(reason), "{given}");
        }
    }
}
