//! Keyed hashes with the secret of this installation, which the database stores.
//!
//! They sign links. Limits count clients and addresses under a pseudonym, so that the database holds no address of a
//! client. Nobody can compute a pseudonym without the secret.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Why a signed link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("the signature is wrong")]
    Invalid,
    #[error("the link has expired")]
    Expired,
}

/// The secret of this installation.
#[derive(Clone)]
pub struct InstallationSecret(pub [u8; 32]);

impl InstallationSecret {
    /// Returns the pseudonym of `text`, in hexadecimal. It differs for each purpose.
    pub fn pseudonym(&self, purpose: &str, text: &str) -> String {
        let hash = self.keyed(purpose, text).finalize().into_bytes();
        hex::encode(&hash[..16])
    }

    /// Signs a link to `subject` that expires at this second since 1970. Returns the signature in hexadecimal. It
    /// differs for each purpose.
    pub fn sign_link(&self, purpose: &str, subject: &str, expires: i64) -> String {
        hex::encode(self.keyed(purpose, &format!("{subject} {expires}")).finalize().into_bytes())
    }

    /// Checks the signature of a link, then the time. Takes the same time for every wrong signature.
    pub fn check_link(
        &self,
        purpose: &str,
        subject: &str,
        expires: i64,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), LinkError> {
        let expected = self.sign_link(purpose, subject, expires);
        if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
            return Err(LinkError::Invalid);
        }
        if now.as_second() < expires { Ok(()) } else { Err(LinkError::Expired) }
    }

    /// The lengths are hashed too, so that no purpose and text are taken for another pair.
    fn keyed(&self, purpose: &str, text: &str) -> Hmac<Sha256> {
        // HMAC fills a short key with zeros up to the block size of its hash (RFC 2104).
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        let mut keyed = <Hmac<Sha256> as KeyInit>::new(&block.into());
        for part in [purpose, text] {
            keyed.update(&(part.len() as u64).to_be_bytes());
            keyed.update(part.as_bytes());
        }
        keyed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_depend_on_secret_purpose_and_text() {
        let (one, other) = (InstallationSecret([1; 32]), InstallationSecret([2; 32]));
        let all = [
            one.pseudonym("client", "192.0.2.1"),
            one.pseudonym("client", "192.0.2.2"),
            one.pseudonym("clien", "t192.0.2.1"),
            other.pseudonym("client", "192.0.2.1"),
        ];
        assert_eq!(all[0], one.pseudonym("client", "192.0.2.1"));
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!((distinct.len(), all[0].len()), (4, 32));
    }
}
