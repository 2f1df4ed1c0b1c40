//! Confirmations of mail addresses: a mail about a video that was sent without a key needs the consent of its
//! recipient.
//!
//! The first such mail to an address waits. The address gets a mail with a link instead. The link is signed with the
//! secret of this installation and expires. When the person confirms on the page of the link, the mails that wait are
//! sent, and later ones do not wait. The database holds only a pseudonym of the address.
//!
//! Each of these mails has a second link, by which the person withdraws the consent. Then nothing is sent to the
//! address, not even a question, until the person confirms again on the page of that link.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::analysis::Language;
use crate::config::Settings;
use crate::secret::{InstallationSecret, LinkError};

/// The path of the page on which a recipient confirms.
const CONFIRM_PATH: &str = "/confirm-mail";
const CONFIRM: &str = "confirm mail";
/// The path of the page on which a recipient withdraws the consent.
const WITHDRAW_PATH: &str = "/withdraw-mail";
const WITHDRAW: &str = "withdraw mail";
/// The time at which a link that stays valid expires.
const NEVER: i64 = i64::MAX;

/// The parameters of the link by which a recipient confirms.
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

/// Returns the time at which a confirmation link that was made at `made_at` expires.
pub fn expiry(settings: &Settings, made_at: Timestamp) -> Timestamp {
    let lifetime = Duration::from_secs(settings.mail.confirm_within_h.saturating_mul(3600));
    made_at.saturating_add(lifetime).unwrap_or(Timestamp::MAX)
}

impl Confirmation {
    /// Makes the confirmation of the recipient with this pseudonym.
    pub fn new(secret: &InstallationSecret, address: String, expires: Timestamp) -> Self {
        let expires = expires.as_second();
        let signature = secret.sign_link(CONFIRM, &address, expires);
        Self { address, expires, signature }
    }

    /// Returns the address of the page.
    pub fn link(&self, base: &str, language: Language) -> String {
        let Self { address, expires, signature } = self;
        let language = language.tag();
        format!("{base}{CONFIRM_PATH}?address={address}&expires={expires}&signature={signature}&language={language}")
    }

    /// Checks the signature, then the time.
    pub fn check(&self, secret: &InstallationSecret, now: Timestamp) -> Result<(), LinkError> {
        secret.check_link(CONFIRM, &self.address, self.expires, &self.signature, now)
    }
}

/// The parameters of the link by which a recipient withdraws the consent. It does not expire, because mails are kept.
#[derive(Debug, Clone, Deserialize)]
pub struct Withdrawal {
    /// Pseudonym of the mail address.
    pub address: String,
    signature: String,
}

impl Withdrawal {
    /// Makes the withdrawal of the recipient with this pseudonym.
    pub fn new(secret: &InstallationSecret, address: String) -> Self {
        let signature = secret.sign_link(WITHDRAW, &address, NEVER);
        Self { address, signature }
    }

    /// Returns the address of the page.
    pub fn link(&self, base: &str, language: Language) -> String {
        let Self { address, signature } = self;
        format!("{base}{WITHDRAW_PATH}?address={address}&signature={signature}&language={}", language.tag())
    }

    /// Checks the signature.
    pub fn check(&self, secret: &InstallationSecret) -> Result<(), LinkError> {
        secret.check_link(WITHDRAW, &self.address, NEVER, &self.signature, Timestamp::MIN)
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

    #[test]
    fn a_link_to_withdraw_is_valid_for_its_address_only_and_does_not_confirm() {
        let (secret, other) = (InstallationSecret([1; 32]), InstallationSecret([2; 32]));
        let (ann, bob) = (pseudonym(&secret, "ann@example.org"), pseudonym(&secret, "bob@example.org"));
        let link = Withdrawal::new(&secret, ann.clone());
        assert_eq!(link.check(&secret), Ok(()));
        assert_eq!(link.check(&other), Err(LinkError::Invalid));
        assert_eq!(Withdrawal { address: bob, ..link.clone() }.check(&secret), Err(LinkError::Invalid));
        let confirms = Confirmation { address: ann, expires: NEVER, signature: link.signature };
        assert_eq!(confirms.check(&secret, Timestamp::MIN), Err(LinkError::Invalid));
    }
}
