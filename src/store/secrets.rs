//! The table `secrets`: the random secret of this installation. [`crate::secret`] uses it.

use super::{Store, StoreError};
use crate::clock::random_secret;
use crate::secret::InstallationSecret;

impl Store {
    /// Returns the secret of this installation, the same in all processes. The first call makes it.
    pub async fn secret(&self) -> Result<&InstallationSecret, StoreError> {
        self.0.secret.get_or_try_init(|| self.read_secret()).await
    }

    async fn read_secret(&self) -> Result<InstallationSecret, StoreError> {
        let corrupt = |reason: String| StoreError::Corrupt { what: "secret", reason };
        let fresh = random_secret().map_err(|error| corrupt(error.to_string()))?;
        let fresh: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
        sqlx::query("INSERT INTO secrets (name, value) VALUES ('installation', $1) ON CONFLICT DO NOTHING")
            .bind(fresh)
            .execute(self.pool())
            .await?;
        let stored: String =
            sqlx::query_scalar("SELECT value FROM secrets WHERE name = 'installation'").fetch_one(self.pool()).await?;
        let byte = |at: usize| stored.get(2 * at..2 * at + 2).and_then(|text| u8::from_str_radix(text, 16).ok());
        let mut secret = [0; 32];
        for (at, place) in secret.iter_mut().enumerate() {
            *place = byte(at).ok_or_else(|| corrupt("it is not 32 bytes in hexadecimal".to_owned()))?;
        }
        Ok(InstallationSecret(secret))
    }
}
