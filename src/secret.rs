//! Keyed hashes with the secret of this installation, which the database stores.
//!
//! They sign links. Limits count clients and addresses under a pseudonym, so that the database holds no address of a
//! client. Nobody can compute a pseudonym without the secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The secret of this installation.
#[derive(Clone)]
pub struct InstallationSecret(pub [u8; 32]);

impl InstallationSecret {
    /// Returns the pseudonym of `text`, in hexadecimal. It differs for each purpose.
    pub fn pseudonym(&self, purpose: &str, text: &str) -> String {
        let hash = self.keyed(purpose, text).finalize().into_bytes();
        hex::encode(&hash[..16])
    }

    /// Returns the signature of `text`, in hexadecimal. It differs for each purpose.
    pub fn sign(&self, purpose: &str, text: &str) -> String {
        hex::encode(self.keyed(purpose, text).finalize().into_bytes())
    }

    /// Returns whether this is the signature of `text`. Takes the same time for every wrong signature.
    pub fn verify(&self, purpose: &str, text: &str, signature: &str) -> bool {
        self.sign(purpose, text).as_bytes().ct_eq(signature.as_bytes()).into()
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
