//! Confirmations of mail addresses: a mail about a video that was sent without a key needs the consent of its recipient.
//!
//! The first such mail to an address waits. The address gets a mail with a link instead. The link is signed with the
//! secret of this installation and expires. When the person confirms on the page of the link, the mails that wait are
//! sent, and later ones do not wait. The database holds only a pseudonym of the address.

use jiff::Timestamp;
use serde::Deserialize;

use crate::analysis::Language;
use crate::secret::{InstallationSecret, LinkError};

/// The path of the page.
pub const PATH: &str = "/confirm-mail";
const PURPOSE: &str = "confirm mail";

/// The parameters of the link.
#[derive(Debug, Clone, Deserialize)]
pub struct Confirmation {
    /// Pseudonym of the mail address.
    pub address: String,
    /// Seconds since 1970 (UTC).
    pub expires: i64,
    signature: String,
}

/// Returns the pseudonym under which the consent of a recipient is stored. Upper and lower case are the same.
pub fn pseudonym(secret: &InstallationSecret, recipient: &str) -> String {
    secret.pseudonym("recipient", &recipient.to_lowercase())
}

impl Confirmation {
    /// Makes the confirmation of the recipient with this pseudonym.
    pub fn new(secret: &InstallationSecret, address: String, expires: Timestamp) -> Self {
        let expires = expires.as_second();
        let signature = secret.sign_link(PURPOSE, &address, expires);
        Self { address, expires, signature }
    }

    /// Returns the address of the page.
    pub fn link(&self, base: &str, language: Language) -> String {
        let Self { address, expires, signature } = self;
        let language = language.tag();
        format!("{base}{PATH}?address={address}&expires={expires}&signature={signature}&language={language}")
    }

    /// Checks the signature, then the time.
    pub fn check(&self, secret: &InstallationSecret, now: Timestamp) -> Result<(), LinkError> {
        secret.check_link(PURPOSE, &self.address, self.expires, &self.signature, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unchanged_link_confirms_and_only_until_it_expires() {
        let (secret, other) = (InstallationSecret([1; 32]), InstallationSecret([2; 32]));
        let at = |second| Timestamp::from_second(second).unwrap();
        let ann = pseudonym(&secret, "Ann@example.org");
        assert_eq!(ann, pseudonym(&secret, "ann@EXAMPLE.org"));
        let link = Confirmation::new(&secret, ann, at(1000));
        assert_eq!(link.check(&secret, at(999)), Ok(()));
        assert_eq!(link.check(&secret, at(1000)), Err(LinkError::Expired));
        assert_eq!(link.check(&other, at(999)), Err(LinkError::Invalid));
        let later = Confirmation { expires: 2000, ..link.clone() };
        let bob = Confirmation { address: pseudonym(&secret, "bob@example.org"), ..link.clone() };
        let cut = Confirmation { signature: link.signature[..62].to_owned(), ..link.clone() };
        let wide = Confirmation { signature: "é".repeat(32), ..link };
        for forged in [later, bob, cut, wide] {
            assert_eq!(forged.check(&secret, at(999)), Err(LinkError::Invalid), "{forged:?}");
        }
    }
}
