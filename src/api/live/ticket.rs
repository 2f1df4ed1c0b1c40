//! Tickets: a browser cannot send a key in the handshake of a WebSocket, and an address with a key would be in its
//! history and in logs. So a client exchanges its key for a ticket, and offers that as a protocol
//! (`Sec-WebSocket-Protocol: visage.live, ticket.…`).
//!
//! A ticket has the id of the key, the time at which it expires, and a signature of both. It is not stored.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;

use crate::secret::{InstallationSecret, LinkError};

/// What a ticket begins with in `Sec-WebSocket-Protocol`.
pub const PREFIX: &str = "ticket.";
/// The purpose that is signed too, so that signatures for other purposes are not valid here.
const PURPOSE: &str = "live ticket";

/// Makes a ticket for the key with this id. Returns it with the time at which it expires.
pub fn issue(secret: &InstallationSecret, key_id: &str, now: Timestamp, valid: Duration) -> (String, Timestamp) {
    let expires_at = now.saturating_add(valid).unwrap_or(Timestamp::MAX);
    let seconds = expires_at.as_second();
    (format!("{key_id}.{seconds}.{}", secret.sign_link(PURPOSE, key_id, seconds)), expires_at)
}

/// Checks a ticket, and returns the id of its key.
pub fn check<'a>(secret: &InstallationSecret, ticket: &'a str, now: Timestamp) -> Result<&'a str, LinkError> {
    let mut parts = ticket.splitn(3, '.');
    let (Some(key_id), Some(seconds), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(LinkError::Invalid);
    };
    let expires: i64 = seconds.parse().map_err(|_| LinkError::Invalid)?;
    secret.check_link(PURPOSE, key_id, expires, signature, now)?;
    Ok(key_id)
}

/// The ticket that a handshake offers.
pub fn offered(headers: &HeaderMap) -> Option<&str> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).find_map(|offer| offer.trim().strip_prefix(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_valid_for_its_key_until_it_expires() {
        let (secret, other) = (InstallationSecret([1; 32]), InstallationSecret([2; 32]));
        let at = |second| Timestamp::from_second(second).unwrap();
        let (ticket, expires_at) = issue(&secret, "0123456789ab", at(100), Duration::from_secs(60));
        assert_eq!(expires_at, at(160));
        assert_eq!(check(&secret, &ticket, at(159)), Ok("0123456789ab"));
        assert_eq!(check(&secret, &ticket, at(160)), Err(LinkError::Expired));
        assert_eq!(check(&other, &ticket, at(159)), Err(LinkError::Invalid));
        let longer = ticket.replacen("160", "999", 1);
        let of_another_key = ticket.replacen("ab.", "ac.", 1);
        for altered in [&longer, &of_another_key, &ticket[..ticket.len() - 1], "", "a.b", "a.b.c"] {
            assert_eq!(check(&secret, altered, at(101)), Err(LinkError::Invalid), "{altered}");
        }
    }

    #[test]
    fn a_ticket_is_read_from_the_offered_protocols() {
        let of = |offers: &[&str]| {
            let headers = offers.iter().map(|offer| (header::SEC_WEBSOCKET_PROTOCOL, offer.parse().unwrap()));
            offered(&headers.collect::<HeaderMap>()).map(str::to_owned)
        };
        assert_eq!(of(&["visage.live, ticket.a.1.f"]).as_deref(), Some("a.1.f"));
        assert_eq!(of(&["visage.live", "ticket.a.1.f"]).as_deref(), Some("a.1.f"));
        assert_eq!(of(&["visage.live"]), None);
        assert_eq!(of(&[]), None);
    }
}
