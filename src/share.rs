//! Share links: addresses of one result that can be read without a key until they expire.
//!
//! A link has the share id of the result, the time at which it expires, and a signature of both. The share id is random
//! and stored with the job. It stands for the token, with which a result without a key can also be erased. Links are
//! not stored, so they cannot be listed. A link is revoked when its result is erased. Removing a secret from
//! `share.secret` revokes all links that it signed.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::{Secret, Settings};
use crate::secret::{InstallationSecret, LinkError};
use crate::store::{Store, StoreError};

/// The purpose that is signed too, so that signatures for other purposes are not valid here.
const PURPOSE: &str = "share link";

/// Makes and checks share links.
pub struct ShareLinks {
    signs: InstallationSecret,
    /// Signed earlier links.
    signed: Vec<InstallationSecret>,
}

impl ShareLinks {
    /// Uses the secrets of the settings, or that of the database if there are none.
    pub async fn new(settings: &Settings, store: &Store) -> Result<Self, StoreError> {
        let own = settings.share.secret.get().parts();
        let hash = |secret: &Secret| InstallationSecret(Sha256::digest(secret.expose().as_bytes()).into());
        match own.split_first() {
            Some((first, others)) => Ok(Self { signs: hash(first), signed: others.iter().map(hash).collect() }),
            None => Ok(Self { signs: store.secret().await?.clone(), signed: Vec::new() }),
        }
    }

    /// Returns the value of the parameter `share` for the result with this share id.
    pub fn sign(&self, id: Uuid, expires_at: Timestamp) -> String {
        let seconds = expires_at.as_second();
        format!("{seconds}.{}", self.signs.sign_link(PURPOSE, &id.to_string(), seconds))
    }

    /// Checks the parameter `share` of a request for the result with this share id.
    pub fn check(&self, id: Uuid, share: &str, now: Timestamp) -> Result<(), LinkError> {
        let (seconds, signature) = share.split_once('.').ok_or(LinkError::Invalid)?;
        let expires: i64 = seconds.parse().map_err(|_| LinkError::Invalid)?;
        let id = id.to_string();
        let check = |secret: &InstallationSecret| secret.check_link(PURPOSE, &id, expires, signature, now);
        let older = self.signed.iter().map(check).find(|found| *found != Err(LinkError::Invalid));
        match check(&self.signs) {
            Err(LinkError::Invalid) => older.unwrap_or(Err(LinkError::Invalid)),
            found => found,
        }
    }
}

/// Returns the time at which a link that is made now expires.
pub fn expiry(settings: &Settings, now: Timestamp) -> Timestamp {
    let lifetime = Duration::from_secs(settings.share.valid_h.saturating_mul(3600));
    now.saturating_add(lifetime).unwrap_or(Timestamp::MAX)
}

/// Returns the address of a result for a reader without a key.
pub fn address(settings: &Settings, id: Uuid, share: &str) -> String {
    format!("{}/results/{id}?share={share}", settings.http.base_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_valid_for_its_result_until_it_expires() {
        let links = |byte| ShareLinks { signs: InstallationSecret([byte; 32]), signed: Vec::new() };
        let (token, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let at = |second| Timestamp::from_second(second).unwrap();
        let share = links(1).sign(token, at(1000));
        assert_eq!(links(1).check(token, &share, at(999)), Ok(()));
        assert_eq!(links(1).check(token, &share, at(1000)), Err(LinkError::Expired));
        assert_eq!(links(1).check(other, &share, at(999)), Err(LinkError::Invalid));
        assert_eq!(links(2).check(token, &share, at(999)), Err(LinkError::Invalid));
        let longer = share.replacen("1000", "2000", 1);
        let cut = &share[..share.len() - 1];
        for altered in [longer.as_str(), cut, &format!("{share}="), "", "1000", "1000.", "x.y"] {
            assert_eq!(links(1).check(token, altered, at(999)), Err(LinkError::Invalid), "{altered}");
        }
        // After a change of secret, earlier links are valid until they expire.
        let changed = ShareLinks { signs: InstallationSecret([2; 32]), signed: vec![InstallationSecret([1; 32])] };
        assert_eq!(changed.check(token, &share, at(999)), Ok(()));
        assert_eq!(changed.check(token, &share, at(1000)), Err(LinkError::Expired));
        assert_eq!(changed.check(other, &share, at(999)), Err(LinkError::Invalid));
        assert_eq!(links(2).check(token, &changed.sign(token, at(1000)), at(999)), Ok(()));
    }
}
