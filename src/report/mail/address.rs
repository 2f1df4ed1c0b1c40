//! Which addresses a mail can be sent to: those from which lettre builds an envelope that every mail server takes.
//!
//! An internationalized domain becomes its A-labels (RFC 5890), as the domain name system knows it. A local part beyond
//! ASCII needs a server with SMTPUTF8 at each hop (RFC 6531), so it is refused, as are quoted local parts and addresses
//! of hosts, which lettre does not read back from a header.

use std::net::IpAddr;

use idna::uts46::{DnsLength, Hyphens, Uts46};
use lettre::Address;
use lettre::message::Mailbox;

/// The longest address that mail knows (RFC 5321, 4.5.3.1.3, less the brackets).
const MAX_ADDRESS: usize = 254;

/// Why no mail can be sent to an address.
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

/// The address of a text as a mail server takes it.
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

/// Whether a mail to that address gets an envelope to it: lettre takes the recipients of a mail from its headers, which it
/// reads more strictly than an [`Address`].
fn is_deliverable(address: &Address) -> bool {
    let mailbox = Mailbox::new(None, address.clone());
    let mail = lettre::Message::builder().from(mailbox.clone()).to(mailbox).body(String::new());
    mail.is_ok_and(|mail| mail.envelope().to() == std::slice::from_ref(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_beyond_ascii_becomes_its_a_labels() {
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
    fn what_no_server_takes_is_refused_with_its_reason() {
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
